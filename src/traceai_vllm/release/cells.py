"""Cells: one measure in one part of the traffic, with what the statistics say about it."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from traceai_vllm.release.measures import FEEDBACK, QUANTILE, RATE, RATIO, SCORE, Measure
from traceai_vllm.release.statistics import (
    Evidence,
    e_bh,
    holm,
    paired_quantiles,
    paired_rates,
    paired_scores,
    unpaired_rates,
)
from traceai_vllm.release.statistics.clusters import clusters_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from traceai_vllm.release.frame import Frame, Rows, Scope
    from traceai_vllm.release.policy import Policy
    from traceai_vllm.release.statistics.clusters import Clusters

    Floats = NDArray[np.float64]

_MANY = 100_000
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
        paired: whether both arms answered the same questions; else ``evidence.pairs`` counts answers, and there is no
            other answer to be better or worse than.
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
    paired: bool = True

    @property
    def unit(self) -> str:
        """What the evidence is counted in."""
        return "pairs" if self.paired else "answers"

    @property
    def name(self) -> str:
        """What the part of the traffic is called."""
        return scope_name(self.scope)


def pairs_seen(cells: Iterable[Cell]) -> int:
    """Return in how many pairs of a part of the traffic something was measured."""
    return max((cell.evidence.pairs for cell in cells if cell.paired), default=0)


def scope_name(scope: Scope) -> str:
    """Return what a part of the traffic is called: ``route=support, slice=regulated``."""
    return ", ".join(f"{dimension}={value}" for dimension, value in scope) or "all traffic"


def cells_of(frame: Frame, scopes: Iterable[Scope], measures: Sequence[Measure], policy: Policy) -> list[Cell]:
    """Judge measures in parts of the traffic, each by itself."""
    asked = [(scope, measure) for scope in scopes for measure in measures]

    def judge(one: tuple[Scope, Measure]) -> list[Cell]:
        return cells_of_rows(frame, frame.rows(one[0]), one[0], [one[1]], policy)

    if len(frame) < _MANY:
        found = [*map(judge, asked)]
    else:  # sorting and summing up large arrays leaves Python to the other threads
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            found = [*pool.map(judge, asked)]
    return [cell for cells in found for cell in cells]


def cells_of_rows(
    frame: Frame,
    rows: Rows,
    scope: Scope,
    measures: Iterable[Measure],
    policy: Policy,
    *,
    served: Rows | None = None,
) -> list[Cell]:
    """Judge measures in some rows.

    Args:
        frame: the pairs.
        rows: rows of ``frame``.
        scope: what they are called, and which margins hold there.
        measures: what is judged.
        policy: says how.
        served: rows of ``frame.served``; None: those of ``scope``.
    """
    cells = []
    for measure in measures:
        if frame.served is not None and measure.name in FEEDBACK:
            users = frame.served.rows(scope) if served is None else served
            cells.append(_served_cell(frame.served, users, scope, measure, policy))
        else:
            cells.append(_cell(frame, rows, scope, measure, policy))
    return cells


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


def _cell(frame: Frame, rows: Rows, scope: Scope, measure: Measure, policy: Policy) -> Cell:
    one, other = (frame.values[f"{side}:{measure.column}"][rows].astype(np.float64) for side in "bc")
    both = ~(np.isnan(one) | np.isnan(other))
    if measure.kind == QUANTILE:  # of times that no clock can have measured there is no ratio
        both &= (one > 0) & (other > 0)
    one, other, used = (one, other, rows) if both.all() else (one[both], other[both], rows[both])
    guard = policy.guard_of(measure.name, scope)
    evidence = _evidence((one, other), frame.units(used), measure, 0.0 if guard is None else guard.margin, policy)
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


def _served_cell(served: Frame, rows: Rows, scope: Scope, measure: Measure, policy: Policy) -> Cell:
    guard = policy.guard_of(measure.name, scope)
    arms = [rows[~np.isnan(served.values[side + measure.column][rows])] for side in ("b:", "c:")]
    values = [served.values[side + measure.column][of_arm] for side, of_arm in zip(("b:", "c:"), arms, strict=True)]
    units = [_sessions(served, of_arm, said) for of_arm, said in zip(arms, values, strict=True)]
    (one, one_order), (other, other_order) = units
    evidence = unpaired_rates(
        one,
        other,
        margin=0.0 if guard is None else guard.margin,
        alpha=policy.evidence.alpha,
        baseline_order=one_order,
        candidate_order=other_order,
        mode=policy.evidence.mode,
    )
    evidence = replace(evidence, pairs=sum(map(len, values)))
    enough = evidence.pairs >= policy.evidence.min_pairs
    return Cell(
        scope=scope,
        measure=measure,
        margin=None if guard is None else guard.margin,
        evidence=evidence,
        verdict=evidence.verdict if enough or evidence.verdict == REGRESSED else NOT_ENOUGH,
        baseline=_summary(values[0], measure),
        candidate=_summary(values[1], measure),
        worse=0,
        better=0,
        paired=False,
    )


def _sessions(served: Frame, rows: Rows, said: Floats) -> tuple[Floats, NDArray[np.int64]]:
    """The share of each session's answers of which something was said, and when the last of it came."""
    units = clusters_of(len(rows), None if served.clusters is None else served.clusters[rows])
    order = np.zeros(units.count, dtype=np.int64)
    np.maximum.at(order, units.of_pair, served.arrived_ns[rows])
    return units.means(said), order


def _evidence(
    arms: tuple[Floats, Floats],
    clusters: Clusters | None,
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
    return float(np.mean(values, dtype=np.float64))
