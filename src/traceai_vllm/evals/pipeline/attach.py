"""Puts evaluators before the exporters that traceai-vllm set up itself: what ``instrument(evaluators=...)`` does."""

from __future__ import annotations

import atexit
import importlib.util
import logging
from typing import TYPE_CHECKING

from traceai_vllm.evals.pipeline.processes import sendable
from traceai_vllm.evals.pipeline.processor import EvaluatorSpanProcessor
from traceai_vllm.telemetry.processors import add_span_processor
from traceai_vllm.telemetry.providers import relay_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from opentelemetry._logs import LoggerProvider
    from opentelemetry.metrics import MeterProvider
    from opentelemetry.sdk.trace import SpanProcessor
    from opentelemetry.trace import TracerProvider

    from traceai_vllm.evals.base import Evaluator
    from traceai_vllm.evals.pipeline.selection import Selection
    from traceai_vllm.evals.slices import SliceSettings
    from traceai_vllm.telemetry.relay import Relay

_log = logging.getLogger("traceai_vllm")


class Attached:
    """Evaluators in force, and how they are taken away again.

    Args:
        processor: evaluates.
        relay: where it stands, in a tracer provider of ours; None in one of the application's.
    """

    def __init__(self, processor: EvaluatorSpanProcessor, relay: Relay | None) -> None:
        self._processor = processor
        self._relay = relay
        # Registered after the store's own exit handler, and so run before it.
        atexit.register(self.detach)

    def detach(self) -> None:
        """Evaluate what waits, and let spans pass without evaluation from now on."""
        atexit.unregister(self.detach)
        if self._relay is not None:
            self._relay.stand_before(None)
        self._processor.close()


def attach(
    evaluators: Sequence[Evaluator],
    tracer_provider: TracerProvider,
    store: SpanProcessor | None,
    *,
    selection: Selection | None,
    slices: SliceSettings | None,
    explain: bool,
    meter_provider: MeterProvider | None,
    logger_provider: LoggerProvider | None,
) -> Attached | None:
    """Evaluate the spans that go to exporters of ours.

    Args:
        evaluators: what evaluates.
        tracer_provider: the one in force.
        store: the processor of the local store, not added to the provider yet; None when there is none.
        selection: which requests; all when None.
        slices: the thresholds of their slices; the defaults when None.
        explain: whether explanations may be exported.
        meter_provider: where measurements go.
        logger_provider: where events go.

    Returns:
        What takes them away again; None, with a warning, when there is no exporter of ours.
    """
    relay = relay_of(tracer_provider)
    exporting = [processor for processor in (relay.exporting if relay else None, store) if processor is not None]
    if not exporting:
        _log.warning(
            "instrument(evaluators=...) evaluates nothing: your application set OpenTelemetry up itself, and nothing "
            "can be put before its exporters afterwards. Wrap them where you make them: provider.add_span_processor("
            "EvaluatorSpanProcessor(BatchSpanProcessor(exporter), evaluators=[...]))."
        )
        return None
    processor = EvaluatorSpanProcessor(
        *exporting,
        evaluators=evaluators,
        selection=selection,
        slices=slices,
        processes=_processes(evaluators),
        explain=explain,
        meter_provider=meter_provider,
        logger_provider=logger_provider,
    )
    if relay is not None:
        relay.stand_before(processor)
    else:
        add_span_processor(tracer_provider, processor)
    return Attached(processor, relay)


def _processes(evaluators: Sequence[Evaluator]) -> int:
    # Off this process's GIL where that is possible: it serves.
    if importlib.util.find_spec("loky") is None:
        return 0
    here = [evaluator.name for evaluator in evaluators if not sendable(evaluator)]
    if here:
        _log.warning(
            "%s cannot be pickled, so all evaluators run in threads of this process and take time from it. Let them "
            "load what they use in `evaluate`, or when they are unpickled.",
            ", ".join(here),
        )
    return 0 if here else 1
