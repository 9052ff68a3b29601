"""OpenTelemetry's own switch for instrumentations, which `opentelemetry-instrument` obeys, and so do we elsewhere."""

from __future__ import annotations

import os

VARIABLE = "OTEL_PYTHON_DISABLED_INSTRUMENTATIONS"


def is_disabled(instrumentation: str) -> bool:
    """Return whether the operator has turned an instrumentation off, by its name or with all others (``*``)."""
    names = {name.strip() for name in os.environ.get(VARIABLE, "").split(",")}
    return not names.isdisjoint((instrumentation, "*"))
