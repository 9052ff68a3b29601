"""Which requests are evaluated."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from traceai_vllm.evals.untraced import COHORT
from traceai_vllm.telemetry import semconv

if TYPE_CHECKING:
    from collections.abc import Mapping

_TRACE_ID_BITS = 64
_TRACE_ID_MASK = (1 << _TRACE_ID_BITS) - 1


@dataclass(frozen=True)
class Selection:
    """The share of requests that is evaluated; all spans of a trace are in or out together.

    Requests of the cohort ``evaluation``, a judge's, are never evaluated: each would make another.

    Attributes:
        rate: from 0 to 1.
        routes: another rate for some routes.
        cohorts: another rate for some traffic cohorts; a route's goes before a cohort's.
        errors: evaluate requests that ended in an error whatever the rate.

    Raises:
        ValueError: a rate is not from 0 to 1.
    """

    rate: float = 1.0
    routes: Mapping[str, float] = field(default_factory=dict)
    cohorts: Mapping[str, float] = field(default_factory=dict)
    errors: bool = True

    def __post_init__(self) -> None:
        for rate in (self.rate, *self.routes.values(), *self.cohorts.values()):
            if not 0.0 <= rate <= 1.0:
                raise ValueError(f"Selection: rates are from 0 to 1, not {rate!r}")

    def takes(self, trace_id: int, attributes: Mapping[str, Any]) -> bool:
        """Return whether a request is evaluated.

        Args:
            trace_id: of its span; its low 64 bits decide, as in OpenTelemetry's ``TraceIdRatioBased``.
            attributes: of its span.
        """
        if attributes.get(semconv.TRAFFIC_COHORT) == COHORT:
            return False
        if self.errors and semconv.ERROR_TYPE in attributes:
            return True
        rate = self.cohorts.get(str(attributes.get(semconv.TRAFFIC_COHORT)), self.rate)
        rate = self.routes.get(str(attributes.get(semconv.ROUTE)), rate)
        return (trace_id & _TRACE_ID_MASK) < rate * (1 << _TRACE_ID_BITS)
