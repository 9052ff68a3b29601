"""Cells: one measure in one part of the traffic, with what the statistics say about it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from traceai_vllm.release.measures import QUANTILE, RATE, RATIO, SCORE, Measure
from traceai_vllm.release.statistics import Evidence, e_bh, holm, paired_quantiles, paired_rates, paired_scores

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from traceai_vllm.release.frame import Frame, Scope
    from traceai_vllm.release.policy import Policy

    Floats = NDArray[np.float64]

HEALTHY, REGRESSED, NOT_ENOUGH = "healthy", "regressed", "not_enough_evidence"


@dataclass(frozen=True)
class Cell:
    """One measure in one part of the traffic.

    Attributes:
        scope: the part: pairs of dimension and value; empty for all of it.
        measure: what is measured.
        margin: how much worse the candidate may be there; None where it is only shown.
        evidence: what the statistics say; larger estimates are worse.
        verdict: ``healthy``, ``regressed`` or ``not_enough_evidence``; after false alarms were controlled.
        baseline: the baseline's value in the pairs that were used: a rate, mean or quantile; NaN without pairs.
        candidate: the candidate's.
        worse: pairs in which the candidate is worse: from pass to fail.
        better: pairs in which it is better: from fail to pass.
    """

    scope: Scope
    measure: Measure
    margin: float | None
    evidence: Evidence
    verdict: str
    baseline: float
    candidate: float
    worse: int
    better: int

    @property
    def name(self) -> str:
        """What the part of the traffic is called."""
        return scope_name(self.scope)


def scope_name(scope: Scope) -> str:
    """Return what a part of the traffic is called: ``route=support, slice=regulated``."""
    return ", ".join(f"{dimension}={value}" for dimension, value in scope) or "all traffic"


def cells_of(frame: Frame, scopes: Iterable[Scope], measures: Sequence[Measure], policy: Policy) -> list[Cell]:
    """Judge measures in parts of the traffic, each by itself."""
    return [cell for scope in scopes for cell in cells_of_rows(frame, frame.rows(scope), scope, measures, policy)]


def cells_of_rows(
    frame: Frame, rows: NDArray[np.intp], scope: Scope, measures: Iterable[Measure], policy: Policy
) -> list[Cell]:
    """Judge measures in some rows; ``scope`` says what they are called and which margins hold there."""
    return [_cell(frame, rows, scope, measure, policy) for measure in measures]


def with_alarms_controlled(cells: Sequence[Cell], policy: Policy) -> list[Cell]:
    """Return the cells, with those alarms taken back that many cells alone would explain.

    Anytime: e-BH at the policy's ``alarm_fdr``, over all guarded cells. Fixed: Holm at ``alpha``.
    """
    guarded = [place for place, cell in enumerate(cells) if cell.margin is not None]
    if not guarded:
        return list(cells)
    if policy.evidence.mode == "anytime":
        stands = e_bh([cells[place].evidence.e_value for place in guarded], policy.evidence.alarm_fdr)
    else:
        stands = holm([cells[place].evidence.p_value for place in guarded], policy.evidence.alpha)
    controlled = list(cells)
    for place, stand in zip(guarded, stands, strict=True):
        if cells[place].verdict == REGRESSED and not stand:
            controlled[place] = replace(cells[place], verdict=NOT_ENOUGH)
    return controlled


def _cell(frame: Frame, rows: NDArray[np.intp], scope: Scope, measure: Measure, policy: Policy) -> Cell:
    one, other = frame.values[f"b:{measure.column}"][rows], frame.values[f"c:{measure.column}"][rows]
    both = ~(np.isnan(one) | np.isnan(other))
    if measure.kind == QUANTILE:  # of times that no clock can have measured there is no ratio
        both &= (one > 0) & (other > 0)
    one, other, used = one[both], other[both], rows[both]
    guard = policy.guard_of(measure.name, scope)
    clusters = None if frame.clusters is None else frame.clusters[used]
    evidence = _evidence((one, other), clusters, measure, 0.0 if guard is None else guard.margin, policy)
    enough = evidence.pairs >= policy.evidence.min_pairs
    higher, lower = int((other > one).sum()), int((other < one).sum())
    worse, better = (lower, higher) if measure.kind == SCORE else (higher, lower)
    return Cell(
        scope=scope,
        measure=measure,
        margin=None if guard is None else guard.margin,
        evidence=evidence,
        verdict=evidence.verdict if enough or evidence.verdict == REGRESSED else NOT_ENOUGH,
        baseline=_summary(one, measure),
        candidate=_summary(other, measure),
        worse=worse,
        better=better,
    )


def _evidence(
    arms: tuple[Floats, Floats],
    clusters: NDArray[np.int64] | None,
    measure: Measure,
    margin: float,
    policy: Policy,
) -> Evidence:
    weighed: Any = {"alpha": policy.evidence.alpha, "mode": policy.evidence.mode, "clusters": clusters}
    if measure.kind == RATE:
        return paired_rates(*arms, margin=margin, **weighed)
    if measure.kind == SCORE:
        return paired_scores(*arms, margin=margin, **weighed)
    if measure.kind == RATIO:
        # Bounded, so that one huge answer cannot decide: the mean of (candidate - baseline) / (the larger of the two).
        change = relative_changes(*arms)
        return paired_scores(np.zeros_like(change), -change, margin=margin, lowest=-1, highest=1, **weighed)
    assert measure.quantile is not None
    return paired_quantiles(*arms, quantile=measure.quantile, margin=1 + margin, **weighed)


def relative_changes(baseline: Floats, candidate: Floats) -> Floats:
    """Return by how much each candidate's value is larger, as a share of the larger of the two, in [-1, 1]."""
    larger = np.maximum(baseline, candidate)
    return np.asarray(np.divide(candidate - baseline, larger, out=np.zeros_like(larger), where=larger > 0))


def _summary(values: Floats, measure: Measure) -> float:
    if not len(values):
        return float("nan")
    if measure.kind == QUANTILE:
        return float(np.quantile(values, measure.quantile or 0.5))
    return float(np.mean(values))
