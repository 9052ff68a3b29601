"""Is each name of a claim the one of which the context says this? A name swapped for another of the same context."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from traceai_vllm.evals.grounding.words import TITLES

if TYPE_CHECKING:
    from collections.abc import Container, Sequence

    from traceai_vllm.evals.grounding.anchors import Alike
    from traceai_vllm.evals.grounding.words import Words

_FAR = 8.0  # sentences between a name and where the claim is said: counted up to here
_JOINS = frozenset(" -.'\u2019")

#: Each feature, and how it may move the probability of a wrong name: 1 up, -1 down, 0 either.
NAME_FEATURES = {
    "absent": 1,
    "partly": -1,
    "same_near": -1,
    "other_near": 1,
    "lead": -1,
    "same_run": -1,
    "other_run": 1,
    "run_lead": -1,
    "same_sentence": -1,
    "other_sentence": 1,
    "sentence_lead": -1,
    "away": 1,
    "occurrences": -1,
    "others": 0,
    "words": 0,
    "first": 0,
    "asked": 0,
}


class Name(NamedTuple):
    """A name in a text: words ``[first, last]``."""

    first: int
    last: int


def names(words: Words, known: Container[str] = ()) -> list[Name]:
    """Return the names of a text: words in a row that are written like names.

    Args:
        words: the text's words.
        known: stems that are names wherever they have a capital, at the start of a sentence too.
    """
    found: list[Name] = []
    for index in words.named_like():
        if words.lower[index] in TITLES or (words.stems[index] not in known and not words.named(index)):
            continue
        if found and found[-1].last == index - 1 and _joined(words, index):
            found[-1] = Name(found[-1].first, index)
        else:
            found.append(Name(index, index))
    return found


def _joined(words: Words, index: int) -> bool:
    return len(words.gaps[index]) <= 2 and _JOINS.issuperset(words.gaps[index])


def name_features(
    numpy: Any,
    names: Sequence[Name],
    *,
    same: Any,
    others: Any,
    alike: Alike,
    partly: Any,
    away: Any,
    first: Any,
    asked: Any,
) -> tuple[list[list[float]], list[int | None]]:
    """Return the features of some names, and which name of the context each may have been swapped for.

    Args:
        numpy: the module.
        names: the names.
        same: a mask of the names of the context that share a word with each.
        others: a mask of those that share none with it or with another name of its claim.
        alike: how alike the places are.
        partly: the greatest share of its words that one of the same has.
        away: how many sentences lie between one of the same and where the rest of the claim is said.
        first: whether its claim begins with it.
        asked: whether the question has it.
    """
    _, ours = alike.best(same)
    rivals, theirs = alike.best(others)
    occurrences = same.sum(axis=1)
    columns = [
        occurrences == 0,
        partly,
        ours["near"],
        theirs["near"],
        ours["near"] - theirs["near"],
        ours["run"],
        theirs["run"],
        ours["run"] - theirs["run"],
        ours["sentence"],
        theirs["sentence"],
        ours["sentence"] - theirs["sentence"],
        [min(each, _FAR) for each in away],
        occurrences.clip(max=8),
        others.sum(axis=1).clip(max=40),
        [min(name.last - name.first + 1, 4) for name in names],
        first,
        asked,
    ]
    rows: list[list[float]] = numpy.array(columns, dtype=numpy.float64).T.tolist()
    return rows, rivals
