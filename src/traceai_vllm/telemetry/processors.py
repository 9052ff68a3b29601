"""Adds a span processor to a tracer provider of the application's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import SpanProcessor


def add_span_processor(tracer_provider: Any, processor: SpanProcessor) -> bool:
    """Add a processor beside those that are there, and return whether the provider takes any.

    The providers that ``phoenix.otel.register()`` and FutureAGI's ``register()`` return throw their own exporter away
    at the first ``add_span_processor``, taking it for a replacement. So the SDK's method is called, not theirs.
    """
    from opentelemetry.sdk.trace import TracerProvider

    if isinstance(tracer_provider, TracerProvider):
        TracerProvider.add_span_processor(tracer_provider, processor)
    elif hasattr(tracer_provider, "add_span_processor"):
        tracer_provider.add_span_processor(processor)
    else:
        return False
    return True
