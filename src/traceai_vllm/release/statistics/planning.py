"""How many pairs will it take? Answered before a release, and for each cell that has not enough evidence yet."""

from __future__ import annotations

from math import ceil, exp, inf, log, sqrt
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import log_ndtr, ndtr, ndtri

from traceai_vllm.release.statistics.betting import FRACTIONS, SHARES

if TYPE_CHECKING:
    from traceai_vllm.release.statistics.evidence import Mode

MOST = 10**9  # more pairs than this are no plan
_GAINS, _LOSSES = np.log1p(FRACTIONS), np.log1p(-FRACTIONS)


def pairs_needed(
    disagreement: float, difference: float, *, alpha: float = 0.05, power: float = 0.8, mode: Mode = "anytime"
) -> int | None:
    """Return how many pairs show a difference with a given probability.

    It is the same number for a candidate that is worse by ``difference`` to be named (regressed), and for one that is
    as good as the baseline to be shown within a margin of ``difference`` (healthy).

    Fixed n: ``(z_alpha + z_power)^2 * disagreement / difference^2``, the usual formula for paired rates. Anytime: the
    evidence is followed as a Brownian motion with the drift and the spread that the bets have in such pairs; within
    about a tenth of what simulation gives.

    Args:
        disagreement: the mean square of the difference within a pair; for fails the share of pairs that disagree.
        difference: the true difference, or the margin, as a share of the range of the measure; above 0.
        alpha: the chance of a false verdict.
        power: the probability of having the verdict by then.
        mode: ``anytime``, where one may stop as soon as the verdict is there, or ``fixed``.

    Returns:
        The number of pairs (clusters, where pairs are clustered), or None when it is beyond 10^9.

    Raises:
        ValueError: a number is out of its range.
    """
    if not (0 < difference <= 1 and 0 <= disagreement <= 1 and 0 < alpha < 0.5 and alpha < power < 1):
        raise ValueError("needed: 0 < difference <= 1, 0 <= disagreement <= 1, 0 < alpha < 0.5 and alpha < power < 1")
    disagreement = max(disagreement, difference**2)
    if mode == "fixed":
        needed = float(ndtri(1 - alpha) + ndtri(power)) ** 2 * disagreement / difference**2
        return ceil(needed) if needed <= MOST else None
    if _power(MOST, disagreement, difference, alpha) < power:
        return None
    low, high = 1, MOST
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if _power(middle, disagreement, difference, alpha) >= power else (middle, high)
    return high


def _power(pairs: int, disagreement: float, difference: float, alpha: float) -> float:
    up, down = (max(disagreement, abs(difference)) + difference) / 2, max(disagreement - difference, 0.0) / 2
    drifts = up * _GAINS + down * _LOSSES
    best = int(np.argmax(drifts))
    drift = float(np.logaddexp.reduce(np.log(SHARES) + pairs * drifts)) / pairs
    variance = float(up * _GAINS[best] ** 2 + down * _LOSSES[best] ** 2 - drifts[best] ** 2)
    return _reached(drift, variance, pairs, log(1 / alpha))


def _reached(drift: float, variance: float, time: float, level: float) -> float:
    """The chance that a Brownian motion has reached a level (Borodin and Salminen, formula 2.2.0.2)."""
    spread = sqrt(variance * time)
    if spread == 0:
        return 1.0 if drift * time >= level else 0.0
    reflected = 2 * drift * level / variance if variance else inf
    tail = float(log_ndtr(-(level + drift * time) / spread)) + reflected
    return float(ndtr((drift * time - level) / spread)) + exp(min(tail, 0.0))
