"""From the samples of interleaved rounds to figures: medians, spread, and how sure they are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    Group = Mapping[str, Mapping[str, Sequence[float]]]
    Array = np.ndarray

_RESAMPLES = 4_000
_SEED = 20_260_101
MICROSECONDS = 1e6


@dataclass(frozen=True, slots=True)
class Figure:
    """A measured figure.

    Attributes:
        value: the median over rounds, or what was computed from medians.
        low: lower end of the 95 % bootstrap interval of ``value``, rounds resampled whole.
        high: its upper end.
        spread: minimum, first quartile, third quartile and maximum over rounds; None for a figure made of others.
    """

    value: float
    low: float
    high: float
    spread: tuple[float, float, float, float] | None = None


def median_of(values: Array) -> Figure:
    """Return the median of per-round values."""
    low, high = _interval(lambda picked: float(np.median(values[picked])), len(values))
    minimum, first, third, maximum = np.percentile(values, [0, 25, 75, 100])
    return Figure(float(np.median(values)), low, high, (float(minimum), float(first), float(third), float(maximum)))


def throughput_ratio(group: Group, arm: str, base: str = "bare") -> Figure:
    """Return the median over rounds of an arm's throughput divided by that of ``base`` in the same round."""
    return median_of(_array(group, base, "wall_s") / _array(group, arm, "wall_s"))


def added_cpu(group: Group, arm: str, base: str = "bare") -> Figure:
    """Return the median over rounds of the CPU per request that an arm adds to ``base``, in microseconds."""
    return median_of(added_by_round(group, arm, base))


def added_by_round(group: Group, arm: str, base: str = "bare", kind: str = "cpu_s") -> Array:
    """Return for each round what an arm adds to ``base``, in microseconds per request."""
    return per_round(group, arm, kind) - per_round(group, base, kind)


def per_request(group: Group, arm: str, kind: str) -> Figure:
    """Return the median over rounds of an arm's time per request, in microseconds."""
    return median_of(per_round(group, arm, kind))


def per_round(group: Group, arm: str, kind: str) -> Array:
    """Return for each round an arm's time per request, in microseconds."""
    return _array(group, arm, kind) * MICROSECONDS


def quotient(above: Array, below: Array) -> Figure:
    """Return the quotient of two medians taken over the same rounds."""

    def value(picked: Array) -> float:
        return float(np.median(above[picked]) / np.median(below[picked]))

    low, high = _interval(value, len(above))
    return Figure(value(np.arange(len(above))), low, high)


def difference(one: Array, other: Array) -> Figure:
    """Return the difference of two medians taken over different rounds."""
    generator = np.random.default_rng(_SEED)
    resampled = [
        np.median(generator.choice(one, len(one))) - np.median(generator.choice(other, len(other)))
        for _ in range(_RESAMPLES)
    ]
    low, high = np.percentile(resampled, [2.5, 97.5])
    return Figure(float(np.median(one) - np.median(other)), float(low), float(high))


def _array(group: Group, arm: str, kind: str) -> Array:
    return np.asarray(group[arm][kind], dtype=float)


def _interval(value: Callable[[Array], float], rounds: int) -> tuple[float, float]:
    generator = np.random.default_rng(_SEED)
    resampled = [value(generator.integers(0, rounds, rounds)) for _ in range(_RESAMPLES)]
    low, high = np.percentile(resampled, [2.5, 97.5])
    return float(low), float(high)
