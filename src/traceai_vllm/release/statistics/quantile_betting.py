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
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import betaln

from traceai_vllm.release.statistics.betting import FRACTIONS, log_mixture

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

_SHARE_OF_PAIRS = 0.75  # the start is divided between the two bettors
_PRIOR = 100.0  # the second bettor's start, as if this many clusters had been seen


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

    def first(self, pairs: int) -> Sample:
        """Return the first ``pairs`` pairs."""
        return Sample(self.baseline[:pairs], self.candidate[:pairs], self.weights[:pairs], self.clusters[:pairs])


@dataclass(frozen=True)
class Plausible:
    """The values that may still be the baseline's quantile, and the second bettor's log capital for each.

    Between two neighbours nothing changes.

    Attributes:
        starts: where each stretch begins, shape (k,); the first is -inf when all small values are.
        capital: the log of the second bettor's capital on it, shape (k,).
        end: where the last stretch ends.
    """

    starts: Floats
    capital: Floats
    end: float


def plausible(sample: Sample, quantile: float, alpha: float) -> Plausible:
    """Return the values that the second bettor alone has not disproved."""
    order = np.argsort(sample.baseline, kind="stable")
    below = np.concatenate([[0.0], np.cumsum(sample.weights[order])])
    total = below[-1]
    first, second = _PRIOR * quantile, _PRIOR * (1 - quantile)
    capital = betaln(below + first, np.maximum(total - below, 0.0) + second) - betaln(first, second)
    capital -= below * np.log(quantile) + (total - below) * np.log1p(-quantile)
    capital += np.log1p(-_SHARE_OF_PAIRS)
    open_ = np.flatnonzero(capital < -np.log(alpha))
    edges = np.concatenate([[-np.inf], sample.baseline[order], [np.inf]])
    return Plausible(edges[open_], capital[open_], float(edges[open_[-1] + 1]))


def log_evidence(sample: Sample, known: Plausible, shift: float, *, higher: bool) -> float:
    """Return the log of the evidence against "the candidate's quantile is at most the baseline's plus ``shift``".

    Args:
        sample: the pairs.
        known: which values may be the baseline's quantile.
        shift: the claimed difference, in units of the values.
        higher: False for the evidence against "it is at least that".
    """
    shifted = sample.candidate - shift
    against, for_ = (sample.baseline, shifted) if higher else (shifted, sample.baseline)
    start, end = float(known.starts[0]), known.end
    points = np.unique(np.concatenate([known.starts, shifted[(shifted > start) & (shifted < end)]]))
    ups = _covered(against, for_, sample.weights, points)
    downs = _covered(for_, against, sample.weights, points)
    bets = ups[:, None] * np.log1p(FRACTIONS) + downs[:, None] * np.log1p(-FRACTIONS)
    pairs = log_mixture(bets) + np.log(_SHARE_OF_PAIRS)
    quantile = known.capital[np.searchsorted(known.starts, points, side="right") - 1]
    return float(np.logaddexp(pairs, quantile).min())


def _covered(starts: Floats, ends: Floats, weights: Floats, points: Floats) -> Floats:
    """For each point, the weight of all pairs with start <= point < end; points sorted, shape (k,)."""
    chosen = starts < ends
    opening = np.searchsorted(points, starts[chosen], side="left")
    closing = np.searchsorted(points, ends[chosen], side="left")
    size = len(points) + 1
    change = np.bincount(opening, weights[chosen], size) - np.bincount(closing, weights[chosen], size)
    return np.maximum(np.cumsum(change)[:-1], 0.0)
