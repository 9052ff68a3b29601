"""Intervals for the difference of two quantiles, for a number of pairs that was fixed beforehand.

Each arm's interval runs between two of its order statistics (Woodruff, JASA 47, 1952), with the spread of cluster means
in place of the binomial one; the two are joined by squaring and adding with their correlation, as Newcombe joins two
rates (Zou and Donner, Statistics in Medicine 27, 2008: "MOVER").
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from math import inf, sqrt
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import ndtri, stdtrit

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from traceai_vllm.release.statistics.clusters import Clusters

    Floats = NDArray[np.float64]

_LARGE, _SOME = 200_000, 50_000  # of more values some are looked at first, to tell where the others have to be sorted
_BAND = 0.03  # ten standard errors of the share of some values on either side


@dataclass(frozen=True)
class _Sorted:
    """Values in order.

    Attributes:
        values: sorted, shape (n,).
        shares: the share of the arm's weight up to and with each value, shape (n,).
        below: the share that lies below the first.
    """

    values: Floats
    shares: Floats
    below: float


@dataclass(frozen=True)
class Arm:
    """One arm. Of a large one only what lies near a quantile is sorted, as little else is asked for.

    Attributes:
        values: as they came, shape (pairs,).
        weights: one for each value, shape (pairs,).
        near: the share that is asked for.
    """

    values: Floats
    weights: Floats
    near: float

    def quantile(self, share: float) -> float:
        """Return the smallest value with at least this share of the weight at or below it; infinite outside 0 to 1."""
        if share <= 0 or share > 1:
            return -inf if share <= 0 else inf
        wanted = share - 1e-12
        known = self._near if self._near.below < wanted <= self._near.shares[-1] else self._whole
        place = int(np.searchsorted(known.shares, wanted))
        return float(known.values[min(place, len(known.values) - 1)])

    def share(self, value: float) -> float:
        """Return the share of the weight at or below a value."""
        return float(self.weights[self.values <= value].sum() / self._total)

    @cached_property
    def _total(self) -> float:
        return float(self.weights.sum())

    @cached_property
    def _whole(self) -> _Sorted:
        return self._sorted(self.values, self.weights, 0.0)

    @cached_property
    def _near(self) -> _Sorted:
        if len(self.values) < _LARGE:
            return self._whole
        low, high = _band(self.values, self.near)
        under = self.values <= low
        inside = np.flatnonzero((self.values <= high) & ~under)
        below = float(self.weights[under].sum() / self._total)
        return self._sorted(self.values[inside], self.weights[inside], below)

    def _sorted(self, values: Floats, weights: Floats, below: float) -> _Sorted:
        order = np.argsort(values)  # not stable: what stands among equal values changes no share at their end
        return _Sorted(values[order], below + np.cumsum(weights[order]) / self._total, below)


def _band(values: Floats, share: float) -> tuple[float, float]:
    """Return two values between which a quantile lies, by looking at some: (low, high], infinite at the ends."""
    some = np.sort(values[:: len(values) // _SOME])
    first, last = (round((share + side * _BAND) * len(some)) for side in (-1, 1))
    return some[first] if first > 0 else -inf, some[last] if last < len(some) else inf


def quantile_of(values: Floats, share: float) -> float:
    """Return what ``np.quantile`` does; of many values only those near it are looked through for it."""
    place = (len(values) - 1) * share
    if len(values) >= _LARGE:
        low, high = _band(values, share)
        above = values > low
        first = int(place) - (len(values) - int(np.count_nonzero(above)))
        near = values[above & (values <= high)]
        if 0 <= first < len(near) - 1:
            neighbours = np.partition(near, (first, first + 1))[first : first + 2]
            return float(np.quantile(neighbours, place - int(place)))
    return float(np.quantile(values, share))


@dataclass(frozen=True)
class Arms:
    """Both arms at one quantile.

    Attributes:
        baseline: the baseline.
        candidate: the candidate.
        at: the quantile, in (0, 1).
        spreads: standard error of each arm's share below its own quantile.
        correlation: of these shares, between the arms.
        freedom: degrees of freedom of the standard errors; infinite where each pair stands alone.
    """

    baseline: Arm
    candidate: Arm
    at: float
    spreads: tuple[float, float]
    correlation: float
    freedom: float = inf

    @property
    def difference(self) -> float:
        """The candidate's quantile minus the baseline's."""
        return self.candidate.quantile(self.at) - self.baseline.quantile(self.at)

    @property
    def spread(self) -> float:
        """Standard error of the difference of the two shares."""
        first, second = self.spreads
        return sqrt(max(first**2 + second**2 - 2 * self.correlation * first * second, 0.0))

    def interval(self, alpha: float) -> tuple[float, float]:
        """Return the interval for the difference; each end is wrong with a chance of ``alpha``."""
        z = self._z(alpha)
        first, second = self.baseline.quantile(self.at), self.candidate.quantile(self.at)
        both = list(zip((self.baseline, self.candidate), self.spreads, strict=True))
        below = [side.quantile(self.at - z * spread) for side, spread in both]
        above = [side.quantile(self.at + z * spread) for side, spread in both]
        down = self._joined(second - below[1], above[0] - first)
        up = self._joined(above[1] - second, first - below[0])
        return second - first - down, second - first + up

    def p_value(self, level: float) -> float:
        """Return the one-sided p-value of "the difference is at most ``level``"."""
        low, high = 1e-12, 0.5
        if self.interval(high)[0] <= level:
            return 1.0 if self.difference <= level else 0.5
        for _ in range(40):
            middle = sqrt(low * high)
            low, high = (low, middle) if self.interval(middle)[0] > level else (middle, high)
        return high

    def _z(self, alpha: float) -> float:
        # As of rates: few clusters say little of how far they are apart.
        if self.freedom == inf:
            return -float(ndtri(alpha))
        return -float(stdtrit(self.freedom, alpha)) if self.freedom >= 1 else inf

    def _joined(self, one: float, other: float) -> float:
        if inf in (one, other):
            return inf
        return sqrt(max(one**2 + other**2 - 2 * self.correlation * one * other, 0.0))


def arms(baseline: Floats, candidate: Floats, units: Clusters, quantile: float) -> Arms:
    """Return both arms at a quantile.

    Args:
        baseline: values, shape (pairs,), at least one.
        candidate: values, shape (pairs,).
        units: their clusters.
        quantile: in (0, 1).
    """
    first, second = (Arm(values, units.weights, quantile) for values in (baseline, candidate))
    at_most = [arm.values <= arm.quantile(quantile) for arm in (first, second)]
    below = [units.shares(chosen) for chosen in at_most]
    one, other = (_spread(units, shares, chosen, quantile) for shares, chosen in zip(below, at_most, strict=True))
    varies = all(shares.min() < shares.max() for shares in below)
    correlation = float(np.corrcoef(below[0], below[1])[0, 1]) if varies else 0.0
    freedom = inf if units.single else units.count - 1
    return Arms(first, second, quantile, (one, other), correlation, freedom)


def _spread(units: Clusters, shares: Floats, chosen: NDArray[np.bool_], quantile: float) -> float:
    """Return the standard error of the share of the values that are chosen, which is meant to be ``quantile``."""
    inside = int(np.count_nonzero(chosen))
    pairs = units.effective(shares, float(np.mean(shares)), min(inside, len(chosen) - inside))
    least = sqrt(quantile * (1 - quantile) / pairs)  # far out all of a few values lie below: that is not certainty
    return max(float(np.std(shares)) / sqrt(max(units.count - 1, 1)), least)
