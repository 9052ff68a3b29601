"""Whether the OpenTelemetry that is installed has events: log records with a name."""

from __future__ import annotations

import inspect
import logging

_log = logging.getLogger("traceai_vllm")


def has_named_events(lost: str) -> bool:
    """Return whether log records can have a name, and warn where they cannot.

    Args:
        lost: what is not sent then, as the beginning of a sentence: ``Content is``.
    """
    from opentelemetry._logs import LogRecord

    if "event_name" in inspect.signature(LogRecord.__init__).parameters:  # opentelemetry-api 1.35
        return True
    _log.warning("%s not sent as events: that needs opentelemetry-api 1.35. Everything else is sent.", lost)
    return False
