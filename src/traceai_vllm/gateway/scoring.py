"""Evaluators and the local store behind the gateway's spans: both arms are scored off the users' path.

``gateway.yaml`` names them under ``telemetry``; the pipeline is :mod:`traceai_vllm.evals.pipeline`'s.
"""

from __future__ import annotations

import logging
from dataclasses import asdict
from typing import TYPE_CHECKING

from opentelemetry.sdk.trace import SpanProcessor

from traceai_vllm.gateway import cohorts
from traceai_vllm.guard import Guard
from traceai_vllm.telemetry import semconv
from traceai_vllm.telemetry.processors import add_span_processor

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.sdk.trace import ReadableSpan, Span
    from opentelemetry.trace import TracerProvider

    from traceai_vllm.evals.base import Evaluator
    from traceai_vllm.gateway.options import Telemetry
    from traceai_vllm.gateway.runtime import Runtime

_log = logging.getLogger("traceai_vllm.gateway")

_GUARD = Guard("evaluations for the guard")
_PASSED = ".passed"


class GuardFeed(SpanProcessor):
    """Tells the guard how the candidate's answers to users were scored, and passes spans on to the store.

    Args:
        runtime: the gateway's.
        store: the store; None when there is none.
    """

    def __init__(self, runtime: Runtime, store: SpanProcessor | None) -> None:
        self._runtime = runtime
        self._store = store

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        """Pass the start of a span on."""
        if self._store is not None:
            self._store.on_start(span, parent_context)

    def on_end(self, span: ReadableSpan) -> None:
        """Take in a span with its scores."""
        with _GUARD:
            context, attributes = span.get_span_context(), span.attributes or {}
            verdicts = [
                bool(value)
                for key, value in attributes.items()
                if key.startswith(semconv.EVALUATION_PREFIX) and key.endswith(_PASSED)
            ]
            # Half an answer says nothing of a whole one: its user hung up, or it is an error already.
            if verdicts and context is not None and semconv.ERROR_TYPE not in attributes:
                self._runtime.evaluated(context.span_id, all(verdicts))
        if self._store is not None:
            self._store.on_end(span)

    def shutdown(self) -> None:
        """Shut the store down."""
        if self._store is not None:
            self._store.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Flush the store."""
        return self._store is None or self._store.force_flush(timeout_millis)


def evaluators_of(options: Telemetry) -> list[Evaluator]:
    """Return the evaluators that the configuration names.

    Raises:
        ValueError: a name is not known; the message lists those that are.
        ImportError: an evaluator needs a package that is not installed.
    """
    from traceai_vllm.evals import registry

    return registry.evaluators(options.evaluators)


def attach(runtime: Runtime, options: Telemetry, tracer_provider: TracerProvider) -> None:
    """Put evaluators and store behind the spans of a gateway.

    Args:
        runtime: the gateway's.
        options: what the configuration says.
        tracer_provider: where the gateway's spans go; set up by traceai-vllm, so that scores travel on exported spans.

    Raises:
        ValueError: a name is not known; the message lists those that are.
        ImportError: an evaluator or the store needs a package that is not installed.
    """
    evaluators = evaluators_of(options)
    wanted = [name for name in ("store", "evaluators") if getattr(options, name)]
    if wanted and not hasattr(tracer_provider, "add_span_processor"):
        _log.warning(
            "telemetry: %s: nothing is kept or scored, because the tracer provider in force, %s, takes no span "
            "processors. Is OTEL_SDK_DISABLED set? OTEL_TRACES_EXPORTER=none sends nothing either, and lets both work.",
            ", ".join(wanted),
            type(tracer_provider).__name__,
        )
        return
    store: SpanProcessor | None = None
    if options.store is not None:
        from traceai_vllm.store.processor import StoreProcessor

        store = processor = StoreProcessor(options.store)
        runtime.stored = lambda: asdict(processor.counts)
    if not evaluators:
        if store is not None:
            add_span_processor(tracer_provider, store)
        return
    from traceai_vllm.evals.pipeline import Selection
    from traceai_vllm.evals.pipeline.attach import attach as attach_evaluators

    attach_evaluators(
        evaluators,
        tracer_provider,
        GuardFeed(runtime, store),
        selection=Selection(rate=options.evaluated_share, errors=False),
        slices=cohorts.settings_of(runtime.config.slices),
        explain=runtime.content is not None and runtime.content.mode.on_span,
        meter_provider=None,
        logger_provider=None,
    )
