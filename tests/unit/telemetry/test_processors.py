"""Processors are added beside those of an application's provider, whatever its own method makes of it."""

from __future__ import annotations

from typing import Any

from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import NoOpTracerProvider

from traceai_vllm.telemetry.processors import add_span_processor


class ReplacingProvider(TracerProvider):
    """As phoenix.otel's and FutureAGI's: the first processor that is added replaces the default one."""

    def __init__(self, default: Any) -> None:
        super().__init__(shutdown_on_exit=False)
        super().add_span_processor(default)

    def add_span_processor(self, span_processor: Any) -> None:
        self._active_span_processor.shutdown()
        self._active_span_processor._span_processors = ()
        super().add_span_processor(span_processor)


def test_the_applications_own_exporter_stays() -> None:
    """Both get the span."""
    theirs, ours = InMemorySpanExporter(), InMemorySpanExporter()
    provider = ReplacingProvider(SimpleSpanProcessor(theirs))

    assert add_span_processor(provider, SimpleSpanProcessor(ours))
    provider.get_tracer("app").start_span("work").end()

    assert len(theirs.get_finished_spans()) == len(ours.get_finished_spans()) == 1


def test_a_provider_that_takes_none_is_told_apart() -> None:
    """The caller can say that something will be missing."""
    assert not add_span_processor(NoOpTracerProvider(), SimpleSpanProcessor(InMemorySpanExporter()))
