"""Many cells at once: which alarms stand, and when everything together may pass."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import ArrayLike, NDArray

    from traceai_vllm.release.statistics.evidence import Evidence


def e_bh(e_values: ArrayLike, alpha: float) -> NDArray[np.bool_]:
    """Return which alarms stand, so that at most ``alpha`` of those that do are false, in expectation.

    It holds for cells that depend on each other in any way, as slices of the same requests do.

    Source: Wang and Ramdas, "False discovery rate control with e-values", JRSS B 84(3), 2022.

    Args:
        e_values: one for each cell, of any shape (cells,); :attr:`Evidence.e_value`.
        alpha: the false discovery rate.
    """
    values = np.asarray(e_values, dtype=np.float64)
    order = np.argsort(-values, kind="stable")
    enough = values[order] * np.arange(1, len(values) + 1) >= len(values) / alpha
    stands = np.zeros(len(values), dtype=np.bool_)
    if enough.any():
        stands[order[: int(np.flatnonzero(enough)[-1]) + 1]] = True
    return stands


def holm(p_values: ArrayLike, alpha: float) -> NDArray[np.bool_]:
    """Return which alarms stand, so that the chance of any false one is at most ``alpha`` (Holm 1979, statsmodels).

    Args:
        p_values: one for each cell, shape (cells,); :attr:`Evidence.p_value`.
        alpha: the family-wise error rate.
    """
    values = np.asarray(p_values, dtype=np.float64)
    if not len(values):
        return np.zeros(0, dtype=np.bool_)
    from statsmodels.stats.multitest import multipletests  # a second to import: only where it is needed

    return np.asarray(multipletests(values, alpha=alpha, method="holm")[0], dtype=np.bool_)


def all_healthy(cells: Iterable[Evidence]) -> bool:
    """Return whether every cell is healthy, and there is one: what a promotion needs.

    No correction is due: a candidate that is bad anywhere passes with a chance of at most alpha, since that cell alone
    must fail to notice (intersection-union test; Berger, Technometrics 24(4), 1982).
    """
    verdicts = [cell.verdict for cell in cells]
    return bool(verdicts) and all(found == "healthy" for found in verdicts)
