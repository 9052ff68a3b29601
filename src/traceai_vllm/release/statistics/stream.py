"""Differences in order of arrival, and when they are looked at."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

_STEPS = 4096  # more different values than this are rounded down to as many steps; even: "no difference" stays exact
_LOOKS = 4096
_CHUNK = 1024  # looks that are worked on at a time, so that memory stays small
_MOST_COUNTS = 4_000_000


@dataclass(frozen=True)
class Stream:
    """Differences in [-1, 1], one for each cluster.

    Looks are taken after each of up to 4,096 differences, and that many, evenly, among more: fewer looks find less
    and are as valid.

    Attributes:
        levels: the different values, shape (k,); never above the true ones.
        totals: how often each came, shape (k,).
        looks: how many differences had come at each look, shape (looks,).
        index: the level of each difference in order of arrival, shape (n,); None when they came as counts.
        counts: of each level since the look before, shape (looks, k); None when they came one by one.
    """

    levels: Floats
    totals: Floats
    looks: NDArray[np.intp]
    index: NDArray[np.intp] | None = None
    counts: Floats | None = None

    @property
    def mean(self) -> float:
        """The mean difference; NaN without any."""
        return float(self.levels @ self.totals / self.totals.sum()) if self.totals.any() else float("nan")

    @property
    def square(self) -> float:
        """The sum of the squared differences."""
        return float(self.levels**2 @ self.totals)

    @property
    def signs_only(self) -> bool:
        """Whether every difference is -1, 0 or 1."""
        return bool(np.isin(self.levels[self.totals > 0], (-1.0, 0.0, 1.0)).all())

    def sums(self, table: Floats) -> Floats:
        """Return the running sums, at each look, of a function given at each level.

        Args:
            table: the function's values, shape (k, m).

        Returns:
            Shape (looks, m).
        """
        if self.counts is not None:
            return np.cumsum(self.counts @ table, axis=0)
        index, every = self._index, int(self.looks[0]) if len(self.looks) else 1
        steps = np.empty((len(self.looks), table.shape[1]))
        for first in range(0, len(steps), _CHUNK):
            part = table[index[first * every : (first + _CHUNK) * every]]
            steps[first : first + _CHUNK] = np.add.reduceat(part, np.arange(0, len(part), every)) if every > 1 else part
        return np.cumsum(steps, axis=0)

    @property
    def _index(self) -> NDArray[np.intp]:
        assert self.index is not None
        return self.index


def both_streams(differences: Floats) -> tuple[Stream, Stream]:
    """Return the stream of differences in [-1, 1] that stand in order of arrival, shape (n,), and its opposite."""
    levels, index = _exact_levels(differences)
    if levels is not None:
        stream = _stream(levels, index)
        return stream, replace(stream, levels=-stream.levels)
    return _rounded(differences), _rounded(-differences)


def stream_of(differences: Floats) -> Stream:
    """Return the stream of differences in [-1, 1] that stand in order of arrival, shape (n,)."""
    return both_streams(differences)[0]


def _exact_levels(differences: Floats) -> tuple[Floats | None, NDArray[np.intp]]:
    whole = np.rint(differences)
    if np.array_equal(whole, differences):
        return np.array([-1.0, 0.0, 1.0]), whole.astype(np.intp) + 1
    if len(differences) > _STEPS and len(np.unique(differences[:_STEPS])) > _STEPS // 8:
        return None, whole.astype(np.intp)
    levels, index = _levels(differences)
    return (levels if len(levels) <= _STEPS else None), index


def _levels(differences: Floats) -> tuple[Floats, NDArray[np.intp]]:
    """The different values and which of them each is: they are few, so that looking each up is faster than sorting."""
    levels = np.unique(differences[:_STEPS])
    for _ in range(2):
        index = np.minimum(np.searchsorted(levels, differences), len(levels) - 1)
        unknown = levels[index] != differences
        if not unknown.any():
            break
        levels = np.union1d(levels, differences[unknown])
    return levels, index


def _rounded(differences: Floats) -> Stream:
    # Down: the evidence is never more than it should be.
    index = np.floor((1 + differences) / 2 * _STEPS).astype(np.intp)
    return _stream(np.arange(_STEPS + 1) / _STEPS * 2 - 1, index)


def _stream(levels: Floats, index: NDArray[np.intp]) -> Stream:
    count = len(index)
    every = max(1, -(-count // _LOOKS))
    looks = np.minimum(np.arange(every, count + every, every), count).astype(np.intp)
    totals = np.bincount(index, minlength=len(levels)).astype(np.float64)
    if every == 1 or len(looks) * len(levels) > _MOST_COUNTS:
        return Stream(levels, totals, looks, index=index)
    cells = np.bincount(np.arange(count) // every * len(levels) + index, minlength=len(looks) * len(levels))
    return Stream(levels, totals, looks, counts=cells.reshape(len(looks), -1).astype(np.float64))


def stream_of_counts(ups: Floats, downs: Floats, pairs: Floats) -> Stream:
    """Return a stream of the differences 1, -1 and 0 of single pairs, counted between looks.

    Args:
        ups: differences of 1 since the look before, shape (looks,).
        downs: differences of -1, shape (looks,).
        pairs: all pairs since the look before, shape (looks,).
    """
    counts = np.stack([downs, pairs - ups - downs, ups], axis=1)
    return Stream(np.array([-1.0, 0.0, 1.0]), counts.sum(axis=0), np.cumsum(pairs).astype(np.intp), counts=counts)
