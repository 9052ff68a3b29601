"""Where a finished request goes: its span, then its measurements."""

from __future__ import annotations

from typing import TYPE_CHECKING

from traceai_vllm.guard import Guard
from traceai_vllm.telemetry.engine_metrics import PreemptionCounter
from traceai_vllm.telemetry.metrics import RequestMetrics
from traceai_vllm.telemetry.spans import SpanBuilder

if TYPE_CHECKING:
    from opentelemetry.metrics import Meter
    from opentelemetry.trace import Tracer

    from traceai_vllm.record import EndedRequest
    from traceai_vllm.telemetry.content import ContentExport


_SPAN = Guard("the span of a request")
_METRICS = Guard("the metrics of a request")
_EVENT = Guard("the content event of a request")


class Pipeline:
    """Takes each finished request once.

    Args:
        tracer: where spans are started.
        meter: where measurements are recorded.
        phase_spans: also make child spans for queue, prefill and decode.
        content: sends the content of requests; None when it is not captured, or only scored.
        hand_over: let span processors see the record of the request whose span ends, for evaluators.
    """

    def __init__(
        self,
        tracer: Tracer,
        meter: Meter,
        *,
        phase_spans: bool = False,
        content: ContentExport | None = None,
        hand_over: bool = False,
    ) -> None:
        self._content = content if content is not None and content.on_event else None
        self.spans = SpanBuilder(
            tracer,
            phase_spans=phase_spans,
            content=content if content is not None and content.on_span else None,
            hand_over=hand_over,
        )
        self._metrics = RequestMetrics(meter)
        self._preemptions = PreemptionCounter(meter)

    def finish(self, request: EndedRequest) -> None:
        """Turn a request that has ended into telemetry."""
        span = None
        try:
            span = self.spans.emit(request)
        except Exception as error:
            _SPAN.caught(error)
        if self._metrics.wanted:
            with _METRICS:
                record = request.record()
                self._metrics.record(record, span)
                self._preemptions.record(record)
        if self._content is not None:
            with _EVENT:
                record = request.record()
                self._content.emit(record, span, self.spans.attributes(record))
