"""Hooks on the offline ``LLM``: one call is a batch, a parent span with the call's requests as children.

Beam search is the exception: one record per prompt is made from its result (see :mod:`traceai_vllm.engine.beams`).
"""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any

from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.instrumentation.utils import is_instrumentation_enabled

from traceai_vllm.engine import beams, runtime
from traceai_vllm.engine.calls import tracker_of_engine
from traceai_vllm.engine.content import with_conversations
from traceai_vllm.engine.funnel import failed_in_step
from traceai_vllm.engine.live import SCOPE_KEY, Scope, error_message, error_type
from traceai_vllm.guard import Guard
from traceai_vllm.telemetry import semconv
from traceai_vllm.telemetry.spans import error_status

if TYPE_CHECKING:
    from opentelemetry.trace import Span

    from traceai_vllm.engine.runtime import Runtime
    from traceai_vllm.record import RequestRecord

_BEGIN = Guard("the beginning of a batch")
_END = Guard("the end of a batch")
_DETACH = Guard("leaving a batch's context")
_BEAMS = Guard("the requests of a beam search")
_STEP = Guard("the failure of an engine step")
_BATCH_KEY = otel_context.create_key("traceai-vllm-batch")

# Entry point of LLM to the operation of its requests; None where the pooling task says it.
OPERATIONS: dict[str, str | None] = {
    "generate": "text_completion",
    "chat": "chat",
    "beam_search": "text_completion",
    "encode": None,
    "embed": "embeddings",
    "classify": "classify",
    "score": "score",
    "reward": "reward",
}
ENQUEUE_OPERATIONS = {"enqueue": "text_completion", "enqueue_chat": "chat"}


class Batch:
    """The span round one call of ``LLM``, current while vLLM works on it."""

    def __init__(self, active: Runtime, llm: Any, name: str) -> None:
        self.runtime = active
        self.name = name
        self.start_ns = time.time_ns()
        self.handled = sys.exc_info()[1]
        self.tracker = tracker_of_engine(llm.llm_engine)
        self.variant = self.tracker.variant(active)
        self.caller = otel_context.get_current()
        self.span: Span = active.pipeline.spans.start_batch(f"LLM.{name}", self.variant, self.caller)
        self.context = self._context()

    def _context(self) -> Context:
        ctx = trace.set_span_in_context(self.span, self.caller)
        ctx = otel_context.set_value(_BATCH_KEY, self, ctx)
        scope = Scope(OPERATIONS.get(self.name), internal=self.name == "beam_search")
        return otel_context.set_value(SCOPE_KEY, scope, ctx)

    def end(self, result: Any, error: BaseException | None) -> None:
        """End the span with the result's size, or with the error that the user gets."""
        try:
            if error is not None:
                self.span.set_attribute(semconv.ERROR_TYPE, error_type(error))
                self.span.set_status(error_status(error_type(error), error_message(error)))
            elif isinstance(result, list):
                self.span.set_attribute(semconv.BATCH_SIZE, len(result))
        finally:
            self.span.end()


def call(name: str) -> Any:
    """Build the hook on an entry point of ``LLM``, such as ``chat``."""

    def hook(wrapped: Any, llm: Any, args: Any, kwargs: Any) -> Any:
        batch, token = None, None
        with _BEGIN:
            batch = _begin(llm, name)
            if batch is not None and name == "chat" and batch.runtime.content is not None:
                batch.context = with_conversations(batch.context, wrapped, args, kwargs)
            # Attached and detached here and nowhere else: the caller's context must come back whatever fails.
            if batch is not None and isinstance(batch.context, Context):
                token = otel_context.attach(batch.context)
        if batch is None or token is None:
            return wrapped(*args, **kwargs)
        try:
            try:
                result = wrapped(*args, **kwargs)
            finally:
                with _DETACH:
                    otel_context.detach(token)
        except BaseException as error:
            with _END:
                _end(batch, None, error, args, kwargs)
            raise
        with _END:
            _end(batch, result, None, args, kwargs)
        return result

    return hook


def _begin(llm: Any, name: str) -> Batch | None:
    active = runtime.current()
    # Entry points call each other (`embed` calls `encode`): the outermost one is the batch.
    if active is None or otel_context.get_value(_BATCH_KEY) is not None or not is_instrumentation_enabled():
        return None
    return Batch(active, llm, name)


def _end(batch: Batch, result: Any, error: BaseException | None, args: Any, kwargs: Any) -> None:
    with _BEAMS:
        if batch.name == "beam_search":
            _finish_beam_searches(batch, result, error, args, kwargs)
    with _STEP:
        if error is not None and failed_in_step(error, batch.handled):
            batch.tracker.close_all(error)
    batch.end(result, error)


def _finish_beam_searches(batch: Batch, result: Any, error: BaseException | None, args: Any, kwargs: Any) -> None:
    params = args[1] if len(args) > 1 else kwargs["params"]
    if error is not None:
        record = _beam_record(batch, params)
        record.error_type, record.error_message = error_type(error), error_message(error)
        batch.runtime.pipeline.finish(record)
        return
    for output in result:
        record = _beam_record(batch, params)
        _read_beams(record, output.sequences)
        batch.runtime.pipeline.finish(record)


def _beam_record(batch: Batch, params: Any) -> RequestRecord:
    ctx = trace.set_span_in_context(batch.span, batch.caller)
    record = beams.beam_record(ctx, batch.variant, batch.start_ns, params)
    beams.end(record)
    return record


def _read_beams(record: RequestRecord, sequences: Any) -> None:
    # BeamSearchSequence: `tokens` starts with the prompt's, `logprobs` has one entry for each generated one.
    generated = [len(sequence.logprobs) for sequence in sequences]
    record.output_tokens = sum(generated)
    if sequences:
        record.input_tokens = len(sequences[0].tokens) - generated[0]
    record.finish_reasons = [str(sequence.finish_reason or "length") for sequence in sequences]
    record.choices = len(sequences)


def enqueue(name: str) -> Any:
    """Build the hook on ``LLM.enqueue`` or ``enqueue_chat``: its requests say what they are; they run later."""

    def hook(wrapped: Any, llm: Any, args: Any, kwargs: Any) -> Any:
        token = None
        with _BEGIN:
            active = runtime.current()
            if active is not None and is_instrumentation_enabled():
                active.need("step")  # `LLM.wait_for_completion` makes the steps, or the caller
                ctx = otel_context.set_value(SCOPE_KEY, Scope(ENQUEUE_OPERATIONS[name]))
                if name == "enqueue_chat" and active.content is not None:
                    ctx = with_conversations(ctx, wrapped, args, kwargs)
                token = otel_context.attach(ctx)
        try:
            return wrapped(*args, **kwargs)
        finally:
            with _DETACH:
                if token is not None:
                    otel_context.detach(token)

    return hook
