"""Paired checks on the pairs in a store: what the gateway mirrored, or what was replayed."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from traceai_vllm.evals.paired import CHECKS, run_paired_checks
from traceai_vllm.evals.pipeline.inputs import evaluator_inputs, said_in_attributes
from traceai_vllm.evals.pipeline.runner import ERROR, OK, Outcome
from traceai_vllm.evals.pipeline.stored import NOT_APPLICABLE, Summary, fields
from traceai_vllm.evals.result import EvaluationResult
from traceai_vllm.evals.tool_selection import ToolSelectionAccuracy
from traceai_vllm.store import connect
from traceai_vllm.store.evaluations import EvaluationWriter
from traceai_vllm.telemetry import semconv

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterator

    from traceai_vllm.evals.paired import PairedSettings

_BATCH = 64
#: ToolSelectionAccuracy of an answer against the baseline's calls, under a name of its own: by its own name an answer
#: is judged alone.
TOOL_CALLS = "ToolCallAgreement"
_NAMES = (*CHECKS, TOOL_CALLS)
_TOOL_CALLS = ToolSelectionAccuracy()
# The gateway's names for the two answers to one request; its libraries are not needed here.
_PAIR = """attributes->>'$."traceai.pair.id"'"""
_ARM = """attributes->>'$."traceai.pair.arm"'"""
_ANSWERED = f"""json_exists(attributes, '$."{semconv.OUTPUT_MESSAGES}"')"""
_RESPONSE = f"""attributes->>'$."{semconv.RESPONSE_ID}"'"""
_VARIANT = f"""coalesce(attributes->>'$."{semconv.MODEL_VARIANT}"', attributes->>'$."llm.model_name"',
    attributes->>'$."{semconv.RESPONSE_MODEL}"')"""
# Without names of variants only what says its pair and arm; with them also what a proxy mirrored: one trace and one
# response id in both arms, where no span of the trace says that it is of a pair (as release.answers has it).
_DUE = f"""
    WITH arms AS (
        SELECT trace_id, span_id, route, attributes, {_PAIR} AS pair, {_RESPONSE} AS response,
            coalesce({_ARM}, CASE {_VARIANT} WHEN $baseline THEN 'baseline' WHEN $candidate THEN 'candidate' END) AS arm
        FROM spans WHERE {_PAIR} IS NOT NULL OR ($baseline IS NOT NULL AND {_ANSWERED})
    ), said AS (
        SELECT DISTINCT trace_id FROM arms WHERE pair IS NOT NULL AND arm IS NOT NULL
    ), answers AS (
        SELECT * REPLACE (coalesce(pair, CASE WHEN trace_id NOT IN (FROM said) THEN concat(trace_id, '-', response) END)
            AS pair) FROM arms WHERE {_ANSWERED} AND (pair IS NOT NULL OR response IS NOT NULL)
    ), done AS (
        SELECT trace_id, span_id, list(DISTINCT evaluator) AS names FROM evaluations
        WHERE status IN ('{OK}', '{NOT_APPLICABLE}') GROUP BY ALL
    )
    SELECT c.trace_id, c.span_id, c.arm, c.route, c.attributes, b.trace_id, b.span_id, b.attributes
    FROM answers b JOIN answers c USING (pair) LEFT JOIN done ON done.trace_id = c.trace_id AND done.span_id = c.span_id
    WHERE b.arm = 'baseline' AND c.arm IN ('candidate', 'baseline_repeat')
        AND NOT list_has_all(coalesce(names, []), $names)
    QUALIFY row_number() OVER (PARTITION BY c.trace_id, c.span_id) = 1"""


def evaluate_pairs(
    directory: str | os.PathLike[str],
    settings: PairedSettings,
    *,
    explain: bool = True,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Summary:
    """Check the pairs of answers in a store that have not been checked, and keep the scores there.

    The candidate's answer (and a repeated baseline's, which shows what is chance) gets the score of each check. The
    baseline's gets 1: it is what the other is compared with, and so fail rates of the two arms differ by what was lost.

    Args:
        directory: the store.
        settings: what is looked for.
        explain: keep explanations; they quote the answers, which the store has anyway.
        progress: is told how many pairs are done, and of how many, after each batch.

    Raises:
        FileNotFoundError: there is no such directory.
        ImportError: DuckDB is not installed.
        OSError: the scores could not be written, or another evaluation of the store is running.
    """
    connection = connect(directory)
    asked = {"names": list(_NAMES), "baseline": settings.baseline, "candidate": settings.candidate}
    summary = Summary()
    with EvaluationWriter(directory) as writer:
        (total,) = connection.execute(f"SELECT count(*) FROM ({_DUE})", asked).fetchone() or (0,)
        due = connection.execute(_DUE, asked)
        while rows := due.fetchmany(_BATCH):
            lines = [line for row in rows for line in _checked(row, settings, explain)]
            writer.write(lines)
            for line in lines:
                if line["label"] != _REFERENCE:
                    summary.add(line)
            summary.spans += len(rows)
            progress(summary.spans, total)
    return summary


_REFERENCE = "reference"


def _checked(row: Any, settings: PairedSettings, explain: bool) -> Iterator[dict[str, Any]]:
    trace_id, span_id, arm, route, attributes, baseline_trace_id, baseline_span_id, baseline_attributes = row
    found: dict[str, EvaluationResult] = {}
    failed = None
    try:
        before, after = _inputs(baseline_attributes), _inputs(attributes)
        if before and after:
            found = {result.name: result for result in _results(before, after, settings, route)}
    except Exception as error:  # the others of the store are checked all the same
        failed = type(error).__name__
    for name in _NAMES:
        result = found.get(name)
        outcome = Outcome(name, OK, result) if result else Outcome(name, ERROR, error=failed) if failed else None
        own = {"trace_id": trace_id, "span_id": span_id, "evaluator": name, "label": None}
        yield own | fields(outcome, explain)
        if result and arm == "candidate":
            reference = Outcome(name, OK, EvaluationResult(name, 1.0, _REFERENCE, result.threshold))
            theirs = {"trace_id": baseline_trace_id, "span_id": baseline_span_id, "evaluator": name}
            yield theirs | fields(reference, explain)


def _results(
    before: dict[str, Any], after: dict[str, Any], settings: PairedSettings, route: str | None
) -> Iterator[EvaluationResult]:
    yield from run_paired_checks(before["message"], after["message"], settings, route=route)
    calls = _TOOL_CALLS.evaluate(response=after["message"], baseline=before["message"], tools=after["tools"])
    if calls.label != "no_call":
        yield replace(calls, name=TOOL_CALLS)


def _inputs(attributes: str) -> dict[str, Any]:
    read = json.loads(attributes)
    return evaluator_inputs(said_in_attributes(read), read)
