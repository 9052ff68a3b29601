"""Where the outcomes of a request's evaluations go: attributes of its span, events linked to it, measurements."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from opentelemetry import trace
from opentelemetry._logs import LogRecord, SeverityNumber
from opentelemetry.attributes import BoundedAttributes
from opentelemetry.sdk.trace import ReadableSpan

from traceai_vllm.content.limits import encodable
from traceai_vllm.evals.pipeline.runner import CIRCUIT_OPEN, ERROR, OK, TIMEOUT
from traceai_vllm.telemetry import semconv
from traceai_vllm.telemetry.log_events import has_named_events
from traceai_vllm.telemetry.metrics import CappedDimension, histogram

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from opentelemetry._logs import Logger
    from opentelemetry.metrics import Meter

    from traceai_vllm.evals.pipeline.runner import Outcome
    from traceai_vllm.evals.result import EvaluationResult

QUEUE_FULL = "queue_full"
SHUTDOWN = "shutdown"

# Of several, the status that says most about what is missing.
_WORST_FIRST = (ERROR, TIMEOUT, CIRCUIT_OPEN, OK)
_MAX_EXPLANATION = 1024


def status_of(outcomes: Sequence[Outcome]) -> str:
    """Return the status of a request: ``ok`` only if every evaluation that was due has a score."""
    found = {outcome.status for outcome in outcomes}
    return next((status for status in _WORST_FIRST if status in found), OK)


def span_attributes(outcomes: Sequence[Outcome], *, explain: bool) -> dict[str, Any]:
    """Return the attributes that a request's evaluations add to its span.

    Args:
        outcomes: what became of them.
        explain: also say why; explanations quote the answer, so only where spans may carry content.
    """
    attributes: dict[str, Any] = {semconv.EVALUATION_STATUS: status_of(outcomes)}
    for outcome in outcomes:
        if outcome.result is not None:
            prefix = semconv.EVALUATION_PREFIX + outcome.name
            attributes[prefix + ".score"] = float(outcome.result.score)
            attributes[prefix + ".label"] = encodable(outcome.result.label)
            attributes[prefix + ".passed"] = outcome.result.passed
            cost = outcome.result.details.get("cost_usd")
            if isinstance(cost, (int, float)):
                attributes[prefix + ".cost_usd"] = float(cost)
            if explain and outcome.result.explanation:
                attributes[prefix + ".explanation"] = encodable(outcome.result.explanation[:_MAX_EXPLANATION])
    failures = tuple(f"{outcome.name}:{outcome.status}" for outcome in outcomes if outcome.result is None)
    if failures:
        attributes[semconv.EVALUATION_FAILURES] = failures
    return attributes


def with_attributes(span: ReadableSpan, added: Mapping[str, Any]) -> ReadableSpan:
    """Return a copy of an ended span with more attributes; all else, counts of what was dropped too, is the same."""
    attributes = BoundedAttributes(attributes={**(span.attributes or {}), **added})
    attributes.dropped = span.dropped_attributes
    return ReadableSpan(
        name=span.name,
        context=span.get_span_context(),
        parent=span.parent,
        resource=span.resource,
        attributes=attributes,
        events=span.events,
        links=span.links,
        kind=span.kind,
        status=span.status,
        start_time=span.start_time,
        end_time=span.end_time,
        instrumentation_scope=span.instrumentation_scope,
    )


class Reporter:
    """Sends events and measurements of evaluations.

    Args:
        logger: where ``gen_ai.evaluation.result`` events go.
        meter: where measurements go.
        explain: whether events say why; explanations quote the answer.
    """

    def __init__(self, logger: Logger, meter: Meter, *, explain: bool) -> None:
        self._logger = logger if has_named_events("Scores are") else None
        self._explain = explain
        self._scores = histogram(meter, semconv.EVALUATION_SCORE)
        self._evaluations = _counter(meter, semconv.EVALUATIONS)
        self._requests = _counter(meter, semconv.EVALUATED_REQUESTS)
        self._dimensions = {name: CappedDimension() for name in (semconv.ROUTE, semconv.TRAFFIC_COHORT)}

    def report(self, span: ReadableSpan, outcomes: Sequence[Outcome], status: str) -> None:
        """Report a request whose span goes on to the exporter."""
        dimensions = self._of(span)
        self._requests.add(1, {**dimensions, semconv.EVALUATION_STATUS: status})
        for outcome in outcomes:
            labels = {**dimensions, semconv.EVALUATION_NAME: outcome.name}
            counted = {**labels, semconv.EVALUATION_STATUS: outcome.status}
            if outcome.result is not None:
                counted["passed"] = outcome.result.passed
                self._scores.record(outcome.result.score, labels)
                if self._logger is not None:
                    self._emit(self._logger, span, outcome.result)
            self._evaluations.add(1, counted)

    def _of(self, span: ReadableSpan) -> dict[str, Any]:
        attributes = span.attributes or {}
        found = {}
        for name in (semconv.MODEL_VARIANT, semconv.QUANTIZATION_FORMAT):
            if name in attributes:
                found[name] = str(attributes[name])
        for name, capped in self._dimensions.items():
            if name in attributes:
                found[name] = capped(str(attributes[name]))
        return found

    def _emit(self, logger: Logger, span: ReadableSpan, result: EvaluationResult) -> None:
        attributes: dict[str, Any] = {
            semconv.EVALUATION_NAME: result.name,
            semconv.EVALUATION_SCORE_VALUE: float(result.score),
            semconv.EVALUATION_SCORE_LABEL: encodable(result.label),
        }
        if self._explain and result.explanation:
            attributes[semconv.EVALUATION_EXPLANATION] = encodable(result.explanation[:_MAX_EXPLANATION])
        response_id = (span.attributes or {}).get(semconv.RESPONSE_ID)
        if response_id is not None:
            attributes[semconv.RESPONSE_ID] = response_id
        now = time.time_ns()
        context = span.get_span_context() or trace.INVALID_SPAN_CONTEXT
        logger.emit(
            LogRecord(
                timestamp=now,
                observed_timestamp=now,
                context=trace.set_span_in_context(trace.NonRecordingSpan(context)),
                severity_number=SeverityNumber.INFO,
                event_name=semconv.EVALUATION_EVENT,
                attributes=attributes,
            )
        )


def _counter(meter: Meter, metric: semconv.Metric) -> Any:
    return meter.create_counter(metric.name, unit=metric.unit, description=metric.meaning)
