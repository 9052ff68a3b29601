"""Tests and confidence sequences for the mean of bounded values, by betting; valid however often one looks.

Against the claim that values in [0, 1] have a mean of at most m, somebody who starts with 1 and bets the fraction f of
what he has on each value x has, after it, ``1 - f + f * x / m`` times as much. If the claim is true nobody gets rich:
the chance of ever reaching 1/alpha is at most alpha (Ville 1939). Nobody knows the best fraction beforehand, so the
start is divided among several (a mixture), and the average of what they have is the evidence: an e-process.

Source: Waudby-Smith and Ramdas, "Estimating means of bounded random variables by betting", JRSS B 86(1), 2024,
https://doi.org/10.1093/jrsssb/qkad009, sections 4 and 5. The claim need only hold for each value given those before it.

The fractions and their shares are ours. For paired fails the best fraction is (difference of fail rates) / (share of
pairs that disagree): 0.3 for 3 points at 10 %, 0.67 for 10 points at 15 %, nearly 1 when the candidate is down. A flat
mixture spends most of its start elsewhere. :mod:`benchmarks.release` measures what this one costs against the best.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.special import logsumexp

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

FRACTIONS: Floats = np.array([0.02, 0.05, 0.10, 0.18, 0.28, 0.38, 0.50, 0.65, 0.80, 0.97])
SHARES: Floats = np.array([0.005, 0.01, 0.015, 0.03, 0.52, 0.11, 0.02, 0.02, 0.04, 0.23])
_STEPS = 4096  # more values than this are rounded down to as many steps; even, so that "no difference" stays exact
_LOOKS = 16_384
_CHUNK = 1024  # looks that are worked on at a time, so that memory stays small


def log_wealth_path(values: Floats, mean: float) -> tuple[NDArray[np.intp], Floats]:
    """Return the log of the evidence against "the mean is at most ``mean``" as the values come.

    Looks are taken after each value up to 16,384 values, and that many evenly among more: fewer looks find less, and
    are as valid.

    Args:
        values: in [0, 1], in order of arrival, shape (n,).
        mean: the claimed mean, in (0, 1].

    Returns:
        How many values had come at each look, and the log of the evidence then; both of shape (looks,).
    """
    levels, index = _levels(values)
    table = _log_factors(levels, mean)
    every = -(-len(values) // _LOOKS)
    starts = np.arange(0, len(values), every)
    gains = np.empty((len(starts), len(FRACTIONS)))
    for first in range(0, len(starts), _CHUNK):
        chosen = starts[first : first + _CHUNK]
        factors = table[index[chosen[0] : chosen[-1] + every]]
        gains[first : first + _CHUNK] = np.add.reduceat(factors, chosen - chosen[0]) if every > 1 else factors
    looks = np.minimum(starts + every, len(values))
    return looks, np.asarray(logsumexp(np.log(SHARES) + np.cumsum(gains, axis=0), axis=1), dtype=np.float64)


def log_wealth(levels: Floats, counts: Floats, mean: float) -> float:
    """Return the log of the evidence against "the mean is at most ``mean``" after all values.

    Args:
        levels: the distinct values, in [0, 1], shape (k,).
        counts: how often each came, shape (k,).
        mean: the claimed mean, in (0, 1].
    """
    return float(logsumexp(np.log(SHARES) + counts @ _log_factors(levels, mean)))


def lower_bound(values: Floats, alpha: float) -> float:
    """Return the largest mean that the values have disproved: with probability 1 - alpha, no true mean is below it.

    Args:
        values: in [0, 1], shape (n,); their order does not matter.
        alpha: the chance that the bound is ever wrong, over all numbers of values.
    """
    if not len(values):
        return 0.0
    levels, index = _levels(values)
    counts = np.bincount(index, minlength=len(levels)).astype(np.float64)
    low, high = 0.0, float(np.mean(values))
    for _ in range(40):  # the evidence falls as the claimed mean rises
        middle = (low + high) / 2
        if middle <= 0 or log_wealth(levels, counts, middle) >= -np.log(alpha):
            low = middle
        else:
            high = middle
    return low


def _levels(values: Floats) -> tuple[Floats, NDArray[np.intp]]:
    if len(values) <= _STEPS:
        levels, index = np.unique(values, return_inverse=True)
        return levels, np.asarray(index, dtype=np.intp)
    index = np.floor(values * _STEPS).astype(np.intp)  # down: the evidence is never more than it should be
    return np.arange(_STEPS + 1) / _STEPS, index


def _log_factors(levels: Floats, mean: float) -> Floats:
    return np.asarray(np.log1p(FRACTIONS * (levels[:, None] / mean - 1)), dtype=np.float64)
