"""Fail rates where pairs are missing: feedback and live traffic, where each request has one answer only."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from traceai_vllm.release.statistics import means
from traceai_vllm.release.statistics.clusters import Clusters
from traceai_vllm.release.statistics.evidence import Evidence, one_look_verdict
from traceai_vllm.release.statistics.stream import both_streams

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from traceai_vllm.release.statistics.evidence import Mode

    Floats = NDArray[np.float64]


def unpaired_rates(
    baseline: ArrayLike,
    candidate: ArrayLike,
    *,
    margin: float,
    alpha: float = 0.05,
    baseline_order: ArrayLike | None = None,
    candidate_order: ArrayLike | None = None,
    mode: Mode = "anytime",
    alarm_above: float = 0.0,
) -> Evidence:
    """Compare the rates of an event that is bad between requests of two arms that are not the same requests.

    Only who was sent to which arm may differ between them: compare arms of a random split, not two weeks. Anytime:
    requests are put in blocks as they arrive, each closed when it has both arms, and the differences of their rates are
    bet on. Fixed: the wider of Newcombe's interval and Agresti and Caffo's, and the latter's test; where requests are
    sessions with shares of their own, Welch's interval and test (statsmodels).

    Args:
        baseline: 1 or True where a request of the baseline failed, shape (n,); for sessions, the share in each.
        candidate: the same for the candidate, shape (m,).
        margin: how much higher the candidate's rate may be, stated beforehand.
        alpha: the chance of a false verdict, of either kind.
        baseline_order: when each request of the baseline arrived, shape (n,); None spreads them evenly.
        candidate_order: the same for the candidate, shape (m,); both or neither.
        mode: ``anytime`` or ``fixed``.
        alarm_above: ``regressed`` means worse than this.

    Returns:
        The evidence; ``pairs`` counts the requests of both arms, ``clusters`` the blocks (requests, for fixed n).

    Raises:
        ValueError: a value is not in [0, 1], only one order is given, or a level is out of range.
    """
    first, second = np.asarray(baseline, dtype=np.float64), np.asarray(candidate, dtype=np.float64)
    if not all(((values >= 0) & (values <= 1)).all() for values in (first, second)):
        raise ValueError("fails are 0 or 1, and a session's share of them is between the two")
    if (baseline_order is None) != (candidate_order is None):
        raise ValueError("give the order of both arms, or of neither")
    claims = means.Claims(margin, alarm_above, alpha)
    if mode == "fixed":
        return _fixed(first, second, claims)
    times = np.concatenate([_times(baseline_order, len(first)), _times(candidate_order, len(second))])
    differences, blocks = _blocks(first, second, times)
    method = "unpaired fail rates in blocks, betting confidence sequence"
    return means.anytime(*both_streams(differences), blocks, claims, method)


def _times(order: ArrayLike | None, count: int) -> NDArray[np.float64]:
    if order is None:
        return (np.arange(count) + 0.5) / max(count, 1)
    times = np.asarray(order)
    if times.shape != (count,):
        raise ValueError(f"an order has shape {times.shape}; it needs one value for each of the {count} requests")
    return times


def _blocks(first: Floats, second: Floats, times: NDArray[np.float64]) -> tuple[Floats, Clusters]:
    """The difference of rates in each block, and the blocks; requests after the last full block are left out."""
    order = np.argsort(times, kind="stable")
    arm = (order >= len(first)).astype(np.intp)
    fails = np.concatenate([first, second])[order]
    # A block ends where an arm comes up that was missing in it: at every second change of arm.
    block = np.concatenate([[0], np.cumsum(np.diff(arm) != 0)]) // 2 if len(arm) else np.zeros(0, dtype=np.intp)
    full = block < _full_blocks(block, arm)
    block, arm, fails = block[full], arm[full], fails[full]
    count = int(block[-1]) + 1 if len(block) else 0
    rates = [
        np.bincount(block[arm == side], fails[arm == side], count) / np.bincount(block[arm == side], minlength=count)
        for side in (0, 1)
    ]
    return rates[1] - rates[0], Clusters(block, np.bincount(block, minlength=count).astype(np.intp))


def _full_blocks(block: NDArray[np.intp], arm: NDArray[np.intp]) -> int:
    if not len(block):
        return 0
    last = arm[block == block[-1]]
    return int(block[-1]) + (1 if last.min() != last.max() else 0)


def _fixed(first: Floats, second: Floats, claims: means.Claims) -> Evidence:
    low, high, p_value, method = -1.0, 1.0, 1.0, "Newcombe and Agresti-Caffo interval, Agresti-Caffo test"
    if np.isin(first, (0, 1)).all() and np.isin(second, (0, 1)).all():
        if len(first) and len(second):
            low, high, p_value = _of_counts(first, second, claims)
    else:
        method = "Welch interval of session means"
        if len(first) > 1 and len(second) > 1:
            low, high, p_value = _welch(first, second, claims)
    decision = one_look_verdict(p_value <= claims.alpha, low, high, claims.margin)
    return Evidence(
        estimate=float(second.mean() - first.mean()) if len(first) and len(second) else float("nan"),
        low=low,
        high=high,
        e_value=float("nan"),
        p_value=p_value,
        verdict=decision,
        pairs=len(first) + len(second),
        clusters=len(first) + len(second),
        pairs_needed=None,
        decided_at=None,
        method=f"unpaired fail rates, {method}",
    )


def _of_counts(first: Floats, second: Floats, claims: means.Claims) -> tuple[float, float, float]:
    from statsmodels.stats import proportion  # a second to import: only where it is needed

    # A score test is wrong twice too often where the candidate's arm is small and fails are rare, Newcombe's interval
    # where the baseline's is (docs/statistics.md).
    counts = (second.sum(), len(second), first.sum(), len(first))
    ends = [
        proportion.confint_proportions_2indep(*counts, method=method, compare="diff", alpha=2 * claims.alpha)
        for method in ("newcomb", "agresti-caffo")
    ]
    with np.errstate(divide="ignore", invalid="ignore"):  # of the ratio of rates, which it works out too
        test = proportion.test_proportions_2indep(
            *counts, value=claims.alarm_above, method="agresti-caffo", compare="diff", alternative="larger"
        )
    low, high = min(low for low, _ in ends), max(high for _, high in ends)
    return max(float(low), -1.0), min(float(high), 1.0), float(test.pvalue)


def _welch(first: Floats, second: Floats, claims: means.Claims) -> tuple[float, float, float]:
    from statsmodels.stats.weightstats import CompareMeans, DescrStatsW

    compared = CompareMeans(DescrStatsW(second), DescrStatsW(first))
    low, high = compared.tconfint_diff(alpha=2 * claims.alpha, usevar="unequal")
    _, p_value, _ = compared.ttest_ind(alternative="larger", usevar="unequal", value=claims.alarm_above)
    # What no session of an arm has may still be so frequent there (Hanley and Lippman-Hand, JAMA 249, 1983).
    difference, missed = second.mean() - first.mean(), -np.log(claims.alpha)
    low, high = np.fmin(low, difference - missed / len(first)), np.fmax(high, difference + missed / len(second))
    return max(float(low), -1.0), min(float(high), 1.0), float(np.nan_to_num(p_value, nan=1.0))
