"""From a request's record to its span.

The span is built once, when the request has ended, with the start time, parent and tags of the moment it was admitted:
no span can be left open. A sampler is asked then, and may decide on every attribute of the request. Where the request
before was sampled off, attributes are only made when somebody looks at them: they take longer than all the rest of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from opentelemetry import trace
from opentelemetry.trace import SpanKind, Status, StatusCode

from traceai_vllm.content.limits import encodable
from traceai_vllm.guard import Guard
from traceai_vllm.telemetry.attributes import (
    Attributes,
    batch_attributes,
    request_attributes,
    variant_attributes,
)
from traceai_vllm.telemetry.handover import ending

if TYPE_CHECKING:
    from collections.abc import Callable, ItemsView, Iterator

    from opentelemetry.context import Context
    from opentelemetry.trace import Span, Tracer

    from traceai_vllm.record import EndedRequest, RequestRecord, Variant
    from traceai_vllm.telemetry.content import ContentExport

_ATTRIBUTES = Guard("the attributes of a span")
_NANOSECONDS = 1_000_000_000
MAX_DESCRIPTION = 256


class SpanBuilder:
    """Builds the spans of requests and batches.

    Args:
        tracer: where the spans are started.
        phase_spans: also make child spans ``queue``, ``prefill`` and ``decode`` where vLLM reported these times.
        content: also put the content of requests on their spans; None: leave it alone.
        hand_over: let span processors see the record of the request whose span ends, for evaluators.
    """

    def __init__(
        self,
        tracer: Tracer,
        *,
        phase_spans: bool = False,
        content: ContentExport | None = None,
        hand_over: bool = False,
    ) -> None:
        self._tracer = tracer
        self._hand_over = hand_over
        self._content = content
        self._phase_spans = phase_spans
        self._last_variant: tuple[Variant | None, Attributes] = (None, {})
        self._recorded = False

    def emit(self, request: EndedRequest) -> Span:
        """Start and end the span of a request that has ended, and return it."""
        span = self._tracer.start_span(
            f"{request.operation} {request.variant.model or 'unknown'}",
            request.context,
            SpanKind.INTERNAL,
            self._span_attributes(request) if self._recorded else _LazyAttributes(self._span_attributes, request),
            start_time=request.start_ns,
        )
        token = None
        try:
            recorded = self._recorded = span.is_recording()
            if recorded:
                record = request.record()
                if record.error_type is not None:
                    span.set_status(error_status(record.error_type, record.error_message))
                if self._phase_spans:
                    self._emit_phases(record, span)
                if self._hand_over:
                    token = ending.set(record)
        finally:
            span.end(request.end_ns)
            if token is not None:
                ending.reset(token)
        return span

    def _span_attributes(self, request: EndedRequest) -> Attributes:
        try:
            record = request.record()
            attributes = dict(self.attributes(record))
            if self._content is not None:
                attributes.update(self._content.span_attributes(record))
        except Exception as error:  # it costs the attributes, not the span
            _ATTRIBUTES.caught(error)
            return {}
        return attributes

    def attributes(self, record: RequestRecord) -> Attributes:
        """Return the attributes of a request, without its content."""
        # An engine's variant does not change: its attributes are made once, not once per request.
        variant, attributes = self._last_variant
        if variant is not record.variant:
            attributes = variant_attributes(record.variant)
            self._last_variant = (record.variant, attributes)
        return request_attributes(record, attributes)

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


class _LazyAttributes(Mapping[str, Any]):
    """Attributes that are made when somebody looks at them.

    Args:
        make: makes them.
        request: the request that they are made of.
    """

    __slots__ = ("_made", "_make", "_request")

    def __init__(self, make: Callable[[EndedRequest], Attributes], request: EndedRequest) -> None:
        self._make = make
        self._request = request
        self._made: Attributes | None = None

    def _get(self) -> Attributes:
        if self._made is None:
            self._made = self._make(self._request)
        return self._made

    def __getitem__(self, key: str) -> Any:
        return self._get()[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._get())

    def __len__(self) -> int:
        return len(self._get())

    def items(self) -> ItemsView[str, Any]:
        """Return the items of the dictionary itself: Mapping's own view looks every key up again."""
        return self._get().items()

    def copy(self) -> Attributes:
        """Return them as a dictionary; SDKs before 1.43 take what samplers return for one."""
        return dict(self._get())


def error_status(error_type: str, message: str | None) -> Status:
    """Return the ERROR status of a span, with the message cut to 256 characters.

    An exporter loses all spans of a batch when it cannot encode a status; of attributes it only loses that one.
    """
    return Status(StatusCode.ERROR, encodable((message or error_type)[:MAX_DESCRIPTION]))
