"""Events and measurements of evaluations, with the OpenTelemetry that is installed."""

from __future__ import annotations

from typing import Any

import pytest
from opentelemetry import _logs
from opentelemetry._logs import NoOpLogger
from opentelemetry.metrics import NoOpMeter

from tests.support.records import in_memory_metrics, in_memory_tracing, points
from traceai_vllm.evals import JSONValidation
from traceai_vllm.evals.pipeline.reporting import Reporter
from traceai_vllm.evals.pipeline.runner import OK, Outcome
from traceai_vllm.telemetry import metrics, semconv


def test_where_histograms_take_no_boundaries_evaluators_run_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before opentelemetry-api 1.30 they do not, and vLLM 0.8.5 holds it below 1.27: no span was ever scored there."""
    made: list[str] = []

    class OldMeter(NoOpMeter):
        def create_histogram(self, name: str, unit: str = "", description: str = "") -> Any:
            made.append(name)
            return super().create_histogram(name, unit, description)

    monkeypatch.setattr(metrics, "_TAKES_BOUNDARIES", False)

    Reporter(NoOpLogger("test"), OldMeter("test"), explain=False)

    assert made == [semconv.EVALUATION_SCORE.name]


def test_where_events_have_no_names_scores_are_measured_all_the_same(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Before opentelemetry-api 1.35 there are none: a warning says so, and every evaluator of a request is counted."""

    class OldLogRecord:
        def __init__(self, timestamp: int | None = None, observed_timestamp: int | None = None) -> None:
            raise AssertionError("it takes neither a name nor a context")

    monkeypatch.setattr(_logs, "LogRecord", OldLogRecord)
    provider, exporter = in_memory_tracing()
    provider.get_tracer("test").start_span("chat").end()
    metering, reader = in_memory_metrics()
    result = JSONValidation({"type": "object"}).evaluate(response="{}")
    outcomes = [Outcome(name, OK, result) for name in ("one", "two")]

    Reporter(NoOpLogger("test"), metering.get_meter("test"), explain=False).report(
        exporter.get_finished_spans()[0], outcomes, OK
    )

    [message] = caplog.messages
    assert message.startswith("Scores are not sent as events: that needs opentelemetry-api 1.35")
    measured = {point.attributes[semconv.EVALUATION_NAME] for point in points(reader)[semconv.EVALUATION_SCORE.name]}
    assert measured == {"one", "two"}


@pytest.mark.parametrize("explain", [False, True])
def test_an_event_has_the_conventions_names(explain: bool) -> None:
    """And says why only where events may carry what the explanation quotes."""
    events: list[Any] = []

    class Kept(NoOpLogger):
        def emit(self, record: Any = None, **_: Any) -> None:
            events.append(record)

    provider, exporter = in_memory_tracing()
    provider.get_tracer("test").start_span("chat", attributes={"gen_ai.response.id": "chatcmpl-1"}).end()
    [span] = exporter.get_finished_spans()
    result = JSONValidation({"type": "object"}).evaluate(response="[]")
    Reporter(Kept("test"), NoOpMeter("test"), explain=explain).report(span, [Outcome(result.name, OK, result)], OK)

    [event] = events
    assert event.event_name == "gen_ai.evaluation.result"
    assert (event.trace_id, event.span_id) == (span.context.trace_id, span.context.span_id)
    why = {"gen_ai.evaluation.explanation": result.explanation} if explain else {}
    assert result.explanation
    assert dict(event.attributes) == {
        "gen_ai.evaluation.name": "JSONValidation",
        "gen_ai.evaluation.score.value": result.score,
        "gen_ai.evaluation.score.label": result.label,
        "gen_ai.response.id": "chatcmpl-1",
        **why,
    }
