"""Streams of pairs, thousands at a time: what a verdict does when one looks after every pair.

The decisions are those of :func:`~traceai_vllm.release.statistics.paired_rates`, worked out for all streams and looks
at once from running counts; a test holds the two together.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from traceai_vllm.release.statistics import sign_walk
from traceai_vllm.release.statistics.betting import FRACTIONS, SHARES

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    Floats = NDArray[np.float64]
    Signs = NDArray[np.int8]

_ENOUGH = 100.0  # logs above this are enough evidence for anything, and stay finite
NEVER = np.iinfo(np.int64).max


def paired_fails(
    random: np.random.Generator, shape: tuple[int, int], *, disagreement: float, difference: float
) -> Signs:
    """Draw differences of fails: 1 where only the candidate failed, -1 where only the baseline did.

    Args:
        random: the generator.
        shape: (streams, pairs).
        disagreement: the share of pairs in which exactly one failed.
        difference: the candidate's fail rate minus the baseline's; at most ``disagreement``.

    Returns:
        Shape (streams, pairs).
    """
    uniform = random.random(shape, dtype=np.float32)
    up, down = (disagreement + difference) / 2, (disagreement - difference) / 2
    return (uniform < up).astype(np.int8) - (uniform > 1 - down).astype(np.int8)


def named_at(differences: Signs, needed: NDArray[np.intp]) -> NDArray[np.int64]:
    """Return after how many pairs each stream reaches a boundary on its disagreements; ``NEVER`` if it does not.

    Args:
        differences: shape (streams, pairs).
        needed: ups that reach it, by number of disagreements; see
            :func:`~traceai_vllm.release.statistics.sign_walk.ups_needed`. Longer than any stream's disagreements.
    """
    ups = np.cumsum(differences > 0, axis=1, dtype=np.int32)
    disagreements = np.cumsum(differences != 0, axis=1, dtype=np.int32)
    return _first(ups >= needed[disagreements])


def regressed_at(differences: Signs, alpha: float = 0.05) -> NDArray[np.int64]:
    """Return after how many pairs each stream is shown to be worse; ``NEVER`` if it is not."""
    most = int((differences != 0).sum(axis=1).max(initial=0))
    return named_at(differences, sign_walk.ups_needed(sign_walk.threshold(alpha), most))


def within_at(differences: Signs, margin: float, alpha: float = 0.05) -> NDArray[np.int64]:
    """Return after how many pairs each stream is shown to be worse by less than ``margin``; ``NEVER`` if it is not."""
    counts = [np.cumsum(differences == sign, axis=1, dtype=np.int32) for sign in (-1, 0, 1)]
    # Bets against "worse by at least the margin" win on pairs in which only the baseline failed.
    factors = np.log1p(FRACTIONS * ((1 + np.array([1.0, 0.0, -1.0])[:, None]) / (1 - margin) - 1))
    first = np.full(len(differences), NEVER)
    for stream in range(len(differences)):
        logs = sum(count[stream, :, None] * factor for count, factor in zip(counts, factors, strict=True))
        first[stream] = _first((np.exp(np.minimum(logs, _ENOUGH)) @ SHARES)[None] >= 1 / alpha)[0]
    return first


def plain_boundary(fractions: ArrayLike, alpha: float, most: int) -> NDArray[np.intp]:
    """Return the boundary of an equal mixture of other bets with Ville's threshold, to compare ours with.

    Args:
        fractions: the bets; one is the "oracle" when it is the best for the difference at hand.
        alpha: the chance of a false alarm.
        most: disagreements that are covered.
    """
    bets = np.atleast_1d(np.asarray(fractions, dtype=np.float64))
    total, ups = np.arange(most + 1)[:, None], np.arange(most + 1)[None, :]
    wealth = np.full((most + 1, most + 1), -np.inf)
    for bet in bets:
        wealth = np.logaddexp(wealth, ups * np.log1p(bet) + (total - ups) * np.log1p(-bet) - np.log(len(bets)))
    reached = (wealth >= -np.log(alpha)) & (ups <= total)
    return np.where(reached.any(axis=1), np.argmax(reached, axis=1), total[:, 0] + 1)


def _first(reached: NDArray[np.bool_]) -> NDArray[np.int64]:
    return np.where(reached.any(axis=1), np.argmax(reached, axis=1) + 1, NEVER)
