"""Numbers and names as things that stand at a place of the context, and how alike two such places are.

A wrong number or name that the context has elsewhere shows by its surroundings: those of *another* one are more alike.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Container, Sequence

    from traceai_vllm.evals.grounding.words import Words

REACH = 12  # words on either side that say what something is about
_FADE = 4.0
_FAR = 8.0
_RUN = 6  # equal words in a row on one side are counted up to here
_AT_ONCE = 64
_RUN_COUNTS, _SENTENCE_COUNTS = 0.15, 0.2


class Surroundings:
    """The places of some things in the context, and what stands round them; all arrays are parallel.

    Args:
        numpy: the module.
        ids: the number of each word's stem in the context.
        columns: each word's column in :attr:`Nearness.each`; one more at the end, for no word at all.
        places: for each thing the index of its core, of the word before it and of the word after it.
        firsts: the first word of each sentence.
    """

    def __init__(
        self, numpy: Any, ids: Any, columns: Any, places: Sequence[tuple[int, int, int]], firsts: list[int]
    ) -> None:
        np = self._np = numpy
        core, before, after = np.array(places, dtype=np.int64).reshape(-1, 3).T
        offsets = np.arange(-REACH, REACH + 1)
        around = core[:, None] + offsets
        around[(around < 0) | (around >= len(ids))] = len(ids)
        self._windows = columns[around]
        self._fade = (1.0 / (1.0 + np.maximum(0, np.abs(offsets) - 2) / _FAR)).astype(np.float32)
        padded = np.full(len(ids) + 2 * _RUN, -1, dtype=np.int64)
        padded[_RUN:-_RUN] = ids
        steps = np.arange(_RUN)
        self._before, self._after = padded[before[:, None] + _RUN - steps], padded[after[:, None] + _RUN + steps]
        self.sentences = np.searchsorted(firsts, core, side="right") - 1

    def __len__(self) -> int:
        return len(self._windows)

    def near(self, each: Any) -> Any:
        """Return how near each row's word comes to a word round each of the things; less the further away."""
        np = self._np
        by_word = np.ascontiguousarray(each.T)  # rows are taken faster than columns
        best = np.zeros((len(self._windows), len(each)), dtype=np.float32)
        for place, fade in enumerate(self._fade):  # one place at a time keeps the memory small
            np.maximum(best, by_word.take(self._windows[:, place], axis=0) * fade, out=best)
        return best.T

    def alike(self, places: Sequence[Place], near: Any, covered: Any) -> Alike:
        """Compare places of the answer with each of these.

        Args:
            places: those of the answer.
            near: how near the words round each of them come to the words round each of these.
            covered: how much of its claim each sentence of the context covers, for each of them.
        """
        np = self._np
        left, right = (np.zeros((len(places), len(self)), dtype=np.int64) for _ in range(2))
        for start in range(0, len(places), _AT_ONCE):
            some = slice(start, start + _AT_ONCE)
            left[some] = self._runs([place.before for place in places[some]], self._before)
            right[some] = self._runs([place.after for place in places[some]], self._after)
        return Alike(np, near, left, right, covered[:, self.sentences])

    def _runs(self, words: list[list[int]], there: Any) -> Any:
        """How many words in a row are the same, from the first on."""
        np = self._np
        here = np.array([[*each[:_RUN], *[-3] * (_RUN - len(each))] for each in words], dtype=np.int64)
        return np.logical_and.accumulate(here[:, None] == there, axis=2).sum(axis=2)


class Place(NamedTuple):
    """Where a number or name of the answer stands.

    Attributes:
        around: the telling stems round it, with their weight.
        before: the words before it in its claim, nearest first, as numbers of their stems.
        after: the words after it.
    """

    around: dict[str, float]
    before: list[int]
    after: list[int]


class Alike:
    """How alike places of the answer (rows) and of the context (columns) are.

    Args:
        numpy: the module.
        near: how near the words around come.
        left: equal words in a row before.
        right: the same after.
        sentence: how much of the claim the sentence there covers.
    """

    def __init__(self, numpy: Any, near: Any, left: Any, right: Any, sentence: Any) -> None:
        self._np = numpy
        self._near, self._left, self._right, self._sentence = near, left > 0, right > 0, sentence
        self._run = left + right
        self._rank = near + _RUN_COUNTS * self._run + _SENTENCE_COUNTS * sentence

    def best(self, chosen: Any) -> tuple[list[int | None], dict[str, Any]]:
        """Return for each row which of the chosen is most alike, and its figures: run and sentence are the best of any.

        Args:
            chosen: a mask.
        """
        np = self._np
        if not chosen.shape[1]:
            none = np.zeros(len(chosen))
            return [None] * len(chosen), dict.fromkeys(("near", "run", "left", "right", "sentence"), none)
        some, rows = chosen.any(axis=1), np.arange(len(chosen))
        top = np.where(chosen, self._rank, -np.inf).argmax(axis=1)
        figures = {
            "near": self._near[rows, top] * some,
            "run": (self._run * chosen).max(axis=1),
            "left": self._left[rows, top] & some,
            "right": self._right[rows, top] & some,
            "sentence": (self._sentence * chosen).max(axis=1),
        }
        return [int(one) if found else None for one, found in zip(top, some, strict=True)], figures


def around(words: Words, claim: tuple[int, int], core: int, left_out: Container[int]) -> dict[str, float]:
    """Return the telling stems round a word in its claim, with their weight: less the further away.

    Args:
        words: the answer's words.
        claim: the range of the claim's words.
        core: the word.
        left_out: words that do not count, by index.
    """
    found: dict[str, float] = {}
    for index in range(max(claim[0], core - REACH), min(claim[1], core + REACH + 1)):
        weight = words.weights[index]
        if weight and index != core and index not in left_out:
            weight /= 1.0 + abs(index - core) / _FADE
            stem = words.stems[index]
            if weight > found.get(stem, 0.0):
                found[stem] = weight
    return found
