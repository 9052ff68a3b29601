"""The floor: the least that could leave the same telemetry, put at the same place in vLLM.

One plain function round ``OutputProcessor._update_stats_from_finished`` starts and ends a span with constant
attributes: nothing is read, built, matched or guarded. It is what "a bare SDK span" costs amid vLLM's own work, where
caches are colder than in a loop of its own.
"""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from opentelemetry.context import Context
from opentelemetry.trace import SpanKind, set_span_in_context

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from opentelemetry.metrics import Histogram, MeterProvider
    from opentelemetry.trace import Tracer

_SECOND = 1_000_000_000


def bare_span(tracer: Tracer, name: str, attributes: Mapping[str, Any]) -> Callable[[], Any]:
    """Return a function that makes one span, all attributes given at its start."""

    def make() -> Any:
        end = time.time_ns()
        span = tracer.start_span(name, Context(), SpanKind.INTERNAL, attributes, start_time=end - _SECOND)
        span.end(end)
        return span

    return make


def span_one_by_one(tracer: Tracer, name: str, attributes: Mapping[str, Any]) -> Callable[[], Any]:
    """Return a function that makes one span, its attributes set one after the other."""

    def make() -> Any:
        end = time.time_ns()
        span = tracer.start_span(name, Context(), SpanKind.INTERNAL, start_time=end - _SECOND)
        for key, value in attributes.items():
            span.set_attribute(key, value)
        span.end(end)
        return span

    return make


def histograms(provider: MeterProvider) -> list[Histogram]:
    """Return the instruments of the five measurements of a request, with our bucket boundaries."""
    from traceai_vllm.telemetry import semconv

    meter = provider.get_meter("benchmark")
    kinds = (
        semconv.REQUEST_DURATION,
        semconv.TIME_TO_FIRST_TOKEN,
        semconv.TIME_PER_OUTPUT_TOKEN,
        semconv.TOKEN_USAGE,
    )
    made = [
        meter.create_histogram(kind.name, explicit_bucket_boundaries_advisory=list(kind.boundaries)) for kind in kinds
    ]
    return [*made, made[-1]]  # tokens are measured twice: input and output


def bare_measurements(instruments: list[Histogram], attributes: Mapping[str, Any]) -> Callable[[Any], None]:
    """Return a function that records a request's five measurements beside its span."""

    def record(span: Any) -> None:
        ctx = set_span_in_context(span, Context())
        for histogram in instruments:
            histogram.record(0.5, attributes, ctx)

    return record


def with_measurements(make: Callable[[], Any], record: Callable[[Any], None]) -> Callable[[], Any]:
    """Return a function that makes a span and records measurements beside it."""

    def both() -> Any:
        span = make()
        record(span)
        return span

    return both


@contextmanager
def at_finish(make: Callable[[], Any]) -> Iterator[None]:
    """Call ``make`` for each request that vLLM finishes."""
    from vllm.v1.engine.output_processor import OutputProcessor

    original = OutputProcessor._update_stats_from_finished

    def hook(self: Any, *args: Any, **kwargs: Any) -> Any:
        result = original(self, *args, **kwargs)
        make()
        return result

    OutputProcessor._update_stats_from_finished = hook
    try:
        yield
    finally:
        OutputProcessor._update_stats_from_finished = original
