"""Tests and confidence sequences for the mean of bounded values, by betting; valid however often one looks.

Against the claim that values in [0, 1] have a mean of at most m, somebody who starts with 1 and bets the fraction f of
what he has on each value x has, after it, ``1 - f + f * x / m`` times as much. If the claim is true nobody gets rich:
the chance of ever reaching 1/alpha is at most alpha (Ville 1939). Nobody knows the best fraction beforehand, so the
start is divided among several (a mixture), and the average of what they have is the evidence: an e-process.
Differences in [-1, 1] are such values after a shift, x = (1 + difference) / 2.

Source: Waudby-Smith and Ramdas, "Estimating means of bounded random variables by betting", JRSS B 86(1), 2024,
https://doi.org/10.1093/jrsssb/qkad009, sections 4 and 5. The claim need only hold for each value given those before it.

The fractions and their shares are ours. For paired fails the best fraction is (difference of fail rates) / (share of
pairs that disagree): 0.3 for 3 points at 10 %, 0.67 for 10 points at 15 %, nearly 1 when the candidate is down. A flat
mixture spends most of its start elsewhere. :mod:`benchmarks.release` measures what this one costs against the best.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from traceai_vllm.release.statistics.stream import Stream

    Floats = NDArray[np.float64]

FRACTIONS: Floats = np.array([0.02, 0.05, 0.10, 0.18, 0.28, 0.38, 0.50, 0.65, 0.80, 0.97])
SHARES: Floats = np.array([0.005, 0.01, 0.015, 0.03, 0.52, 0.11, 0.02, 0.02, 0.04, 0.23])
_LOG_SHARES: Floats = np.log(SHARES)


def log_mixture(bets: Floats) -> Floats:
    """Return the log of what all bets together have, from the log of what each has made of 1.

    Args:
        bets: shape (n, fractions).

    Returns:
        Shape (n,).
    """
    most = bets.max(axis=1)
    return np.asarray(most + np.log(np.exp(bets - most[:, None]) @ SHARES), dtype=np.float64)


def log_wealth_path(stream: Stream, mean: float) -> Floats:
    """Return the log of the evidence against "the mean difference is at most ``mean``" at each look.

    Args:
        stream: differences in [-1, 1], in order of arrival.
        mean: the claimed mean, above -1.

    Returns:
        Shape (looks,).
    """
    return log_mixture(stream.sums(_log_factors(stream.levels, mean)))


def lower_bound(stream: Stream, alpha: float) -> float:
    """Return the largest mean that the differences have disproved.

    With probability 1 - alpha the true mean is never below it, however often one looks.

    Args:
        stream: differences in [-1, 1].
        alpha: the chance that the bound is ever wrong.
    """
    present = stream.totals > 0
    levels, totals = stream.levels[present], stream.totals[present]
    low, high = -1.0, stream.mean if len(levels) else -1.0
    enough = -np.log(alpha)
    for _ in range(32):  # the evidence falls as the claimed mean rises
        middle = (low + high) / 2
        if middle <= -1 or np.logaddexp.reduce(_LOG_SHARES + totals @ _log_factors(levels, middle)) >= enough:
            low = middle
        else:
            high = middle
    return low


def _log_factors(levels: Floats, mean: float) -> Floats:
    return np.asarray(np.log1p(FRACTIONS * ((1 + levels[:, None]) / (1 + mean) - 1)), dtype=np.float64)
