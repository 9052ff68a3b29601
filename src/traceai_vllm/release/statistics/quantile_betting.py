"""Is a quantile of one arm higher than that of the other? By betting on pairs, valid however often one looks.

Say the baseline's quantile is q and the candidate's is no higher. Then a pair has its baseline value at or below q no
more often than its candidate value, and betting on the difference of these two facts cannot make anybody rich: pairs
that agree, as a long prompt does that is slow on both, leave it as it is. Nobody knows q, so a second bettor
disproves each q that is not the baseline's quantile, and what counts is the evidence of the two together against the q
for which it is the least. That holds for all q at once, and makes no assumption on how values are distributed, but
that they are continuous.

Sources: the second bettor is the beta-binomial confidence sequence for a quantile of Howard and Ramdas, "Sequential
estimation of quantiles with applications to A/B testing and best-arm identification", Bernoulli 28(3), 2022, section 4;
the first is :mod:`~traceai_vllm.release.statistics.betting`. A pair in a cluster of k counts as the k-th root of its
factor, which by Jensen's inequality is never more evidence than betting on the cluster's mean.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import betaln

from traceai_vllm.release.statistics.betting import FRACTIONS, log_mixture

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

_GAINS, _LOSSES = np.log1p(FRACTIONS), np.log1p(-FRACTIONS)
_SHARE_OF_PAIRS = 0.75  # the start is divided between the two bettors
_STEP = 64
_PRIOR = 40.0  # the second bettor's start, as if this many clusters had been seen


@dataclass(frozen=True)
class Sample:
    """Pairs in order of arrival.

    Attributes:
        baseline: values of the baseline, shape (pairs,).
        candidate: values of the candidate, shape (pairs,).
        weights: one over the size of the pair's cluster, shape (pairs,).
        clusters: the number of the pair's cluster, from 0, never falling, shape (pairs,).
    """

    baseline: Floats
    candidate: Floats
    weights: Floats
    clusters: NDArray[np.intp]

    @cached_property
    def order(self) -> NDArray[np.intp]:
        """The pairs by the baseline's value, equal ones in order of arrival."""
        return np.argsort(self.baseline, kind="stable")

    def first(self, pairs: int) -> Sample:
        """Return the first ``pairs`` pairs."""
        part = Sample(self.baseline[:pairs], self.candidate[:pairs], self.weights[:pairs], self.clusters[:pairs])
        part.__dict__["order"] = self.order[self.order < pairs]  # sorted once for all looks
        return part


@dataclass(frozen=True)
class Plausible:
    """The values that may still be the baseline's quantile, and the second bettor's log capital for each.

    Between two neighbours nothing changes.

    Attributes:
        starts: where each stretch begins, shape (k,); the first is -inf when all small values are.
        capital: the log of the second bettor's capital on it, shape (k,).
        end: where the last stretch ends.
        above: whether each pair's baseline value is above the first start, shape (pairs,).
        inside: and below the end.
    """

    starts: Floats
    capital: Floats
    end: float
    above: NDArray[np.bool_]
    inside: NDArray[np.bool_]


def plausible(sample: Sample, quantile: float, alpha: float) -> Plausible:
    """Return the values that the second bettor alone has not disproved."""
    ordered = sample.order
    below = np.concatenate([[0.0], np.cumsum(sample.weights[ordered])])
    total = below[-1]
    first, second = _PRIOR * quantile, _PRIOR * (1 - quantile)

    def capital_at(weight: Floats) -> Floats:
        capital = betaln(weight + first, np.maximum(total - weight, 0.0) + second) - betaln(first, second)
        capital -= weight * np.log(quantile) + (total - weight) * np.log1p(-quantile)
        return np.asarray(capital + np.log1p(-_SHARE_OF_PAIRS))

    low, high = _low_stretch(below, lambda weight: capital_at(weight) < -np.log(alpha))
    edges = np.concatenate([[-np.inf], sample.baseline[ordered], [np.inf]])
    stretch = edges[low:high]
    places = np.flatnonzero(np.append(True, stretch[1:] != stretch[:-1]))  # of equal values what says least counts
    starts, end = stretch[places], float(edges[high])
    above = sample.baseline > starts[0]
    capital = np.minimum.reduceat(capital_at(below[low:high]), places)
    return Plausible(starts, capital, end, above, above & (sample.baseline < end))


def _low_stretch(weights: Floats, is_low: Callable[[Floats], NDArray[np.bool_]]) -> tuple[int, int]:
    """Return the first and the past-the-last place where a convex function is low: one stretch, found by steps."""
    low, high = 0, len(weights)
    steps = np.flatnonzero(is_low(weights[::_STEP])) * _STEP
    if len(steps):
        low, high = max(0, int(steps[0]) - _STEP), min(high, int(steps[-1]) + _STEP)
    within = low + np.flatnonzero(is_low(weights[low:high]))
    return int(within[0]), int(within[-1]) + 1


def log_evidence(sample: Sample, known: Plausible, shift: float, *, higher: bool) -> float:
    """Return the log of the evidence against "the candidate's quantile is at most the baseline's plus ``shift``".

    Args:
        sample: the pairs.
        known: which values may be the baseline's quantile.
        shift: the claimed difference, in units of the values.
        higher: False for the evidence against "it is at least that".
    """
    shifted = sample.candidate - shift
    above = shifted > known.starts[0]
    inside = above & (shifted < known.end)
    points = np.sort(np.concatenate([known.starts, shifted[np.flatnonzero(inside)]]))
    # Pairs with both values below all points, or above, say nothing there.
    near = np.flatnonzero(inside | known.inside | (above != known.above))
    baseline, shifted, weights = sample.baseline[near], shifted[near], sample.weights[near]
    opening, closing = np.searchsorted(points, baseline), np.searchsorted(points, shifted)
    for_, against = _covered(opening, closing, weights, len(points)), _covered(closing, opening, weights, len(points))
    ups, downs = (for_, against) if higher else (against, for_)
    pairs = log_mixture(ups[:, None] * _GAINS + downs[:, None] * _LOSSES) + np.log(_SHARE_OF_PAIRS)
    quantile = known.capital[np.searchsorted(known.starts, points, side="right") - 1]
    return float(np.logaddexp(pairs, quantile).min())


def _covered(opening: NDArray[np.intp], closing: NDArray[np.intp], weights: Floats, size: int) -> Floats:
    """For each of ``size`` points, the weight of the pairs with opening <= point < closing."""
    chosen = opening < closing
    change = np.bincount(opening[chosen], weights[chosen], size + 1)
    change -= np.bincount(closing[chosen], weights[chosen], size + 1)
    return np.maximum(np.cumsum(change)[:-1], 0.0)
