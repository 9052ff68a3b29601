"""What users say of answers, as spans."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ParentBased
from opentelemetry.trace import SpanContext, TraceFlags

import traceai_vllm
from tests.support.records import in_memory_metrics, points
from traceai_vllm.content import ContentOptions
from traceai_vllm.telemetry.feedback import FeedbackSpans, Kind, feedback_id, trace_id_of

TRACE = "0af7651916cd43dd8448eb211c80319c"


@pytest.fixture
def exporter(monkeypatch: pytest.MonkeyPatch) -> InMemorySpanExporter:
    exporter = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr("opentelemetry.trace._TRACER_PROVIDER", provider)
    return exporter


def attributes(exporter: InMemorySpanExporter) -> dict[str, Any]:
    [span] = exporter.get_finished_spans()
    assert span.name == "feedback"
    return dict(span.attributes or {})


def test_feedback_names_its_answer_by_response_and_trace(exporter: InMemorySpanExporter) -> None:
    """Days later, in another process: the ids are all that is known, and are enough to join it."""
    traceai_vllm.feedback("thumbs_down", response_id="chatcmpl-1", trace_id=TRACE)

    found = attributes(exporter)
    assert found["traceai.feedback.kind"] == "thumbs_down"
    assert (found["gen_ai.response.id"], found["traceai.feedback.trace_id"]) == ("chatcmpl-1", TRACE)


def test_inside_the_answers_span_no_id_is_needed(exporter: InMemorySpanExporter) -> None:
    """The feedback is then in the same trace."""
    from opentelemetry import trace

    with trace.get_tracer("application").start_as_current_span("answer") as span:
        traceai_vllm.feedback(Kind.ESCALATION)

    feedback, answer = exporter.get_finished_spans()
    assert feedback.parent.span_id == answer.context.span_id
    assert feedback.attributes["traceai.feedback.trace_id"] == f"{span.get_span_context().trace_id:032x}"


@pytest.mark.parametrize(
    "wrong",
    [
        {"kind": "meh", "response_id": "x"},
        {"kind": "thumbs_up"},
        {"kind": "thumbs_up", "trace_id": "12"},
        {"kind": "thumbs_up", "trace_id": "z" * 32},
    ],
)
def test_what_names_no_answer_or_kind_is_refused(exporter: InMemorySpanExporter, wrong: dict[str, str]) -> None:
    """With an error that says what to give."""
    with pytest.raises(ValueError, match=r"use one of|needs response_id|32 hexadecimal digits"):
        traceai_vllm.feedback(**wrong)
    assert exporter.get_finished_spans() == ()


def test_a_correction_is_content(exporter: InMemorySpanExporter, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its text is kept only where content is, and is redacted like it."""
    traceai_vllm.feedback("correction", response_id="r", text="write to ann@example.org")
    assert "traceai.feedback.text" not in attributes(exporter)
    exporter.clear()
    monkeypatch.setenv("OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT", "SPAN_ONLY")
    traceai_vllm.feedback("correction", response_id="r", text="write to ann@example.org")
    text = attributes(exporter)["traceai.feedback.text"]
    assert text.startswith("write to ")
    assert "ann@example.org" not in text


def test_feedback_counts_though_its_answer_was_not_sampled() -> None:
    """A parent-based sampler would drop it with the answer."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider(sampler=ParentBased(ALWAYS_OFF), shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    about = SpanContext(trace_id_of(TRACE), 7, is_remote=False, trace_flags=TraceFlags(0))
    FeedbackSpans(provider, content=ContentOptions()).record(
        Kind.THUMBS_UP, feedback_id="f", trace_id=None, response_id=None, about=about
    )
    assert len(exporter.get_finished_spans()) == 1


def test_feedback_is_counted_by_what_it_is_about() -> None:
    """By kind, variant, route and cohort, and by nothing that a user may choose."""
    metering, reader = in_memory_metrics()
    known = {"model_variant": "m-int4", "quantization_format": "int4", "route": "support", "traffic_cohort": "a"}
    spans = FeedbackSpans(TracerProvider(shutdown_on_exit=False), metering)
    for number in range(2):
        spans.record(
            Kind.THUMBS_DOWN,
            feedback_id=str(number),
            trace_id=None,
            response_id=f"chatcmpl-{number}",
            attributes={**known, "agent_step": "plan"},
        )
    [point] = points(reader)["traceai.feedback.count"]
    assert (dict(point.attributes), point.value) == ({**known, "traceai.feedback.kind": "thumbs_down"}, 2)


@given(st.text(), st.none() | st.text(), st.none() | st.text(), st.none() | st.text())
def test_the_same_feedback_has_the_same_id(
    kind: str, trace: str | None, response: str | None, text: str | None
) -> None:
    """And a caller's own id makes it the same, whatever it says."""
    assert feedback_id(kind, trace, response, text, None) == feedback_id(kind, trace, response, text, None)
    assert feedback_id(kind, trace, response, text, "mine") == feedback_id("", None, None, None, "mine")
    assert feedback_id(kind, trace, response, "a", None) != feedback_id(kind, trace, response, "b", None)


def test_half_a_surrogate_pair_is_no_reason_to_fail(
    exporter: InMemorySpanExporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A page's JSON may bring one, in a correction or an id; no exporter could encode it."""
    monkeypatch.setenv("OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT", "SPAN_ONLY")

    traceai_vllm.feedback("correction", response_id="a\ud800", text="b\ud800")

    found = attributes(exporter)
    assert (found["gen_ai.response.id"], found["traceai.feedback.text"]) == ("a?", "b?")
