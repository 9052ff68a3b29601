"""What is done without all this: a t-test or a Mann-Whitney test, looked at again and again."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy import stats

if TYPE_CHECKING:
    from numpy.typing import NDArray

FIRST_LOOK = 10  # nobody tests fewer


def t_test_at(differences: NDArray[np.int8], alpha: float = 0.05) -> NDArray[np.bool_]:
    """Return at which looks a one-sided paired t-test says "worse", shape (streams, pairs)."""
    count = np.arange(1, differences.shape[1] + 1)
    total = np.cumsum(differences, axis=1, dtype=np.int32)
    squares = np.cumsum(differences != 0, axis=1, dtype=np.int32)
    mean = total / count
    variance = np.maximum(squares / count - mean**2, 0) * count / np.maximum(count - 1, 1)
    with np.errstate(divide="ignore", invalid="ignore"):
        statistic = mean / np.sqrt(variance / count)
    found = statistic > stats.t.isf(alpha, np.maximum(count - 1, 1))
    found[:, : FIRST_LOOK - 1] = False
    return found


def mann_whitney_at(
    baseline: NDArray[np.bool_], candidate: NDArray[np.bool_], alpha: float = 0.05
) -> NDArray[np.bool_]:
    """Return at which looks a one-sided Mann-Whitney test of the fails says "worse", shape (streams, pairs).

    With fails as 0 and 1, all ranks are ties of two groups, and the normal approximation of
    ``scipy.stats.mannwhitneyu(method="asymptotic", use_continuity=False)`` needs only the counts.
    """
    count = np.arange(1, baseline.shape[1] + 1)
    first = np.cumsum(baseline, axis=1, dtype=np.int64)
    second = np.cumsum(candidate, axis=1, dtype=np.int64)
    excess = (second - first) * count / 2  # U - n * n / 2
    fails, both = first + second, 2 * count
    ties = fails**3 - fails + (both - fails) ** 3 - (both - fails)
    with np.errstate(divide="ignore", invalid="ignore"):
        spread = np.sqrt(count * count / 12 * (both + 1 - ties / (both * (both - 1))))
        statistic = excess / spread
    found = statistic > stats.norm.isf(alpha)
    found[:, : FIRST_LOOK - 1] = False
    return found
