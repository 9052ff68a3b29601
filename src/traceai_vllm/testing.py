"""For tests of code that uses vLLM with traceai-vllm: what it would have exported, kept in memory.

As a context manager::

    from traceai_vllm.testing import capture

    def test_support_is_tagged(llm):
        with capture() as captured:
            answer_support_question(llm)
        [request] = captured.requests
        assert request.attributes["route"] == "support"

or as a pytest fixture, with ``pytest_plugins = ["traceai_vllm.testing"]`` in ``conftest.py``::

    def test_support_is_tagged(llm, traceai_spans):
        answer_support_question(llm)
        assert traceai_spans.requests[0].attributes["route"] == "support"

Nothing leaves the process, and OpenTelemetry's global providers are not touched. Every request is captured,
whatever the environment says of sampling, and also with ``OTEL_SDK_DISABLED``.
"""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from opentelemetry.sdk import metrics as sdk_metrics
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs import export as logs_export
from opentelemetry.sdk._logs.export import SimpleLogRecordProcessor
from opentelemetry.sdk.environment_variables import OTEL_SDK_DISABLED
from opentelemetry.sdk.metrics.export import AggregationTemporality, InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_ON

from traceai_vllm.telemetry import semconv

if TYPE_CHECKING:
    from collections.abc import Iterator

    from opentelemetry.sdk.metrics.export import Metric
    from opentelemetry.sdk.trace import ReadableSpan

    Point = dict[str, Any]

_SCOPE = "traceai_vllm"
# What was recorded since the last look: so that clear() can forget what came before it.
_DELTA: dict[type, AggregationTemporality] = {
    sdk_metrics.Counter: AggregationTemporality.DELTA,
    sdk_metrics.Histogram: AggregationTemporality.DELTA,
    sdk_metrics.ObservableCounter: AggregationTemporality.DELTA,
}


class Capture:
    """Telemetry kept in memory; made by :func:`capture`.

    Attributes:
        tracer_provider: the SDK provider that spans go to; give it to other instrumentations to see their
            spans too.
        meter_provider: the SDK provider that measurements go to.
        logger_provider: the SDK provider that log records (evaluation events) go to.
    """

    def __init__(self) -> None:
        self._spans = InMemorySpanExporter()
        self._reader = InMemoryMetricReader(preferred_temporality=_DELTA)
        self._logs = _in_memory_log_exporter()
        # Tests are often run with it, so that nothing is exported.
        disabled = os.environ.pop(OTEL_SDK_DISABLED, None)
        try:
            self.tracer_provider = TracerProvider(sampler=ALWAYS_ON, shutdown_on_exit=False)
            self.meter_provider = sdk_metrics.MeterProvider([self._reader], shutdown_on_exit=False)
            self.logger_provider = LoggerProvider(shutdown_on_exit=False)
        finally:
            if disabled is not None:
                os.environ[OTEL_SDK_DISABLED] = disabled
        self.tracer_provider.add_span_processor(SimpleSpanProcessor(self._spans))
        self.logger_provider.add_log_record_processor(SimpleLogRecordProcessor(self._logs))
        self._points: dict[str, dict[str, Point]] = {}
        self._open = True

    @property
    def spans(self) -> list[ReadableSpan]:
        """All finished spans, in the order in which they ended."""
        return list(self._spans.get_finished_spans())

    @property
    def requests(self) -> list[ReadableSpan]:
        """The finished spans that are vLLM requests: no batches, no phases, no spans of others."""
        return [span for span in self.spans if _is_request(span)]

    @property
    def logs(self) -> list[Any]:
        """All log records, as the SDK's in-memory exporter keeps them."""
        return list(self._logs.get_finished_logs())

    def metrics(self) -> dict[str, list[Point]]:
        """Return what was recorded, by metric name: one dictionary for each set of attributes.

        Each has ``attributes`` and ``unit``, and either ``value`` (counters, gauges) or, for a histogram,
        ``count``, ``sum``, ``min``, ``max``, ``bucket_counts`` and ``explicit_bounds``.
        """
        self._collect()
        return {name: [dict(point) for point in points.values()] for name, points in self._points.items()}

    def clear(self) -> None:
        """Forget everything that was captured so far."""
        self._collect()
        self._points.clear()
        self._spans.clear()
        self._logs.clear()

    def close(self) -> None:
        """Take in the last measurements and end the meter provider; what was captured can still be read."""
        self._collect()
        if self._open:
            self._open = False
            self.meter_provider.shutdown()

    def _collect(self) -> None:
        data = self._reader.get_metrics_data() if self._open else None
        if data is None:
            return
        for resource_metrics in data.resource_metrics:
            for scope_metrics in resource_metrics.scope_metrics:
                for metric in scope_metrics.metrics:
                    self._take_in(metric)

    def _take_in(self, metric: Metric) -> None:
        temporality = getattr(metric.data, "aggregation_temporality", None)
        points = self._points.setdefault(metric.name, {})
        for data_point in metric.data.data_points:
            point = _plain(data_point, metric.unit)
            key = repr(sorted(point["attributes"].items()))
            if key in points and temporality == AggregationTemporality.DELTA:
                point = _added(points[key], point)
            points[key] = point


@contextmanager
def capture(**options: Any) -> Iterator[Capture]:
    """Instrument vLLM for the length of a ``with`` block, and keep all telemetry in memory.

    What was captured can be read after the block too.

    Args:
        **options: further arguments of :func:`traceai_vllm.instrument`, such as ``model_variant`` or
            ``phase_spans``.

    Raises:
        RuntimeError: vLLM is instrumented already; what it does would not be captured.
    """
    import traceai_vllm

    if traceai_vllm.VLLMInstrumentor().is_instrumented_by_opentelemetry:
        raise RuntimeError("vLLM is instrumented already: call traceai_vllm.uninstrument() before capture()")
    captured = Capture()
    traceai_vllm.instrument(
        tracer_provider=captured.tracer_provider,
        meter_provider=captured.meter_provider,
        logger_provider=captured.logger_provider,
        **options,
    )
    try:
        yield captured
    finally:
        traceai_vllm.uninstrument()
        captured.close()


try:
    import pytest
except ImportError:  # capture() alone needs no pytest
    pass
else:

    @pytest.fixture
    def traceai_spans() -> Iterator[Capture]:
        """Instrument vLLM for the test, and give the test what is captured."""
        with capture() as captured:
            yield captured


def _is_request(span: ReadableSpan) -> bool:
    scope = span.instrumentation_scope
    return scope is not None and scope.name == _SCOPE and semconv.OPERATION_NAME in (span.attributes or {})


def _plain(data_point: Any, unit: str | None) -> Point:
    point: Point = {"attributes": dict(data_point.attributes or {}), "unit": unit or ""}
    if hasattr(data_point, "value"):
        return {**point, "value": data_point.value}
    return {
        **point,
        "count": data_point.count,
        "sum": data_point.sum,
        "min": data_point.min,
        "max": data_point.max,
        "bucket_counts": list(data_point.bucket_counts),
        "explicit_bounds": list(data_point.explicit_bounds),
    }


def _added(old: Point, new: Point) -> Point:
    if "value" in new:
        return {**new, "value": old["value"] + new["value"]}
    return {
        **new,
        "count": old["count"] + new["count"],
        "sum": old["sum"] + new["sum"],
        "min": min(old["min"], new["min"]),
        "max": max(old["max"], new["max"]),
        "bucket_counts": [a + b for a, b in zip(old["bucket_counts"], new["bucket_counts"], strict=True)],
    }


def _in_memory_log_exporter() -> Any:
    # Later releases of the SDK have renamed it, and warn of the old name.
    names = ("InMemoryLogRecordExporter", "InMemoryLogExporter")
    name = next(name for name in names if hasattr(logs_export, name))
    return getattr(logs_export, name)()
