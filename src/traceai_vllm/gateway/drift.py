"""Has the share of bad answers risen above what is allowed? Told as early as the answers show it, at any look.

The bets are those of the release decision (:mod:`traceai_vllm.release.statistics.betting`, which says how they work and
where they come from): against the claim that at most a share ``m`` of the answers is bad, the bet ``f`` has, after an
answer, ``1 - f + f * bad / m`` times as much. There the question is asked once; here it is asked for as long as the
candidate answers, and a week of good answers must not make a bad hour count for less. So a bet that has lost begins
anew with 1 before each answer (an e-detector of the CUSUM kind: Shin, Ramdas and Rinaldo, "E-detectors: a nonparametric
framework for sequential change detection", New England Journal of Statistics in Data Science 2(2), 2024,
https://arxiv.org/abs/2203.03532). While the claim is true, it takes at least ``1 / alpha`` answers on average until all
bets together have ``1 / alpha``.

The formula stands here again because that package needs numpy and SciPy, and importing it brings in Ibis: a process
that answers users has none of them. A test holds the two together.
"""

from __future__ import annotations

from math import sqrt
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

# The best bet on a share p where m is allowed is (p - m) / (1 - m): from a few answers in a hundred too many, to all.
_FRACTIONS = (0.01, 0.03, 0.06, 0.12, 0.25, 0.5, 0.75, 0.97)
_MOST = 1e300


class Detector:
    """Evidence that more of the answers are bad than is allowed.

    Args:
        fractions: how much each bet puts at risk, above 0 and below 1.
        shares: how the start is divided among them; evenly when None.
    """

    def __init__(self, fractions: Sequence[float] = _FRACTIONS, shares: Sequence[float] | None = None) -> None:
        self._fractions = tuple(fractions)
        self._shares = tuple(shares or [1 / len(self._fractions)] * len(self._fractions))
        self._wealth = [1.0] * len(self._fractions)

    def add(self, bad: bool, allowed: float) -> float:
        """Take an answer in, and return the evidence: 1 says nothing, 1,000,000 a lot.

        Args:
            bad: whether it is bad.
            allowed: the share of answers that may be bad, above 0 and below 1; from what was known before this answer.
        """
        won = 1 / allowed if bad else 0.0
        pairs = zip(self._fractions, self._wealth, strict=True)
        self._wealth = [min(max(had, 1.0) * (1 - f + f * won), _MOST) for f, had in pairs]
        return sum(share * has for share, has in zip(self._shares, self._wealth, strict=True))


def upper_rate(bad: int, events: int) -> float:
    """Return the highest rate that counts are in keeping with; 1 without any events.

    The upper end of Wilson's score interval, one-sided, at 97.5 % (Wilson, "Probable Inference, the Law of Succession,
    and Statistical Inference", JASA 22, 1927).
    """
    if events == 0:
        return 1.0
    z2 = 1.96**2
    rate = bad / events
    spread = sqrt(z2 * (rate * (1 - rate) + z2 / (4 * events)) / events)
    return min(1.0, (rate + z2 / (2 * events) + spread) / (1 + z2 / events))
