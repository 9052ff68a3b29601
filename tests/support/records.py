"""Records and tracers for unit tests."""

from __future__ import annotations

from typing import Any

from opentelemetry.context import Context
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from traceai_vllm.record import RequestRecord, Variant

VARIANT = Variant(
    model_variant="llama-3.1-70b-awq",
    quantization_format="int4",
    model="llama-3.1-70b",
    method="awq",
    weights="int4",
    activations="fp16",
    kv_cache="fp16",
    group_size=128,
)
SECOND = 1_000_000_000


def finished_record(**changes: Any) -> RequestRecord:
    """Return the record of a chat request that took two seconds and generated five tokens."""
    fields: dict[str, Any] = {
        "context": Context(),
        "variant": VARIANT,
        "operation": "chat",
        "start_ns": 10 * SECOND,
        "end_ns": 12 * SECOND,
        "request_id": "chatcmpl-1",
        "max_tokens": 5,
        "temperature": 0.0,
        "input_tokens": 7,
        "output_tokens": 5,
        "cached_tokens": 0,
        "finish_reasons": ["length"],
        "time_to_first_token": 0.5,
        "e2e": 2.0,
    }
    return RequestRecord(**{**fields, **changes})


def in_memory_tracing(**options: Any) -> tuple[TracerProvider, InMemorySpanExporter]:
    """Return a tracer provider and the exporter that keeps its spans."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider(**options)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    return provider, exporter


def in_memory_metrics() -> tuple[MeterProvider, InMemoryMetricReader]:
    """Return a meter provider and the reader that collects its points."""
    reader = InMemoryMetricReader()
    return MeterProvider(metric_readers=[reader]), reader


def points(reader: InMemoryMetricReader) -> dict[str, list[Any]]:
    """Return what a reader collected: metric name to data points."""
    data = reader.get_metrics_data()
    found: dict[str, list[Any]] = {}
    for resource in data.resource_metrics if data else []:
        for scope in resource.scope_metrics:
            for metric in scope.metrics:
                found.setdefault(metric.name, []).extend(metric.data.data_points)
    return found
