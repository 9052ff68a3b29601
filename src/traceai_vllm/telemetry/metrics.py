"""From a request's record to measurements, with the names and bucket boundaries of the GenAI conventions.

Every dimension that callers fill (route, traffic cohort) is capped: past the cap a value is recorded as ``other`` and
counted, so that no caller can grow the number of time series without bound.
"""

from __future__ import annotations

import inspect
import os
import threading
from collections import Counter
from functools import partial
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from opentelemetry import trace
from opentelemetry.metrics import CallbackOptions, Histogram, Meter, NoOpMeter, Observation

from traceai_vllm import guard
from traceai_vllm.telemetry import semconv
from traceai_vllm.telemetry.tags import tags_in

if TYPE_CHECKING:
    from collections.abc import Iterable

    from opentelemetry.context import Context
    from opentelemetry.trace import Span

    from traceai_vllm.record import RequestRecord

# opentelemetry-api 1.30 and later; before, a histogram has the SDK's own buckets.
_TAKES_BOUNDARIES = "explicit_bucket_boundaries_advisory" in inspect.signature(Meter.create_histogram).parameters
# 1.28 and later; before, a measurement cannot be told which span it belongs to.
_TAKES_CONTEXT = "context" in inspect.signature(Histogram.record).parameters
MAX_VALUES_PER_DIMENSION = 100
OTHER = "other"

_counts: WeakKeyDictionary[Meter, Counter[Any]] = WeakKeyDictionary()
_lock = threading.Lock()  # of all dimensions: it is held when a value is new, and seldom


def counts_of(meter: Meter) -> Counter[Any]:
    """Return what a meter's observable counters report: the same as long as it lives.

    An instrument keeps the callback that it was first made with, over every later ``instrument()`` with its provider.
    """
    return _counts.setdefault(meter, Counter())


def _begin_child() -> None:
    for counts in _counts.values():
        counts.clear()  # its parent reports them
    _lock.release()


# A lock that another thread held would be held in a forked child for ever.
os.register_at_fork(before=_lock.acquire, after_in_parent=_lock.release, after_in_child=_begin_child)


class CappedDimension:
    """Lets the first ``limit`` distinct values of a dimension through, and turns later ones into ``other``.

    Args:
        limit: how many.
        counts: where those that became ``other`` are counted; None: they are not.
        key: under what they are counted there.
    """

    def __init__(
        self, limit: int = MAX_VALUES_PER_DIMENSION, counts: Counter[Any] | None = None, key: object = None
    ) -> None:
        self._limit = limit
        self._values: set[str] = set()
        self._counts: Counter[Any] = Counter() if counts is None else counts
        self._key = key

    def __call__(self, value: str) -> str:
        """Return the value, or ``other`` when it is new and the dimension is full."""
        if value in self._values:
            return value
        with _lock:
            if value in self._values or len(self._values) < self._limit:
                self._values.add(value)
                return value
            self._counts[self._key] += 1
            return OTHER


class RequestMetrics:
    """The instruments that requests are recorded on.

    Args:
        meter: where the instruments are made.

    Attributes:
        wanted: whether anybody takes measurements.
    """

    def __init__(self, meter: Meter) -> None:
        # Without a meter provider nobody asks for measurements: then none is prepared either.
        self.wanted = not isinstance(meter, NoOpMeter)
        self._duration = histogram(meter, semconv.REQUEST_DURATION)
        self._time_to_first_token = histogram(meter, semconv.TIME_TO_FIRST_TOKEN)
        self._time_per_output_token = histogram(meter, semconv.TIME_PER_OUTPUT_TOKEN)
        self._token_usage = histogram(meter, semconv.TOKEN_USAGE)
        counts = counts_of(meter)
        self._dimensions = {
            name: CappedDimension(MAX_VALUES_PER_DIMENSION, counts, name)
            for name in (semconv.ROUTE, semconv.TRAFFIC_COHORT)
        }
        self._observe(meter, semconv.INTERNAL_ERRORS, _internal_errors)
        self._observe(meter, semconv.CAPPED_VALUES, partial(_capped_values, counts, tuple(self._dimensions)))

    def record(self, record: RequestRecord, span: Span | None) -> None:
        """Record a request that has ended.

        Args:
            record: the request.
            span: its span, for exemplars.
        """
        ctx = record.context if span is None else trace.set_span_in_context(span, record.context)
        where = exemplar(ctx)
        attributes = self._attributes(record)
        # The conventions have these two of successful responses alone.
        if record.time_to_first_token is not None and record.error_type is None:
            self._time_to_first_token.record(record.time_to_first_token, attributes, *where)
            per_token = _time_per_output_token(record)
            if per_token is not None:
                self._time_per_output_token.record(per_token, attributes, *where)
        if record.input_tokens is not None:
            self._token_usage.record(record.input_tokens, {**attributes, semconv.TOKEN_TYPE: "input"}, *where)
        if record.output_tokens is not None:
            self._token_usage.record(record.output_tokens, {**attributes, semconv.TOKEN_TYPE: "output"}, *where)
        if record.e2e is not None:
            if record.error_type is not None:
                attributes = {**attributes, semconv.ERROR_TYPE: record.error_type}
            self._duration.record(record.e2e, attributes, *where)

    def _attributes(self, record: RequestRecord) -> dict[str, Any]:
        variant = record.variant
        attributes = {semconv.OPERATION_NAME: record.operation, semconv.PROVIDER_NAME: semconv.PROVIDER}
        for key, value in (
            (semconv.REQUEST_MODEL, variant.model),
            (semconv.MODEL_VARIANT, variant.model_variant),
            (semconv.QUANTIZATION_FORMAT, variant.quantization_format),
        ):
            if value is not None:
                attributes[key] = value
        tags = tags_in(record.context)
        for name, capped in self._dimensions.items():
            tag = tags.get(name)
            if tag is not None:
                attributes[name] = capped(str(tag))
        return attributes

    @staticmethod
    def _observe(meter: Meter, metric: semconv.Metric, callback: Any) -> None:
        meter.create_observable_counter(metric.name, callbacks=[callback], unit=metric.unit, description=metric.meaning)


def _time_per_output_token(record: RequestRecord) -> float | None:
    # GenAI conventions: the first token is not counted, nor is the time to it. With several answers (n > 1), which
    # decode side by side, no single figure is true.
    tokens = record.output_tokens or 0
    if record.e2e is None or record.time_to_first_token is None or tokens < 2 or record.choices > 1:
        return None
    decode = record.time_in_model_decode
    if decode is None:
        decode = record.e2e - record.time_to_first_token
    return decode / (tokens - 1)


def _capped_values(counts: Counter[Any], dimensions: Iterable[str], options: CallbackOptions) -> Iterable[Observation]:
    for name in dimensions:
        yield Observation(counts[name], {"dimension": name})


def _internal_errors(options: CallbackOptions) -> Iterable[Observation]:
    for (where, kind), count in guard.internal_errors().items():
        yield Observation(count, {"where": where, semconv.ERROR_TYPE: kind})


def exemplar(ctx: Context) -> tuple[()] | tuple[Context]:
    """Return what a histogram's ``record`` takes after the attributes, for an exemplar of the span in a context."""
    return (ctx,) if _TAKES_CONTEXT else ()


def histogram(meter: Meter, metric: semconv.Metric) -> Histogram:
    """Return a histogram with the boundaries of its metric, where OpenTelemetry takes them."""
    settings: dict[str, Any] = {"unit": metric.unit, "description": metric.meaning}
    if _TAKES_BOUNDARIES:
        settings["explicit_bucket_boundaries_advisory"] = list(metric.boundaries)
    return meter.create_histogram(metric.name, **settings)
