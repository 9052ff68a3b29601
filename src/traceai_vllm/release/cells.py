"""Cells: one measure in one part of the traffic, with what the statistics say about it."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import groupby
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
from traceai_vllm.release.statistics.order_statistics import quantile_of

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


def cells_of(frame: Frame, asked: Iterable[tuple[Scope, Sequence[Measure]]], policy: Policy) -> list[Cell]:
    """Judge measures in parts of the traffic, each by itself.

    Args:
        frame: the pairs.
        asked: parts of the traffic with the measures that are judged there.
        policy: says how.
    """
    tasks = [(scope, group) for scope, measures in asked for group in _by_column(measures)]

    def judge(task: tuple[Scope, list[Measure]]) -> list[Cell]:
        return cells_of_rows(frame, frame.rows(task[0]), task[0], task[1], policy)

    if len(frame) < _MANY:
        found = [*map(judge, tasks)]
    else:  # sorting and summing up large arrays leaves Python to the other threads
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            # What takes longest begins first, so that no thread is left with it alone.
            begun = {place: pool.submit(judge, tasks[place]) for place in _longest_first(frame, tasks)}
            found = [begun[place].result() for place in range(len(tasks))]
    return [cell for cells in found for cell in cells]


def _longest_first(frame: Frame, tasks: Sequence[tuple[Scope, list[Measure]]]) -> list[int]:
    work = [len(frame.rows(scope)) * len(measures) for scope, measures in tasks]
    return sorted(range(len(tasks)), key=lambda place: -work[place])


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
    for group in _by_column(measures):
        if frame.served is not None and group[0].name in FEEDBACK:
            users = frame.served.rows(scope) if served is None else served
            cells += [_served_cell(frame.served, users, scope, measure, policy) for measure in group]
            continue
        one, other, used = _values(frame, rows, group[0])
        units = frame.units(used)
        cells += [_cell((one, other), units, scope, measure, policy) for measure in group]
    return cells


def _by_column(measures: Iterable[Measure]) -> list[list[Measure]]:
    """Put neighbours that are made from the same values together, so that these are looked up once."""
    return [[*group] for _, group in groupby(measures, key=lambda measure: (measure.column, measure.kind))]


def _values(frame: Frame, rows: Rows, measure: Measure) -> tuple[Floats, Floats, Rows]:
    """Return both arms' values in the rows where there are both, and these rows."""
    one, other = (frame.values[f"{side}:{measure.column}"] for side in "bc")
    if rows is not frame.everything:
        one, other = one[rows], other[rows]
    both = ~(np.isnan(one) | np.isnan(other))
    if measure.kind == QUANTILE:  # of times that no clock can have measured there is no ratio
        both &= (one > 0) & (other > 0)
    if not both.all():
        one, other, rows = one[both], other[both], rows[both]
    return one.astype(np.float64), other.astype(np.float64), rows


def with_alarms_controlled(cells: Sequence[Cell], policy: Policy) -> list[Cell]:
    """Return the cells, with those alarms taken back that many cells alone would explain.

    Anytime: e-BH at the policy's ``alarm_fdr``, over all of them that are guarded. Fixed: Holm at ``alpha``.
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


def _cell(arms: tuple[Floats, Floats], units: Clusters | None, scope: Scope, measure: Measure, policy: Policy) -> Cell:
    one, other = arms
    evidence = _evidence(arms, units, measure, _margin(scope, measure, policy) or 0.0, policy)
    higher, lower = int(np.count_nonzero(other > one)), int(np.count_nonzero(other < one))
    worse, better = (lower, higher) if measure.kind == SCORE else (higher, lower)
    return replace(_judged(arms, evidence, scope, measure, policy), worse=worse, better=better)


def _served_cell(served: Frame, rows: Rows, scope: Scope, measure: Measure, policy: Policy) -> Cell:
    arms = [rows[~np.isnan(served.values[side + measure.column][rows])] for side in ("b:", "c:")]
    values = [served.values[side + measure.column][of_arm] for side, of_arm in zip(("b:", "c:"), arms, strict=True)]
    units = [_sessions(served, of_arm, said) for of_arm, said in zip(arms, values, strict=True)]
    (one, one_order), (other, other_order) = units
    evidence = unpaired_rates(
        one,
        other,
        margin=_margin(scope, measure, policy) or 0.0,
        alpha=policy.evidence.alpha,
        baseline_order=one_order,
        candidate_order=other_order,
        mode=policy.evidence.mode,
    )
    evidence = replace(evidence, pairs=sum(map(len, values)))
    return replace(_judged((values[0], values[1]), evidence, scope, measure, policy), paired=False)


def _judged(arms: tuple[Floats, Floats], evidence: Evidence, scope: Scope, measure: Measure, policy: Policy) -> Cell:
    # Too few pairs never make a cell healthy; a regression that is shown stands, however few they are.
    enough = evidence.pairs >= policy.evidence.min_pairs
    return Cell(
        scope=scope,
        measure=measure,
        margin=_margin(scope, measure, policy),
        evidence=evidence,
        verdict=evidence.verdict if enough or evidence.verdict == REGRESSED else NOT_ENOUGH,
        baseline=_summary(arms[0], measure),
        candidate=_summary(arms[1], measure),
        worse=0,
        better=0,
    )


def _margin(scope: Scope, measure: Measure, policy: Policy) -> float | None:
    guard = policy.guard_of(measure.name, scope)
    return None if guard is None else guard.margin


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
        return quantile_of(values, measure.quantile or 0.5)
    return float(np.mean(values, dtype=np.float64))
