"""``vllm serve`` with OpenTelemetry's own FastAPI instrumentation and nothing of ours, as a program.

One SERVER span for each request and none for its parts: what every trace of HTTP requests costs, whoever makes the
spans below it. Spans go to the endpoint that the ``OTEL_*`` variables name, through the SDK's own batch processor and
exporter.
"""

from __future__ import annotations

from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor
from opentelemetry.metrics import NoOpMeterProvider
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor


def main() -> None:
    """Serve what the command line says."""
    provider = TracerProvider()
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    # Before vLLM is imported: the instrumentation replaces the name of the class.
    FastAPIInstrumentor().instrument(
        tracer_provider=provider,
        meter_provider=NoOpMeterProvider(),
        exclude_spans=["receive", "send"],
        excluded_urls="health",
    )
    from vllm.entrypoints.cli.main import main as serve

    serve()


if __name__ == "__main__":  # the engine core's process imports this file again
    main()
