"""Numbers and names as things that stand at a place of the context, and how alike two such places are.

A wrong number or name that the context has elsewhere shows by its surroundings: those of *another* one are more alike.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Sequence

REACH = 12  # words on either side that say what something is about
_FADE = 4.0
_FAR = 8.0
_RUN = 6  # equal words in a row on one side are counted up to here
_RUN_COUNTS, _SENTENCE_COUNTS = 0.15, 0.2


class Surroundings:
    """The places of some things in the context, and what stands round them; all arrays are parallel.

    Args:
        numpy: the module.
        ids: the number of each word's stem in the context, with :data:`REACH` more on either side, for no word.
        columns: each word's column in :attr:`Nearness.each`, with as many more.
        places: for each thing the index of its core, of the word before it and of the word after it.
        firsts: the first word of each sentence.
    """

    def __init__(
        self, numpy: Any, ids: Any, columns: Any, places: Sequence[tuple[int, int, int]], firsts: list[int]
    ) -> None:
        np = self._np = numpy
        core, before, after = np.array(places, dtype=np.int64).reshape(-1, 3).T
        self._windows = columns.take(core + np.arange(2 * REACH + 1)[:, None])
        self._fade = (1.0 / (1.0 + np.maximum(0, np.arange(REACH + 1) - 2) / _FAR)).astype(np.float32)
        steps = np.arange(_RUN)[:, None]
        self._before, self._after = ids.take(before + REACH - steps), ids.take(after + REACH + steps)
        self.sentences = np.searchsorted(firsts, core, side="right") - 1

    def __len__(self) -> int:
        return len(self.sentences)

    def near(self, each: Any) -> Any:
        """Return how near each word of the answer comes to a word round each of the things; less the further away.

        Args:
            each: :attr:`Nearness.each`.
        """
        np = self._np
        best = each.take(self._windows[REACH], axis=0)
        for away in range(1, REACH + 1):  # two places at a time keeps the memory small
            both = each.take(self._windows[REACH - away], axis=0)
            np.maximum(both, each.take(self._windows[REACH + away], axis=0), out=both)
            both *= self._fade[away]
            np.maximum(best, both, out=best)
        return best.T

    def alike(self, ids: Any, places: Sequence[Place], near: Any, covered: Any) -> Alike:
        """Compare places of the answer with each of these.

        Args:
            ids: the number of each word's stem in the answer, as the context numbers them.
            places: those of the answer.
            near: how near the words round each of them come to the words round each of these.
            covered: how much of its claim each sentence of the context covers, for each of them.
        """
        np = self._np
        first, before, after, last = np.array([place.bounds for place in places], dtype=np.int64)[:, :, None].swapaxes(
            0, 1
        )
        steps = np.arange(_RUN)
        before, after = before - steps, after + steps
        left = self._runs(np.where(before >= first, ids.take(before, mode="clip"), -3), self._before)
        right = self._runs(np.where(after < last, ids.take(after, mode="clip"), -3), self._after)
        return Alike(np, near, left, right, covered.take(self.sentences, axis=1))

    def _runs(self, here: Any, there: Any) -> Any:
        """How many words in a row are the same, from the first on."""
        same = here[:, :1] == there[0]
        runs = same.astype(self._np.int64)
        for step in range(1, _RUN):
            same &= here[:, step : step + 1] == there[step]
            runs += same
        return runs


class Place(NamedTuple):
    """Where a number or name of the answer stands.

    Attributes:
        around: the telling words round it, as rows of :class:`Nearness`, with their weight.
        bounds: the first word of its claim, the word before it, the word after it, and the word after its claim.
    """

    around: dict[int, float]
    bounds: tuple[int, int, int, int]


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
        self._near, self._left, self._right, self._sentence = near, left, right, sentence
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
        some = np.logical_or.reduce(chosen, axis=1)
        top = np.where(chosen, self._rank, -np.inf).argmax(axis=1)
        flat = top + np.arange(0, chosen.size, chosen.shape[1])  # a flat array is looked up sooner than a table
        figures = {
            "near": self._near.take(flat) * some,
            "run": np.maximum.reduce(self._run * chosen, axis=1),
            "left": (self._left.take(flat) > 0) & some,
            "right": (self._right.take(flat) > 0) & some,
            "sentence": np.maximum.reduce(self._sentence * chosen, axis=1),
        }
        return [one if found else None for one, found in zip(top.tolist(), some.tolist(), strict=True)], figures


def around(told: Iterable[tuple[int, int, float]], core: int, left_out: Container[int]) -> dict[int, float]:
    """Return the telling words round a word in its claim, by row, with their weight: less the further away.

    Args:
        told: the claim's telling words: index, row and weight.
        core: the word.
        left_out: words that do not count, by index.
    """
    found: dict[int, float] = {}
    for index, row, weight in told:
        away = abs(index - core)
        if 0 < away <= REACH and index not in left_out:
            faded = weight / (1.0 + away / _FADE)
            if faded > found.get(row, 0.0):
                found[row] = faded
    return found
