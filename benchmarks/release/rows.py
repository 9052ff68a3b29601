"""A line of the table: what was asked for, what was found, and how sure a simulation of this size is of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.stats import binom, binomtest

from traceai_vllm.release.simulator.streams import NEVER

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Row:
    """One line.

    Attributes:
        target: its number in section D.
        what: the figure.
        asked: the target in words; empty for lines that are there to compare with.
        found: the figure, with its Monte-Carlo limits.
        met: whether the target is met; None without one.
    """

    target: str
    what: str
    asked: str
    found: str
    met: bool | None = None


def share(
    target: str, what: str, hits: NDArray[np.bool_], most: float | None = None, least: float | None = None
) -> Row:
    """Return a line for a share; its 95 % limits are Clopper and Pearson's.

    Args:
        target: its number.
        what: the figure.
        hits: whether each repetition is counted.
        most: the target, if the share is to be at most this.
        least: the target, if it is to be at least this; with ``most``, both.
    """
    value = float(np.mean(hits))
    limits = binomtest(int(np.sum(hits)), len(hits)).proportion_ci()
    bounds = [f"{sign} {bound:g}" for sign, bound in (("≥", least), ("≤", most)) if bound is not None]
    met = None
    if bounds:
        met = (most is None or value <= most) and (least is None or value >= least)
    found = f"{value:.4f} ({limits.low:.4f} to {limits.high:.4f})"
    return Row(target, what, " and ".join(bounds), found, met)


def median(target: str, what: str, pairs: NDArray[np.int64], most: int | None = None) -> Row:
    """Return a line for the median number of pairs, with limits from order statistics."""
    ordered = np.sort(pairs)
    low, high = (int(binom.ppf(level, len(ordered), 0.5)) for level in (0.025, 0.975))
    middle = ordered[(len(ordered) - 1) // 2]
    found = f"{_pairs(middle)} ({_pairs(ordered[low])} to {_pairs(ordered[min(high, len(ordered) - 1)])})"
    met = None if most is None else bool(middle <= most)
    return Row(target, what, "" if most is None else f"≤ {most}", found, met)


def _pairs(number: np.int64) -> str:
    return "never" if number == NEVER else str(number)
