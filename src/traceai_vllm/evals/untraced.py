"""Calls of evaluators to models: no traffic of users, and so in nobody's trace of it."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

#: The traffic cohort of evaluators' own requests, for servers that trace them all the same.
COHORT = "evaluation"


@contextlib.contextmanager
def untraced() -> Iterator[dict[str, str]]:
    """Work under a span context that is not sampled; yield the headers that say so to a server.

    OpenTelemetry's samplers go by the caller's context (https://www.w3.org/TR/trace-context/#trace-flags), unless they
    were set up not to.
    """
    from opentelemetry import context, trace
    from opentelemetry.instrumentation.utils import suppress_instrumentation
    from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    ids = RandomIdGenerator()
    unsampled = trace.SpanContext(ids.generate_trace_id(), ids.generate_span_id(), is_remote=False)
    # Instrumentations that do not know of the suppression go by the parent.
    token = context.attach(trace.set_span_in_context(trace.NonRecordingSpan(unsampled)))
    headers = {"x-traffic-cohort": COHORT}
    TraceContextTextMapPropagator().inject(headers)
    try:
        with suppress_instrumentation():
            yield headers
    finally:
        context.detach(token)
