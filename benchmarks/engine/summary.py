"""From the samples of interleaved rounds to figures: medians, spread, and how sure they are."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    Group = Mapping[str, Mapping[str, Sequence[float]]]
    Array = np.ndarray

_RESAMPLES = 4_000
_SEED = 20_260_101
_FASTEST = 10  # percentile
MICROSECONDS = 1e6


@dataclass(frozen=True, slots=True)
class Figure:
    """A measured figure.

    Attributes:
        value: the median over rounds, or what was computed from medians.
        low: lower end of the 95 % bootstrap interval of ``value``, rounds resampled whole.
        high: its upper end.
        rounds: how many rounds it comes from.
        undisturbed: the same computed from each arm's 10th percentile over rounds. What else runs on the machine only
            ever adds time, so this is what the fastest rounds have to say.
        spread: minimum, first quartile, third quartile and maximum over rounds; None for a figure made of others.
    """

    value: float
    low: float
    high: float
    rounds: int
    undisturbed: float | None = None
    spread: tuple[float, float, float, float] | None = None


@dataclass(frozen=True, slots=True)
class Added:
    """What an arm adds to another one, in microseconds per request: round by round, and undisturbed."""

    by_round: Array
    undisturbed: float

    def figure(self) -> Figure:
        """Return the median over rounds."""
        return replace(median_of(self.by_round), undisturbed=self.undisturbed)


def median_of(values: Array) -> Figure:
    """Return the median of per-round values."""
    low, high = _interval(lambda picked: float(np.median(values[picked])), len(values))
    minimum, first, third, maximum = (float(value) for value in np.percentile(values, [0, 25, 75, 100]))
    return Figure(float(np.median(values)), low, high, len(values), None, (minimum, first, third, maximum))


def throughput_ratio(group: Group, arm: str, base: str = "bare") -> Figure:
    """Return the median over rounds of an arm's throughput divided by that of ``base`` in the same round."""
    ours, theirs = per_round(group, arm, "wall_s"), per_round(group, base, "wall_s")
    return replace(median_of(theirs / ours), undisturbed=_fastest(theirs) / _fastest(ours))


def added(group: Group, arm: str, base: str = "bare", kind: str = "cpu_s") -> Added:
    """Return what an arm adds to ``base``, of CPU unless said otherwise."""
    ours, theirs = per_round(group, arm, kind), per_round(group, base, kind)
    return Added(ours - theirs, _fastest(ours) - _fastest(theirs))


def per_request(group: Group, arm: str, kind: str) -> Figure:
    """Return the median over rounds of an arm's time per request, in microseconds."""
    values = per_round(group, arm, kind)
    return replace(median_of(values), undisturbed=_fastest(values))


def per_round(group: Group, arm: str, kind: str) -> Array:
    """Return for each round an arm's time per request, in microseconds."""
    return np.asarray(group[arm][kind], dtype=float) * MICROSECONDS


def quotient(above: Added, below: Added) -> Figure:
    """Return the quotient of two medians taken over the same rounds."""

    def value(picked: Array) -> float:
        return float(np.median(above.by_round[picked]) / np.median(below.by_round[picked]))

    rounds = len(above.by_round)
    low, high = _interval(value, rounds)
    return Figure(value(np.arange(rounds)), low, high, rounds, above.undisturbed / below.undisturbed)


def difference(one: Added, other: Added) -> Figure:
    """Return the difference of two medians taken over different rounds."""
    generator = np.random.default_rng(_SEED)

    def resampled(values: Array) -> float:
        return float(np.median(generator.choice(values, len(values))))

    low, high = np.percentile(
        [resampled(one.by_round) - resampled(other.by_round) for _ in range(_RESAMPLES)], [2.5, 97.5]
    )
    value = float(np.median(one.by_round) - np.median(other.by_round))
    rounds = min(len(one.by_round), len(other.by_round))
    return Figure(value, float(low), float(high), rounds, one.undisturbed - other.undisturbed)


def _fastest(values: Array) -> float:
    return float(np.percentile(values, _FASTEST))


def _interval(value: Callable[[Array], float], rounds: int) -> tuple[float, float]:
    generator = np.random.default_rng(_SEED)
    resampled = [value(generator.integers(0, rounds, rounds)) for _ in range(_RESAMPLES)]
    low, high = np.percentile(resampled, [2.5, 97.5])
    return float(low), float(high)
