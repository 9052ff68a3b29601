"""Evaluates spans that are in a store already, with the same code that evaluates them on their way."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from traceai_vllm.evals.pipeline.inputs import evaluator_inputs, said_in_attributes, sliced_request
from traceai_vllm.evals.pipeline.runner import ERROR, Outcome, Runner
from traceai_vllm.evals.slices import SliceSettings, slices_of
from traceai_vllm.store import connect
from traceai_vllm.store.evaluations import EvaluationWriter
from traceai_vllm.telemetry import semconv

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from traceai_vllm.evals.base import Evaluator

# Written so often: a judge's scores cost time and money, and whoever is killed loses the last second's.
_BATCH = 64
_BATCH_S = 1.0
NOT_APPLICABLE = "not_applicable"


@dataclass
class Summary:
    """What came of the evaluation of a store.

    Attributes:
        spans: how many spans were evaluated.
        without_answer: how many requests carry no answer though they ended well (their content was not captured).
        counts: evaluator to status to how many.
        scores: evaluator to the sum of its scores.
        passed: evaluator to how many passed.
    """

    spans: int = 0
    without_answer: int = 0
    counts: dict[str, dict[str, int]] = field(default_factory=dict)
    scores: dict[str, float] = field(default_factory=dict)
    passed: dict[str, int] = field(default_factory=dict)

    def add(self, evaluation: dict[str, Any]) -> None:
        """Count one evaluation."""
        name, status = evaluation["evaluator"], evaluation["status"]
        statuses = self.counts.setdefault(name, {})
        statuses[status] = statuses.get(status, 0) + 1
        if evaluation.get("score") is not None:
            self.scores[name] = self.scores.get(name, 0.0) + evaluation["score"]
            self.passed[name] = self.passed.get(name, 0) + bool(evaluation["passed"])


def evaluate_store(
    directory: str | os.PathLike[str],
    evaluators: Sequence[Evaluator],
    *,
    slices: SliceSettings | None = None,
    timeout_s: float = 30.0,
    explain: bool = True,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Summary:
    """Score the requests in a store that these evaluators have not scored yet, and keep the scores there.

    It can be interrupted at any time and goes on where it was: what is written stays. A time-out or an error of an
    evaluator is tried again by the next run; a request that it has no inputs for is not. Where an evaluator fails for
    several requests in a row, it gets a rest, and the requests until then are left to the next run.

    Args:
        directory: the store.
        evaluators: what scores.
        slices: the thresholds of cohort slices, which are kept with the scores; the defaults when None.
        timeout_s: how long one evaluation may take, in seconds.
        explain: keep explanations; they quote the answer, which the store has anyway.
        progress: is told how many spans are done, and of how many, after each batch.

    Raises:
        FileNotFoundError: there is no such directory.
        ImportError: DuckDB is not installed.
        OSError: the scores could not be written, or another evaluation of the store is running.
    """
    thresholds = slices or SliceSettings()
    names = [evaluator.name for evaluator in evaluators]
    runner = Runner(evaluators, timeout_s=timeout_s)
    connection = connect(directory)
    summary = Summary(without_answer=_count(connection, _UNREADABLE, []))
    with EvaluationWriter(directory) as writer:
        total = _count(connection, _DUE, [names])
        due = connection.execute(f"SELECT trace_id, span_id, attributes, names {_DUE}", [names])
        scored = (_evaluated(runner, names, row, explain, thresholds) for row in _rows(due))
        for batch in _batches(scored):
            lines = [line for of_one in batch for line in of_one]
            writer.write(lines)
            for line in lines:
                summary.add(line)
            summary.spans += len(batch)
            progress(summary.spans, total)
    return summary


_REQUESTS = "operation IN ('chat', 'text_completion')"
_ANSWER = f"""json_exists(attributes, '$."{semconv.OUTPUT_MESSAGES}"')"""
# HTTP's SERVER spans never have one, and what failed has none to capture.
_UNREADABLE = f"""FROM spans
    WHERE {_REQUESTS} AND NOT {_ANSWER} AND kind IS DISTINCT FROM 'SERVER' AND error_type IS NULL"""
# An evaluation that failed is not done; one that did not apply is.
_DUE = f"""
    FROM (SELECT trace_id, span_id, attributes FROM spans WHERE {_REQUESTS} AND {_ANSWER})
    LEFT JOIN (
        SELECT trace_id, span_id, list(DISTINCT evaluator) AS names FROM evaluations
        WHERE status IN ('ok', '{NOT_APPLICABLE}') GROUP BY ALL
    ) USING (trace_id, span_id)
    WHERE NOT list_has_all(coalesce(names, []), $1)"""


def _rows(result: Any) -> Iterator[Any]:
    while rows := result.fetchmany(_BATCH):
        yield from rows


def _batches(items: Iterable[list[Any]]) -> Iterator[list[list[Any]]]:
    batch, since = [], time.monotonic()
    for item in items:
        batch.append(item)
        if len(batch) == _BATCH or time.monotonic() - since >= _BATCH_S:
            yield batch
            batch, since = [], time.monotonic()
    if batch:
        yield batch


def _count(connection: Any, source: str, parameters: list[Any]) -> int:
    (count,) = connection.execute(f"SELECT count(*) {source}", parameters).fetchone()
    return int(count)


def _evaluated(
    runner: Runner, names: Sequence[str], row: Any, explain: bool, thresholds: SliceSettings
) -> list[dict[str, Any]]:
    trace_id, span_id, text, done = row
    wanted = [name for name in names if name not in (done or ())]
    slices: Sequence[str] = ()
    try:
        attributes = json.loads(text)
        said = said_in_attributes(attributes)
        slices = attributes.get(semconv.SLICES) or slices_of(sliced_request(said, attributes), thresholds)
        inputs = evaluator_inputs(said, attributes)
        outcomes = {outcome.name: outcome for outcome in runner.run(inputs, wanted)} if inputs else {}
    except Exception as error:  # a span that cannot be read is no reason to leave those behind it unscored
        outcomes = {name: Outcome(name, ERROR, error=type(error).__name__) for name in wanted}
    line = {"trace_id": trace_id, "span_id": span_id, "slices": [*slices]}
    return [line | {"evaluator": name} | fields(outcomes.get(name), explain) for name in wanted]


def fields(outcome: Outcome | None, explain: bool) -> dict[str, Any]:
    """Return what is kept of an outcome; None where the request has no inputs for the evaluator."""
    if outcome is None:
        return {"status": NOT_APPLICABLE}
    result = outcome.result
    if result is None:
        return {"status": outcome.status, "error": outcome.error}
    return {
        "status": outcome.status,
        "score": float(result.score),
        "label": result.label,
        "passed": result.passed,
        "threshold": result.threshold,
        "explanation": result.explanation if explain else None,
        "counts": dict(result.counts),
        "cost_usd": result.details.get("cost_usd"),
    }
