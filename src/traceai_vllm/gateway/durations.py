"""How long servers took, as the GenAI conventions' client metrics: the same for both arms."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

from opentelemetry import metrics
from opentelemetry.metrics import NoOpMeter

from traceai_vllm.gateway import names
from traceai_vllm.telemetry import semconv
from traceai_vllm.telemetry.metrics import CappedDimension, exemplar, histogram
from traceai_vllm.telemetry.semconv import Metric
from traceai_vllm.version import __version__

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.metrics import MeterProvider

    from traceai_vllm.gateway.call import Arm

OPERATION_DURATION = Metric(
    "gen_ai.client.operation.duration",
    "histogram",
    "s",
    "Time from asking a server to the end of its answer.",
    semconv.REQUEST_DURATION.boundaries,
)
TIME_TO_FIRST_CHUNK = Metric(
    "gen_ai.client.operation.time_to_first_chunk",
    "histogram",
    "s",
    "Time from asking a server to the first piece of its streamed answer.",
    semconv.TIME_TO_FIRST_TOKEN.boundaries,
)

_DIMENSIONS = (
    semconv.OPERATION_NAME,
    semconv.REQUEST_MODEL,
    semconv.MODEL_VARIANT,
    semconv.QUANTIZATION_FORMAT,
    semconv.ROUTE,
    semconv.TRAFFIC_COHORT,
    names.PAIR_ARM,
)


class Durations:
    """Records the exchanges of all arms.

    Args:
        meter_provider: where they go; the global provider when None.
    """

    def __init__(self, meter_provider: MeterProvider | None) -> None:
        meter = metrics.get_meter("traceai_vllm.gateway", __version__, meter_provider)
        self._wanted = not isinstance(meter, NoOpMeter)
        self._duration = histogram(meter, OPERATION_DURATION)
        self._first_chunk = histogram(meter, TIME_TO_FIRST_CHUNK)
        # What callers and servers fill in is bounded in its number of values.
        self._capped = {
            key: CappedDimension() for key in (semconv.REQUEST_MODEL, semconv.TRAFFIC_COHORT, semconv.ERROR_TYPE)
        }
        self._attributes = lru_cache(maxsize=1024)(self._made)  # few are different

    def record(self, arm: Arm, context: Context) -> None:
        """Record an arm whose exchange has ended.

        Args:
            arm: the arm.
            context: with its span, for exemplars.
        """
        record = arm.record
        if not self._wanted or record is None or not record.ended:
            return
        attributes = self._attributes(
            arm.call.operation,
            arm.body.model,
            arm.server.model_variant,
            arm.server.quantization_format,
            arm.call.route.name,
            arm.call.tags.get(semconv.TRAFFIC_COHORT),
            arm.name,
        )
        failure = record.failure()
        if record.first_byte is not None and failure is None and arm.body.stream:
            self._first_chunk.record(record.first_byte - record.started, attributes, *exemplar(context))
        if failure is not None:
            attributes = {**attributes, semconv.ERROR_TYPE: self._capped[semconv.ERROR_TYPE](failure)}
        self._duration.record(record.duration, attributes, *exemplar(context))

    def _made(self, *values: str | None) -> dict[str, Any]:
        given = {key: value for key, value in zip(_DIMENSIONS, values, strict=True) if value is not None}
        given[semconv.PROVIDER_NAME] = semconv.PROVIDER
        return {key: self._capped[key](value) if key in self._capped else value for key, value in given.items()}
