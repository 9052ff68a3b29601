"""Rollbacks as events of OpenTelemetry's Logs API."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from opentelemetry._logs import LogRecord, SeverityNumber, get_logger

from traceai_vllm.gateway import names
from traceai_vllm.guard import Guard
from traceai_vllm.telemetry import semconv
from traceai_vllm.telemetry.log_events import has_named_events
from traceai_vllm.version import __version__

if TYPE_CHECKING:
    from opentelemetry._logs import LoggerProvider

    from traceai_vllm.gateway.rollback import Rollback

_EVENT = Guard("the event of a rollback")


class RollbackEvents:
    """Emits an event for each rollback.

    Args:
        logger_provider: where they go; the global provider when None.
    """

    def __init__(self, logger_provider: LoggerProvider | None) -> None:
        logger = get_logger("traceai_vllm.gateway", __version__, logger_provider)
        self._logger = logger if has_named_events("Rollbacks are") else None

    def __call__(self, rollback: Rollback) -> None:
        """Emit the event of a rollback."""
        if self._logger is None:
            return
        with _EVENT:
            now = time.time_ns()
            self._logger.emit(
                LogRecord(
                    timestamp=now,
                    observed_timestamp=now,
                    severity_number=SeverityNumber.ERROR,
                    event_name=names.ROLLBACK_EVENT,
                    body=rollback.why,
                    attributes={
                        semconv.ROUTE: rollback.route,
                        names.ROLLBACK_SIGNAL: rollback.signal,
                        names.ROLLBACK_SOURCE: rollback.source,
                    },
                )
            )
