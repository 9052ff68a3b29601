"""Compares both arms: from a source and a policy to cells, books and the decision."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from traceai_vllm.release.answers import answers_of, arms_of
from traceai_vllm.release.books import Books, books_of, with_unknown
from traceai_vllm.release.cells import REGRESSED, Cell, cells_of, with_alarms_controlled
from traceai_vllm.release.feedback import feedback_of, served_frame
from traceai_vllm.release.frame import PROMPT_TOKENS, SLICE, Frame, frame_of, rows_of
from traceai_vllm.release.keeping import give_back_freed_memory, named
from traceai_vllm.release.measures import FEEDBACK, OPERATIONS, QUANTILES, Measure, evaluator_measures
from traceai_vllm.release.pairs import Pairs, kept_pairs
from traceai_vllm.release.strays import without_strays
from traceai_vllm.release.variants import variants_of
from traceai_vllm.release.volume import Volume, volume_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from traceai_vllm.release.feedback import Feedback
    from traceai_vllm.release.frame import Scope
    from traceai_vllm.release.policy import Policy
    from traceai_vllm.release.sources import Source

DIVISIONS = ("route", "intent", SLICE, "traffic_cohort", PROMPT_TOKENS, "prompt_version")
# Where in a route it went wrong: looked for only when something did.
_WITHIN_ROUTES = ("intent", SLICE, "traffic_cohort", PROMPT_TOKENS)


@dataclass(frozen=True)
class Comparison:
    """Both arms, compared.

    Attributes:
        policy: what was allowed.
        cells: every measure in every part that was looked at; guarded and shown ones.
        books: what it rests on.
        volume: how much answers differ; it decides nothing.
        variants: arm to the model variants and number formats seen there.
        cost_per_trace: arm to the mean token cost of a trace (an agent's task, where its calls share one), in the
            currency of the prices; empty where no cost is known.
        frame: the pairs as arrays.
        pairs: the pairs as tables, for drawing and for reading single ones.
        problems: what of the source could not be read, or does not count.
    """

    policy: Policy
    cells: tuple[Cell, ...]
    books: Books
    volume: Volume
    variants: dict[str, list[str]]
    cost_per_trace: dict[str, float]
    frame: Frame
    pairs: Pairs
    problems: tuple[str, ...]

    def cell(self, scope: Scope, measure: str) -> Cell | None:
        """Return the cell of a measure in a part of the traffic; None when it was not looked at."""
        return next((cell for cell in self.cells if cell.scope == scope and cell.measure.name == measure), None)

    @property
    def start_ns(self) -> int | None:
        """When the oldest pair was complete; None without pairs."""
        return int(self.frame.arrived_ns.min()) if len(self.frame) else None

    @property
    def end_ns(self) -> int | None:
        """When the newest pair was complete; None without pairs."""
        return int(self.frame.arrived_ns.max()) if len(self.frame) else None


def compare(source: Source, policy: Policy, progress: Callable[[str], None] = lambda step: None) -> Comparison:
    """Compare the arms of all pairs in a source.

    Args:
        source: the spans.
        policy: what is guarded and how.
        progress: is told each step before it begins.
    """
    progress("reading the spans")
    source = without_strays(source)
    spans = arms_of(source, policy)
    feedback = feedback_of(source.spans, spans, policy)
    measures = measures_of(source, policy, feedback)
    # In the arrays: what is weighed, and what the books ask for. In the table of pairs also scores, for single answers.
    weighed = sorted(
        {measure.column for measure in measures} | {"error", *(f"{name}:fail" for name in source.evaluators)}
    )
    scores = [f"{name}:score" for name in source.evaluators]
    progress("pairing the answers")
    answers = named(answers_of(spans, source, policy, feedback), "answers")
    known = [name for name in weighed if name in answers.columns]
    pairs, whole_pairs = kept_pairs(answers, known, scores, policy)
    progress("making up the books")
    books = books_of(answers, pairs, source.evaluators, feedback)
    volume = volume_of(pairs, answers, source.evaluators, policy, books.repeats)
    variants = variants_of(pairs.all)
    progress("reading the pairs")
    rows = rows_of(pairs.clean, known)
    pairs.forget()  # before the arrays are made: the database's memory is as large as theirs
    frame = frame_of(rows, known, policy.prompt_token_buckets)
    del rows
    give_back_freed_memory()
    _fill_unknown(frame, weighed)
    if feedback is not None:
        frame.served = served_frame(feedback, policy)
    progress("weighing the evidence")
    return Comparison(
        policy=policy,
        cells=tuple(_cells(frame, measures, policy)),
        books=replace(with_unknown(books, frame, source.evaluators, policy), mixed=variants.mixed),
        volume=volume,
        variants=variants.seen,
        cost_per_trace=_cost_per_trace(whole_pairs, frame),
        frame=frame,
        pairs=whole_pairs,
        problems=(*source.problems, *books.problems, *variants.problems),
    )


def measures_of(source: Source, policy: Policy, feedback: Feedback | None = None) -> list[Measure]:
    """Return what is measured: what the policy guards or wants gains in, and what there is of the rest."""
    guarded = {*policy.measures, *(gain.measure for gain in policy.gains)}
    guarded |= {name for override in policy.overrides for name in override.measures}
    names = {name.removesuffix(".score") for name in guarded if name not in OPERATIONS} | {*source.evaluators}
    known = {**evaluator_measures(tuple(sorted(names))), **OPERATIONS}
    shown = {*source.evaluators, "errors", "timeouts", "output_tokens", "cost", *QUANTILES}
    shown |= set() if feedback is None else {*FEEDBACK}
    return [measure for name, measure in known.items() if name in guarded or name in shown]


def _cells(frame: Frame, measures: list[Measure], policy: Policy) -> list[Cell]:
    scopes = [scope for division in DIVISIONS for scope in frame.scopes(division) if len(frame.rows(scope))]
    # What is critical is judged with no data too: no data is never a pass.
    scopes += [scope for part in policy.critical if (scope := part.items()) not in scopes]
    cells = cells_of(frame, [((), measures), *_guarded(scopes, measures, policy)], policy)
    # What is only shown needs something to show.
    cells = [cell for cell in cells if cell.margin is not None or cell.evidence.pairs]
    cells = with_alarms_controlled(cells, policy)
    if not any(cell.verdict == REGRESSED and cell.margin is not None for cell in cells):
        return cells
    within = [scope for division in _WITHIN_ROUTES for scope in frame.scopes("route", division)]
    within = [scope for scope in within if scope not in scopes and len(frame.rows(scope))]
    # Apart: so many more cells would take the alarm back that they are looked at for.
    return cells + with_alarms_controlled(cells_of(frame, _guarded(within, measures, policy), policy), policy)


def _guarded(scopes: list[Scope], measures: list[Measure], policy: Policy) -> list[tuple[Scope, list[Measure]]]:
    return [
        (scope, [measure for measure in measures if policy.guard_of(measure.name, scope) is not None])
        for scope in scopes
    ]


def _fill_unknown(frame: Frame, columns: Iterable[str]) -> None:
    # A measure that the policy names and no answer has: there is no evidence, which is not a pass.
    for name in columns:
        for side in ("b:", "c:"):
            frame.values.setdefault(side + name, np.full(len(frame), np.nan))


def _cost_per_trace(pairs: Pairs, frame: Frame) -> dict[str, float]:
    if not np.isfinite(frame.values["b:cost_usd"] + frame.values["c:cost_usd"]).any():
        return {}
    clean = pairs.clean
    costs = clean.filter(clean["b:cost_usd"].notnull(), clean["c:cost_usd"].notnull())
    sums = {"baseline": costs["b:cost_usd"].sum(), "candidate": costs["c:cost_usd"].sum()}
    row = costs.aggregate(**sums, traces=costs["b:trace_id"].nunique()).to_pyarrow().to_pylist()[0]
    return {arm: float(row[arm]) / row["traces"] for arm in sums}
