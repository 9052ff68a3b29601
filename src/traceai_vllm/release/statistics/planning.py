"""How many pairs will it take? Answered before a release, and for each cell that has not enough evidence yet."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, exp, inf, log, sqrt
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import log_ndtr, ndtr, ndtri

from traceai_vllm.release.statistics.betting import FRACTIONS, SHARES
from traceai_vllm.release.statistics.fixed import tango_variance

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from traceai_vllm.release.statistics.evidence import Mode

MOST = 10**9  # more pairs than this are no plan
_LEVELS = np.array([-1.0, 0.0, 1.0])  # of the difference in a pair
_LARGEST = 1 - 1e-9


@dataclass(frozen=True)
class _Outcomes:
    """What pairs are like, and the claim that is bet against: that the mean difference is at most so much."""

    shares: NDArray[np.float64]
    claim: float

    @property
    def factors(self) -> NDArray[np.float64]:
        """The log of what each bet makes of 1 in each kind of pair, shape (bets, 3)."""
        return np.asarray(np.log1p(FRACTIONS[:, None] * ((1 + _LEVELS) / (1 + self.claim) - 1)))


def pairs_needed(
    disagreement: float, difference: float, *, alpha: float = 0.05, power: float = 0.8, mode: Mode = "anytime"
) -> int | None:
    """Return how many pairs show a difference with a given probability.

    Both a candidate that is worse by ``difference`` will be named (regressed) by then, and one that is as good as the
    baseline shown within a margin of ``difference`` (healthy); where few pairs disagree the latter takes more.

    Fixed n: the larger of what Tango's interval needs for an equal candidate (Nam, Biometrics 53, 1997) and McNemar's
    exact test for a worse one (Connor, Biometrics 43, 1987, corrected for continuity as in Fleiss, Levin and Paik,
    "Statistical Methods for Rates and Proportions", 3rd edition, 2003). The usual formula of disagreement and
    difference alone has a power of .42 to .79 where .80 is meant. Anytime: the evidence is followed as a Brownian
    motion with the drift and the spread that the bets have in such pairs; within about a tenth of what simulation
    gives.

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
        needed = max(once(disagreement, difference, alpha, power) for once in (_healthy_once, _named_once))
        return ceil(needed) if needed <= MOST else None
    if _power(MOST, disagreement, difference, alpha) < power:
        return None
    low, high = 1, MOST
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if _power(middle, disagreement, difference, alpha) >= power else (middle, high)
    return high


def _healthy_once(disagreement: float, difference: float, alpha: float, power: float) -> float:
    claimed = tango_variance(disagreement / 2, disagreement / 2, 1.0, difference)
    return float(ndtri(1 - alpha) * sqrt(claimed) + ndtri(power) * sqrt(disagreement)) ** 2 / difference**2


def _named_once(disagreement: float, difference: float, alpha: float, power: float) -> float:
    most = max(disagreement, difference)
    spread = float(ndtri(1 - alpha) * sqrt(most) + ndtri(power) * sqrt(most - difference**2))
    needed = spread**2 / difference**2
    return needed / 4 * (1 + sqrt(1 + 4 / (needed * difference))) ** 2


def _power(pairs: int, disagreement: float, difference: float, alpha: float) -> float:
    """The chance that a candidate worse by the difference is named, or that an equal one is shown: the lower one."""
    most = max(disagreement, difference)
    worse = _Outcomes(np.array([(most - difference) / 2, 1 - most, (most + difference) / 2]), 0.0)
    equal = _Outcomes(np.array([disagreement / 2, 1 - disagreement, disagreement / 2]), -min(difference, _LARGEST))
    return min(_found(pairs, outcomes, alpha) for outcomes in (worse, equal))


def _found(pairs: int, outcomes: _Outcomes, alpha: float) -> float:
    drifts = outcomes.factors @ outcomes.shares
    best = int(np.argmax(drifts))
    drift = float(np.logaddexp.reduce(np.log(SHARES) + pairs * drifts)) / pairs
    variance = float(outcomes.factors[best] ** 2 @ outcomes.shares - drifts[best] ** 2)
    return _reached(drift, max(variance, 0.0), pairs, log(1 / alpha))


def _reached(drift: float, variance: float, time: float, level: float) -> float:
    """The chance that a Brownian motion has reached a level (Borodin and Salminen, formula 2.2.0.2)."""
    spread = sqrt(variance * time)
    if spread == 0:
        return 1.0 if drift * time >= level else 0.0
    reflected = 2 * drift * level / variance if variance else inf
    tail = float(log_ndtr(-(level + drift * time) / spread)) + reflected
    return float(ndtr((drift * time - level) / spread)) + exp(min(tail, 0.0))
