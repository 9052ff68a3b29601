"""Providers of the OpenTelemetry SDK that the arms record into: the same kind for all of them."""

from __future__ import annotations

import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from opentelemetry import trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from opentelemetry.sdk.trace import ReadableSpan
    from opentelemetry.sdk.trace.sampling import Sampler


class NullExporter(SpanExporter):
    """Takes spans, counts them and forgets them."""

    def __init__(self) -> None:
        self.spans = 0
        self.last: ReadableSpan | None = None

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Count the spans."""
        self.spans += len(spans)
        self.last = spans[-1]
        return SpanExportResult.SUCCESS

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Return True: nothing is kept back."""
        return True


class Sink:
    """A tracer provider with a batch processor, and what came out of it.

    Args:
        exporter: where the batches go; counted and forgotten when None.
        sampler: the SDK's default (record everything) when None.
    """

    def __init__(self, exporter: SpanExporter | None = None, sampler: Sampler | None = None) -> None:
        self.exporter = exporter or NullExporter()
        self.provider = TracerProvider(sampler=sampler)
        self.provider.add_span_processor(BatchSpanProcessor(self.exporter))

    def flush(self) -> None:
        """Export everything that is queued, in the caller's time."""
        if not self.provider.force_flush():
            raise RuntimeError("spans could not be exported in time")

    def count(self) -> int | None:
        """Return how many spans were exported so far; None where the exporter does not count."""
        return self.exporter.spans if isinstance(self.exporter, NullExporter) else None


def meter_provider() -> MeterProvider:
    """Return an SDK meter provider with a reader that collects when asked."""
    return MeterProvider(metric_readers=[InMemoryMetricReader()])


class SwitchProvider(trace.TracerProvider):
    """A global tracer provider whose destination can be changed between rounds.

    vLLM's own tracing takes the global provider for each span, and OpenTelemetry lets the global one be set only once.
    """

    def __init__(self) -> None:
        self.target: trace.TracerProvider = trace.NoOpTracerProvider()

    def get_tracer(self, *args: Any, **kwargs: Any) -> trace.Tracer:
        """Return a tracer of the provider in force."""
        return self.target.get_tracer(*args, **kwargs)


@contextmanager
def otlp_receiver() -> Iterator[str]:
    """Run a process that takes spans over OTLP/gRPC and forgets them; yields its endpoint."""
    command = [sys.executable, "-m", "benchmarks.engine.receiver"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stdin=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield f"http://127.0.0.1:{int(process.stdout.readline())}"
        finally:
            process.terminate()


def otlp_sink(endpoint: str) -> Sink:
    """Return a sink that really exports, over OTLP/gRPC."""
    from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter

    return Sink(OTLPSpanExporter(endpoint=endpoint, insecure=True))
