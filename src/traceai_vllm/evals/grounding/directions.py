"""Does the claim turn round what the context says: rose for fell, at least for at most, from 5 to 3 for from 3 to 5?

Such words are few, stand everywhere, and carry no weight of their own. So one of them counts only where the words on
either side of it stand round its opposite in the context as well, and where both deny something or neither does.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any, NamedTuple

from traceai_vllm.evals.grounding.polarity import denies

if TYPE_CHECKING:
    from collections.abc import Sequence

    from traceai_vllm.evals.grounding.evidence import Evidence
    from traceai_vllm.evals.grounding.quantities import Quantity
    from traceai_vllm.evals.grounding.words import Words

_OPPOSITES = (
    (
        "rise rises rose risen rising increase increases increased increasing grow grows grew grown growing climb "
        "climbs climbed raise raises raised raising higher",
        "fall falls fell fallen falling decrease decreases decreased decreasing decline declines declined declining "
        "drop drops dropped shrink shrinks shrank shrunk reduce reduces reduced reducing lower lowered lowers",
    ),
    ("more over above exceeding", "less fewer under below"),
    ("least minimum", "most maximum"),
    ("before", "after"),
    ("earlier", "later"),
)
_POLES = {
    word: (group, pole)
    for group, poles in enumerate(_OPPOSITES)
    for pole, words in enumerate(poles)
    for word in words.split()
}
_THAN = frozenset({"more", "less", "fewer"})  # these say something of a number only with `than`
_OF_NUMBERS = frozenset({"over", "above", "under", "below"})
_AT = frozenset({"least", "most"})
_SWAPS = _POLES["before"][0]  # `A before B` is `B after A`
_REACH = 3  # telling words on either side
_LOOK = 2 * _REACH  # how many the context may have there
_FAR = 12  # words on either side
_SENTENCES = 3
_ALIKE = 0.75  # of the claim's words, and of those round the word
_FEWEST = 2


class Direction(NamedTuple):
    """A word that says in which direction something goes.

    Attributes:
        place: the word, by index.
        group: which pair of opposites it is of.
        pole: which of the two.
    """

    place: int
    group: int
    pole: int


def directions(words: Words, first: int, last: int) -> list[Direction]:
    """Return the words of direction in a range of words."""
    lower = words.lower
    if _POLES.keys().isdisjoint(lower[first:last]):
        return []
    return [
        Direction(index, *_POLES[word])
        for index, word in enumerate(lower[first:last], first)
        if word in _POLES and _says(lower, index)
    ]


def _says(lower: Sequence[str], index: int) -> bool:
    word, after = lower[index], lower[index + 1] if index + 1 < len(lower) else ""
    if word in _THAN:
        return after == "than"
    if word in _AT:
        return index > 0 and lower[index - 1] == "at"
    return word not in _OF_NUMBERS or not after.isalpha()


def turned(words: Words, claim: tuple[int, int], evidence: Evidence, covered: Any) -> int | None:
    """Return the word of a claim of which the context says the opposite, in otherwise the same words; None for none.

    Args:
        words: the answer's words.
        claim: the range of the claim's words.
        evidence: the context.
        covered: how much of the claim each sentence of the context covers.
    """
    found = directions(words, *claim)
    if not found or not len(covered):
        return None
    denying = denies(words, *claim)
    there = evidence.words
    nearest = [place for place in covered.argsort()[::-1][:_SENTENCES].tolist() if covered[place] >= _ALIKE]
    ranges = [evidence.sentence(place) for place in nearest]
    known = [(each, first, last) for first, last in ranges for each in directions(there, first, last)]
    for here in found if known else ():
        ours = _sides(words, here.place, *claim, _REACH)
        same = opposite = 0.0
        for each, first, last in known:
            if each.group != here.group:
                continue
            theirs = _sides(there, each.place, first, last, _LOOK)
            alike = _alike(ours, theirs)
            crossed = _alike(ours, theirs[::-1]) if here.group == _SWAPS else 0.0
            if each.pole != here.pole:
                alike, crossed = crossed, alike
            same, opposite = max(same, alike), max(opposite, crossed if denies(there, first, last) == denying else 0.0)
        if opposite >= _ALIKE and opposite > same:
            return here.place
    return None


def _sides(words: Words, index: int, first: int, last: int, reach: int) -> tuple[list[str], list[str]]:
    """The nearest telling words before and after a word."""
    first, last = max(first, index - _FAR), min(last, index + 1 + _FAR)
    before = list(itertools.compress(words.stems[first:index], words.weights[first:index]))
    after = list(itertools.compress(words.stems[index + 1 : last], words.weights[index + 1 : last]))
    return before[-reach:], after[:reach]


def _alike(ours: tuple[list[str], list[str]], theirs: tuple[list[str], list[str]]) -> float:
    """The share of our words that stand on the same side there; 0 where a side has none, or they are too few."""
    found = [sum(word in there for word in here) for here, there in zip(ours, theirs, strict=True)]
    total = len(ours[0]) + len(ours[1])
    if total < _FEWEST or any(here and not common for here, common in zip(ours, found, strict=True)):
        return 0.0
    return sum(found) / total


def steps(words: Words, quantities: Sequence[Quantity]) -> list[tuple[Quantity, Quantity]]:
    """Return the numbers that go from one to another, as in `from 3 to 5 percent`."""
    lower = words.lower
    return [
        (one, other)
        for one, other in itertools.pairwise(quantities)
        if one.first and lower[one.first - 1] == "from" and other.first == one.last + 2 and lower[one.last + 1] == "to"
    ]


def back(words: Words, quantities: Sequence[Quantity], evidence: Evidence) -> list[tuple[Quantity, Quantity]]:
    """Return the steps from number to number that the context takes in the other direction, and not in this.

    Args:
        words: the answer's words.
        quantities: a claim's numbers.
        evidence: the context.
    """
    known = {(one.value, other.value) for one, other in evidence.steps}
    return [
        (one, other)
        for one, other in steps(words, quantities)
        if (other.value, one.value) in known and (one.value, other.value) not in known
    ]
