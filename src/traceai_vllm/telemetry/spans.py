"""From a request's record to its span.

The span is built once, when the request has ended, with the start time, parent and tags of the moment it was admitted:
no span can be left open. What a sampler may decide on is given at the start, the rest only when the span is recorded.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from opentelemetry import trace
from opentelemetry.trace import SpanKind, Status, StatusCode

from traceai_vllm.telemetry.attributes import (
    Attributes,
    admission_attributes,
    batch_attributes,
    result_attributes,
    variant_attributes,
)

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.trace import Span, Tracer

    from traceai_vllm.record import RequestRecord, Variant

_NANOSECONDS = 1_000_000_000
MAX_DESCRIPTION = 256


class SpanBuilder:
    """Builds the spans of requests and batches.

    Args:
        tracer: where the spans are started.
        phase_spans: also make child spans ``queue``, ``prefill`` and ``decode`` where vLLM reported these times.
    """

    def __init__(self, tracer: Tracer, *, phase_spans: bool = False) -> None:
        self._tracer = tracer
        self._phase_spans = phase_spans
        self._variants: dict[Variant, Attributes] = {}

    def emit(self, record: RequestRecord) -> Span:
        """Start and end the span of a request that has ended, and return it."""
        span = self._tracer.start_span(
            f"{record.operation} {record.variant.model or 'unknown'}",
            context=record.context,
            kind=SpanKind.INTERNAL,
            attributes=admission_attributes(record, self._variant_attributes(record.variant)),
            start_time=record.start_ns,
        )
        try:
            if span.is_recording():
                self._fill(span, record)
        finally:
            span.end(record.end_ns)
        return span

    def _fill(self, span: Span, record: RequestRecord) -> None:
        span.set_attributes(result_attributes(record))
        if record.error_type is not None:
            span.set_status(error_status(record.error_type, record.error_message))
        if self._phase_spans:
            self._emit_phases(record, span)

    def start_batch(self, entry_point: str, variant: Variant, ctx: Context) -> Span:
        """Start the span round an offline batch; its caller ends it."""
        return self._tracer.start_span(
            f"{entry_point} {variant.model or 'unknown'}",
            context=ctx,
            kind=SpanKind.INTERNAL,
            attributes=batch_attributes(entry_point, variant, ctx),
        )

    def _emit_phases(self, record: RequestRecord, parent: Span) -> None:
        ctx = trace.set_span_in_context(parent, record.context)
        start = record.start_ns
        for name, seconds in (
            ("queue", record.time_in_queue),
            ("prefill", record.time_in_model_prefill),
            ("decode", record.time_in_model_decode),
        ):
            if seconds is None:
                continue
            end = start + int(seconds * _NANOSECONDS)
            self._tracer.start_span(name, context=ctx, kind=SpanKind.INTERNAL, start_time=start).end(end)
            start = end

    def _variant_attributes(self, variant: Variant) -> Attributes:
        # An engine's variant does not change: its attributes are made once, not once per request.
        attributes = self._variants.get(variant)
        if attributes is None:
            attributes = self._variants[variant] = variant_attributes(variant)
        return attributes


def error_status(error_type: str, message: str | None) -> Status:
    """Return the ERROR status of a span, with the message cut to 256 characters."""
    return Status(StatusCode.ERROR, (message or error_type)[:MAX_DESCRIPTION])
