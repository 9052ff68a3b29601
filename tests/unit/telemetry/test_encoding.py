"""Spans as OTLP's bytes: the same message that the exporter's own encoder makes."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter as GrpcExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanLimits, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import (
    Link,
    NonRecordingSpan,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    TraceState,
    set_span_in_context,
)

from tests.support.otlp_receiver import OtlpReceiver
from traceai_vllm import guard
from traceai_vllm.telemetry import encoding
from traceai_vllm.telemetry.encoding import encode_quickly, encoded

REMOTE = SpanContext(7 << 64, 5, is_remote=True, trace_flags=TraceFlags(1), trace_state=TraceState([("a", "b")]))
PLAIN = st.one_of(
    st.text(max_size=40),
    st.booleans(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False),
)
VALUES = st.one_of(
    PLAIN,
    st.lists(st.text(max_size=5), max_size=3),
    st.lists(st.booleans(), max_size=3),
    st.lists(st.integers(-5, 5), max_size=3),
    st.lists(st.floats(allow_nan=False), max_size=3),
)


def finished(*made: dict[str, Any], limits: SpanLimits | None = None) -> list[ReadableSpan]:
    """Return spans of two resources and scopes; each is made with these arguments of ``start_span``."""
    exporter = InMemorySpanExporter()
    for name in ("one", "two"):
        resource = Resource({"service.name": name}, "https://schema.example/1")
        provider = TracerProvider(resource=resource, span_limits=limits, shutdown_on_exit=False)
        provider.add_span_processor(SimpleSpanProcessor(exporter))
        for scope in ("a", "b"):
            tracer = provider.get_tracer(scope, "1.0", schema_url="https://schema.example/2")
            for wanted in made:
                status = wanted.pop("status", None)
                with tracer.start_as_current_span(**wanted) as span:
                    tracer.start_span("below").end()
                    if status is not None:
                        span.set_status(status)
                wanted["status"] = status
    return list(exporter.get_finished_spans())


def exporter_to(receiver: OtlpReceiver, protocol: str) -> Any:
    if protocol == "grpc":
        return GrpcExporter(receiver.grpc_endpoint, insecure=True)
    return OTLPSpanExporter(receiver.http_endpoint + "/v1/traces")


def same(spans: list[ReadableSpan]) -> bool:
    """Whether the bytes say what the exporter's own encoder says."""
    return bool(ExportTraceServiceRequest.FromString(encoded(spans)) == encode_spans(spans))


@given(st.dictionaries(st.text(min_size=1, max_size=10), VALUES, max_size=8), st.text(max_size=200))
def test_attributes_of_all_kinds(attributes: dict[str, Any], name: str) -> None:
    """Texts of any length and script, numbers to their limits, lists."""
    assert same(finished({"name": name, "attributes": attributes}))


def test_equal_values_of_another_kind_stay_what_they_are() -> None:
    """What is remembered of one attribute is not taken for another."""
    values = [1, True, 1.0, "1", (1,), (True,), (1.0,), 0, False, 0.0, -0.0, "", (), -1]
    assert same(finished(*({"name": "s", "attributes": {"k": value}} for value in values)))


def test_parents_states_kinds_and_what_is_rare() -> None:
    """Remote parents with trace state, all kinds and statuses, links, events, attributes left out for their number."""
    below = set_span_in_context(NonRecordingSpan(REMOTE))
    kinds = [{"name": kind.name, "kind": kind, "context": below} for kind in SpanKind]
    statuses = [
        {"name": "s", "status": status}
        for status in (Status(StatusCode.OK), Status(StatusCode.ERROR), Status(StatusCode.ERROR, "it broke é"))
    ]
    linked = {"name": "linked", "links": [Link(REMOTE, {"x": 1})]}
    many = {"name": "many", "attributes": {str(i): i for i in range(200)}}
    assert same(finished(*kinds, *statuses, linked, many, limits=SpanLimits(max_span_attributes=3)))

    [span, *_] = finished({"name": "with an event"})
    event = TracerProvider(shutdown_on_exit=False).get_tracer("x").start_span("e")
    event.add_event("something", {"k": "v"})
    event.end()
    assert same([span, event])  # type: ignore[list-item]


def test_what_cannot_be_sent_costs_its_attribute_alone() -> None:
    """As with the exporter's own encoder."""
    spans = finished({"name": "s", "attributes": {"too long": 2**70, "half": "\ud800", "fine": 1}})
    assert same(spans)


@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_an_exporter_sends_these_bytes(protocol: str) -> None:
    """Through the real exporters to a receiver."""
    spans = finished({"name": "sent", "attributes": {"k": "v"}})
    with OtlpReceiver() as receiver:
        exporter = exporter_to(receiver, protocol)
        encode_quickly(exporter)
        assert exporter.export(spans) is SpanExportResult.SUCCESS
        exporter.shutdown()
        assert len(receiver.spans(at_least=len(spans))) == len(spans)


@pytest.mark.internal_errors_expected
@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_spans_are_sent_all_the_same_when_the_encoder_fails(protocol: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Then the exporter's own encodes them; nothing is lost by ours, and it is counted."""

    def broken(spans: object) -> bytes:
        raise RuntimeError

    monkeypatch.setattr(encoding, "encoded", broken)
    spans = finished({"name": "sent"})
    with OtlpReceiver() as receiver:
        exporter = exporter_to(receiver, protocol)
        encode_quickly(exporter)
        assert exporter.export(spans) is SpanExportResult.SUCCESS
        exporter.shutdown()
        assert len(receiver.spans(at_least=len(spans))) == len(spans)
    assert any("encoding spans for OTLP" in key for key in guard.internal_errors())


def test_an_exporter_that_is_made_otherwise_is_left_alone() -> None:
    """One without that step sends as it did."""

    class Other:
        def export(self, spans: object) -> str:
            return "sent"

    other = Other()
    encode_quickly(other)
    assert other.export(()) == "sent"
