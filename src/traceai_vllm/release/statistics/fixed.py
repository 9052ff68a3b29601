"""Intervals for a number of pairs that was fixed beforehand: one look, as in CI.

statsmodels and SciPy have the rest; Tango's interval and that of a mean are here because neither has them.
"""

from __future__ import annotations

from math import inf, log, sqrt
from typing import TYPE_CHECKING

import numpy as np
from scipy.optimize import brentq
from scipy.special import bdtrc, betaincinv, ndtr, ndtri, stdtr, stdtrit

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from traceai_vllm.release.statistics.stream import Stream


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


def at_least_exact(
    interval: tuple[float, float], only_candidate: float, only_baseline: float, pairs: float, alpha: float
) -> tuple[float, float]:
    """Return Tango's interval, no narrower above than Clopper and Pearson's where the baseline alone failed nowhere.

    Where fails are so rare, Tango's upper end is below the truth in up to 7 % of the cases at ``alpha`` .05, not 5 %.

    Args:
        interval: of :func:`tango_interval`.
        only_candidate: as there.
        only_baseline: as there.
        pairs: as there.
        alpha: as there.
    """
    low, high = interval
    if only_baseline > 0 or only_candidate >= pairs:
        return low, high
    return low, max(high, float(betaincinv(only_candidate + 1, pairs - only_candidate, 1 - alpha)))


def tango_score(only_candidate: float, only_baseline: float, pairs: float, difference: float) -> float:
    """Return Tango's score statistic for the claim that the rates differ by ``difference``; it falls with the claim."""
    variance = tango_variance(only_candidate, only_baseline, pairs, difference)
    distance = only_candidate - only_baseline - pairs * difference
    if variance <= 1e-12:  # no disagreements and no claimed difference, or a claim at the end of the range
        return float(np.sign(distance)) * np.inf if abs(distance) > 1e-9 else 0.0
    return float(distance / sqrt(variance))


def tango_variance(only_candidate: float, only_baseline: float, pairs: float, difference: float) -> float:
    """Return the variance of ``only_candidate - only_baseline`` if the rates differ by ``difference``."""
    linear = (2 * pairs - only_candidate + only_baseline) * difference - only_candidate - only_baseline
    constant = -only_baseline * difference * (1 - difference)
    root = (sqrt(max(linear**2 - 8 * pairs * constant, 0.0)) - linear) / (4 * pairs)
    return pairs * (2 * root + difference * (1 - difference))


def mcnemar_p(only_candidate: int, only_baseline: int) -> float:
    """Return McNemar's exact one-sided p-value of "the candidate fails no more often": a sign test of disagreements."""
    tosses = only_candidate + only_baseline
    return float(bdtrc(only_candidate - 1, tosses, 0.5)) if only_candidate else 1.0


def mean_interval(stream: Stream, opposite: Stream, alpha: float, worst: float = 1.0) -> tuple[float, float]:
    """Return the interval for the mean of differences in [-1, 1] that :func:`mean_p` makes.

    Args:
        stream: the differences, one for each cluster.
        opposite: the same with the other sign.
        alpha: the chance that one end is wrong.
        worst: see :func:`mean_p`.
    """
    return _lower_end(stream, alpha, worst), -_lower_end(opposite, alpha, worst)


def _lower_end(stream: Stream, alpha: float, worst: float) -> float:
    present = stream.levels[stream.totals > 0]
    highest = float(present.max()) if len(present) else -1.0
    if highest <= -1:
        return -1.0
    return float(brentq(lambda level: mean_p(stream, level, worst) - alpha, -1.0, highest, xtol=1e-9))


def mean_p(stream: Stream, level: float, worst: float = 1.0) -> float:
    """Return the one-sided p-value of "the mean difference is at most ``level``".

    One more pair is added that is as low as can be, since what is in none of so many pairs may still be there. Then the
    pairs are weighed by chance, each by an exponential variable of its own; the p-value is how often the mean comes out
    below the level. Of differences that are 0 or 1 it is Clopper and Pearson's exact one.

    Source: Learned-Miller and Thomas, "A new confidence interval for the mean of a bounded random variable",
    arXiv:1905.06208, 2019, after Gaffke, "Three test statistics for a nonparametric one-sided hypothesis on the mean of
    a nonnegative variable", Mathematical Methods of Statistics 14, 2005. That it never errs more often than ``alpha``
    is proved for two values and conjectured for any; docs/statistics.md has the simulation. The probability is
    Barndorff-Nielsen's saddlepoint approximation, within a hundredth of itself from ten pairs on.

    Args:
        stream: the differences, one for each cluster.
        level: the claim.
        worst: the part of a cluster that the added pair makes up, the rest of which is as claimed; 1 for single pairs.
    """
    present = stream.totals > 0
    weights = np.append(stream.totals[present], 1.0)
    away = np.append(stream.levels[present] - level, worst * (-1.0 - level))
    highest, lowest = float(away.max()), float(away.min())
    if highest <= 0 or lowest >= 0:
        return 1.0 if highest <= 0 else 0.0

    tilt = _tilt(weights, away)
    distance = float(np.sign(tilt)) * sqrt(max(2 * float(weights @ np.log1p(tilt * away)), 0.0))
    if abs(distance) < 1e-6:  # the claim is the mean itself
        return 0.5
    spread = sqrt(float(weights @ (away / (1 + tilt * away)) ** 2))
    return float(ndtr(-distance - log(tilt * spread / distance) / distance))


def _tilt(weights: NDArray[np.float64], away: NDArray[np.float64]) -> float:
    """Return where the cumulant generating function of the weighed sum is least: Newton's steps within a bracket."""
    low, high, tilt = -1 / float(away.max()), -1 / float(away.min()), 0.0
    for _ in range(100):
        tilted = away / (1 + tilt * away)
        slope = float(weights @ tilted)
        low, high = (tilt, high) if slope > 0 else (low, tilt)
        following = tilt + slope / float(weights @ tilted**2)
        if not low < following < high:
            following = (low + high) / 2
        if abs(following - tilt) <= 1e-12 * (high - low) or following == tilt:
            break
        tilt = following
    return tilt


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


def _crossing(score: Callable[[float], float], low: float, high: float, level: float) -> float:
    for _ in range(60):
        middle = (low + high) / 2
        if score(middle) > level:
            low = middle
        else:
            high = middle
    return (low + high) / 2
