"""Beam search: it drives the engine with one-token requests, a new set for each position, which are no requests.

One record is made of each search instead. Offline it comes from the result of ``LLM.beam_search`` (see
:mod:`traceai_vllm.engine.offline`); in vLLM's server a search is an asynchronous generator, hooked here.
"""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from opentelemetry import context as otel_context
from opentelemetry.instrumentation.utils import is_instrumentation_enabled

from traceai_vllm.engine import extract, runtime
from traceai_vllm.engine.calls import tracker_of_engine
from traceai_vllm.engine.content import RequestContent
from traceai_vllm.engine.live import ERROR_OF_FINISH, SCOPE_KEY, Scope, error_message, error_type
from traceai_vllm.guard import Guard
from traceai_vllm.record import RequestRecord
from traceai_vllm.server.served import served_in

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from opentelemetry.context import Context

    from traceai_vllm.engine.runtime import Runtime
    from traceai_vllm.record import Variant

_BEGIN = Guard("the beginning of a beam search")
_END = Guard("the end of a beam search")
_DETACH = Guard("leaving a beam search's context")

# The class whose method ``beam_search`` searches for vLLM's server, and its homes before that.
HOME = "vllm.entrypoints.generate.beam_search.online", "BeamSearchOnlineMixin"
OLDER_HOMES = (
    ("vllm.entrypoints.openai.engine.serving", "OpenAIServing"),  # 0.15
    ("vllm.entrypoints.openai.serving_engine", "OpenAIServing"),  # 0.11.1
    ("vllm.engine.protocol", "EngineClient"),
)


class _Search:
    """One search in the server.

    Args:
        active: the runtime in force.
        variant: what the engine serves.
        request_id: the id that the caller sees.
        params: vLLM's ``BeamSearchParams``.
        lora_request: vLLM's ``LoRARequest``; None without one.
    """

    def __init__(self, active: Runtime, variant: Variant, request_id: Any, params: Any, lora_request: Any) -> None:
        ctx = otel_context.get_current()
        served = served_in(ctx)
        self._runtime = active
        self._content = None if active.content is None else RequestContent(active.content, ctx)
        self._record = beam_record(ctx, variant, time.time_ns(), params)
        self._record.operation = (served and served.operation) or self._record.operation
        self._record.request_id = str(request_id)[: extract.MAX_REQUEST_ID]
        self._record.lora = getattr(lora_request, "lora_name", None)
        self._ended = False
        self.inside = otel_context.set_value(SCOPE_KEY, Scope(None, internal=True), ctx)

    def answered(self, output: Any) -> None:
        """End with what the search came to, vLLM's ``RequestOutput``."""
        record, answers = self._record, output.outputs
        if output.prompt_token_ids is not None:
            record.input_tokens = len(output.prompt_token_ids)
        record.output_tokens = sum(len(answer.token_ids) for answer in answers)
        record.finish_reasons = [str(answer.finish_reason or "length") for answer in answers]
        record.choices = len(answers)
        errors = [ERROR_OF_FINISH[reason] for reason in record.finish_reasons if reason in ERROR_OF_FINISH]
        record.error_type = errors[0] if errors else None
        if self._content is not None:
            for answer, reason in zip(answers, record.finish_reasons, strict=True):
                self._content.answered(_as_state(answer, output), reason)
        self._end()

    def failed(self, error: BaseException) -> None:
        """End with the error that the caller gets."""
        if not self._ended:
            self._record.error_type, self._record.error_message = error_type(error), error_message(error)
            self._end()

    def _end(self) -> None:
        if self._ended:
            return
        self._ended = True
        self._record.content = self._content
        end(self._record)
        self._runtime.pipeline.finish(self._record)


def _as_state(answer: Any, output: Any) -> SimpleNamespace:
    """Return an answer of a search in the form in which vLLM has those of other requests: ``RequestState``."""
    return SimpleNamespace(
        request_index=int(answer.index),
        prompt=output.prompt,
        prompt_token_ids=output.prompt_token_ids,
        detokenizer=SimpleNamespace(output_text=answer.text, output_token_ids=answer.token_ids),
    )


def search(wrapped: Any, serving: Any, args: Any, kwargs: Any) -> Any:
    """Hook on ``async def beam_search(self, prompt, request_id, params, lora_request=None, ...)``, a generator."""
    generator, begun = wrapped(*args, **kwargs), None
    with _BEGIN:
        begun = _begin(serving, *args, **kwargs)
    return _steps(generator, begun) if isinstance(begun, _Search) else generator


def _begin(
    serving: Any, prompt: Any, request_id: Any, params: Any, lora_request: Any = None, *_: Any, **__: Any
) -> _Search | None:
    active = runtime.current()
    engine = getattr(serving, "engine_client", serving)
    # vLLM's first engine (V0) is not traced.
    if active is None or not hasattr(engine, "output_processor") or not is_instrumentation_enabled():
        return None
    return _Search(active, tracker_of_engine(engine).variant(active), request_id, params, lora_request)


async def _steps(generator: AsyncGenerator[Any, None], begun: _Search) -> AsyncGenerator[Any, None]:
    try:
        while True:
            # For each step alone: what stands round a `yield` would also be the context of the caller.
            token = otel_context.attach(begun.inside)
            try:
                output = await anext(generator)
            except StopAsyncIteration:
                return
            finally:
                with _DETACH:
                    otel_context.detach(token)
            with _END:
                begun.answered(output)
            yield output
    except BaseException as error:
        with _END:
            begun.failed(error)
        raise
    finally:
        await generator.aclose()


def beam_record(ctx: Context, variant: Variant, start_ns: int, params: Any) -> RequestRecord:
    """Return the record of a beam search, without what came of it.

    Args:
        ctx: the context of the caller.
        variant: what the engine serves.
        start_ns: when the caller called, in nanoseconds since the epoch.
        params: vLLM's ``BeamSearchParams``.
    """
    return RequestRecord(
        context=ctx,
        variant=variant,
        operation="text_completion",
        start_ns=start_ns,
        max_tokens=params.max_tokens,
        temperature=params.temperature,
        beam_width=params.beam_width,
        output_type="text",
    )


def end(record: RequestRecord) -> None:
    """Take note of the time at which a beam search ended: now."""
    record.end_ns = max(record.start_ns, time.time_ns())  # the clock may have been set back meanwhile
    record.e2e = (record.end_ns - record.start_ns) / 1e9
