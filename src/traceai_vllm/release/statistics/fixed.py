"""Intervals for a number of pairs that was fixed beforehand: one look, as in CI.

statsmodels and SciPy have the rest; Tango's interval is here because neither has it.
"""

from __future__ import annotations

from math import inf, log, sqrt
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import bdtrc, ndtr, ndtri, stdtr, stdtrit

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray


def tango_interval(
    only_candidate: float, only_baseline: float, pairs: float, alpha: float, freedom: float = inf
) -> tuple[float, float]:
    """Return the score interval for the difference of two paired rates.

    Source: Tango, "Equivalence test and confidence interval for the difference in proportions for the paired-sample
    design", Statistics in Medicine 17, 1998, 891-908, equations 24 to 26.

    Args:
        only_candidate: pairs in which only the candidate failed.
        only_baseline: pairs in which only the baseline failed.
        pairs: all pairs, those that agree too; of clusters an effective number, to which the counts belong.
        alpha: the chance that one end is wrong; the interval covers with probability 1 - 2 * alpha.
        freedom: degrees of freedom behind the number of pairs, where it is an effective one of clusters (Korn and
            Graubard, Survey Methodology 24, 1998); infinite for pairs that stand alone.

    Returns:
        The lower and the upper end, in [-1, 1].
    """
    if pairs == 0 or freedom < 1:
        return -1.0, 1.0
    z = -_quantile(alpha, freedom)

    def score(difference: float) -> float:
        return tango_score(only_candidate, only_baseline, pairs, difference)

    observed = (only_candidate - only_baseline) / pairs
    return _crossing(score, -1.0, observed, z), _crossing(score, observed, 1.0, -z)


def tango_score(only_candidate: float, only_baseline: float, pairs: float, difference: float) -> float:
    """Return Tango's score statistic for the claim that the rates differ by ``difference``; it falls with the claim."""
    linear = (2 * pairs - only_candidate + only_baseline) * difference - only_candidate - only_baseline
    constant = -only_baseline * difference * (1 - difference)
    root = (sqrt(max(linear**2 - 8 * pairs * constant, 0.0)) - linear) / (4 * pairs)
    variance = pairs * (2 * root + difference * (1 - difference))
    distance = only_candidate - only_baseline - pairs * difference
    if variance <= 1e-12:  # no disagreements and no claimed difference, or a claim at the end of the range
        return float(np.sign(distance)) * np.inf if abs(distance) > 1e-9 else 0.0
    return float(distance / sqrt(variance))


def mcnemar_p(only_candidate: int, only_baseline: int) -> float:
    """Return McNemar's exact one-sided p-value of "the candidate fails no more often": a sign test of disagreements."""
    tosses = only_candidate + only_baseline
    return float(bdtrc(only_candidate - 1, tosses, 0.5)) if only_candidate else 1.0


def mean_interval(values: NDArray[np.float64], alpha: float, pairs: float) -> tuple[float, float]:
    """Return Student's interval for a mean; with cluster means, the cluster-robust interval of equally large clusters.

    It is no narrower than what may have been missed: of what is in no pair there may be ``-log(alpha) / pairs`` (the
    "rule of three": Hanley and Lippman-Hand, JAMA 249, 1983), and it may move the mean by as much.

    Args:
        values: one for each cluster, shape (n,), in units of their range.
        alpha: the chance that one end is wrong.
        pairs: as how many pairs that stand alone the clusters count.
    """
    if len(values) < 2:
        return -np.inf, np.inf
    half = -float(stdtrit(len(values) - 1, alpha)) * float(np.std(values, ddof=1)) / sqrt(len(values))
    half = max(half, -log(alpha) / pairs)
    middle = float(np.mean(values))
    return middle - half, middle + half


def tango_p(
    only_candidate: float, only_baseline: float, pairs: float, difference: float, freedom: float = inf
) -> float:
    """Return the one-sided p-value of "the rates differ by at most ``difference``", from Tango's score."""
    if pairs == 0 or freedom < 1:
        return 1.0
    score = tango_score(only_candidate, only_baseline, pairs, difference)
    return float(ndtr(-score) if freedom == inf else stdtr(freedom, -score))


def _quantile(alpha: float, freedom: float) -> float:
    return float(ndtri(alpha) if freedom == inf else stdtrit(freedom, alpha))


def mean_p(values: NDArray[np.float64], level: float) -> float:
    """Return Student's one-sided p-value of "the mean is at most ``level``"; 1 for fewer than two values.

    Of values that are all the same there is no spread to compare with: a sign test says how often that is chance.
    """
    if len(values) < 2:
        return 1.0
    spread = float(np.std(values, ddof=1)) / sqrt(len(values))
    distance = float(np.mean(values)) - level
    if spread == 0:
        return 0.5 ** len(values) if distance > 0 else 1.0
    return float(stdtr(len(values) - 1, -distance / spread))


def _crossing(score: Callable[[float], float], low: float, high: float, level: float) -> float:
    for _ in range(60):
        middle = (low + high) / 2
        if score(middle) > level:
            low = middle
        else:
            high = middle
    return (low + high) / 2
