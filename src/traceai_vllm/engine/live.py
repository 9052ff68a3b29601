"""Requests in flight: from admission to the one end that each of them has."""

from __future__ import annotations

import asyncio
import contextlib
import time
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from opentelemetry import context as otel_context
from opentelemetry.instrumentation.utils import is_instrumentation_enabled

from traceai_vllm.engine import extract, runtime
from traceai_vllm.guard import Guard
from traceai_vllm.record import UNKNOWN_VARIANT, RequestRecord, Variant

if TYPE_CHECKING:
    from opentelemetry.context import Context

    from traceai_vllm.engine.runtime import Runtime

_READ = Guard("reading a request of vLLM's")
_FIRST_TOKEN = Guard("the time of a first token")
_LONGEST_WAIT_NS = 3_600 * 1_000_000_000
# vllm.v1.engine.FinishReason values that are no answer.
_ERROR_OF_FINISH = {"abort": "cancelled", "error": "engine_error"}
_MAX_MESSAGE = 256

OPERATION_KEY = otel_context.create_key("traceai-vllm-operation")
# Set in a context whose engine requests are steps inside one request of the user's (beam search).
INTERNAL_KEY = otel_context.create_key("traceai-vllm-internal-requests")


class LiveRequest:
    """One request of the user's, with as many engine requests (answers) under it as ``n`` says.

    It ends once: when its last answer ended and its admission is over, or when its admission failed.
    """

    __slots__ = (
        "_admitting",
        "_adopted",
        "_clock",
        "_first_token",
        "_open_answers",
        "_runtime",
        "ended",
        "record",
    )

    def __init__(self, active: Runtime, record: RequestRecord) -> None:
        self._runtime = active
        self.record = record
        self.ended = False
        self._clock = time.perf_counter_ns()
        self._first_token: int | None = None
        self._adopted = False
        self._open_answers = 0
        self._admitting = True

    def adopt(self, request: Any, state: Any) -> None:
        """Take an engine request (``EngineCoreRequest``, ``RequestState``) as one of this request's answers."""
        self._open_answers += 1
        if not self._adopted:
            self._adopted = True
            with _READ:
                extract.read_admission(self.record, state)
                self._start_at(request.arrival_time)
        with _FIRST_TOKEN:
            if state.detokenizer is not None and not extract.reports_first_token(state):
                self._watch_first_token(state.detokenizer)

    def answered(self, state: Any, finish_reason: str | None, error: BaseException | None = None) -> None:
        """Take note that one answer ended; the request ends with its last one."""
        self._open_answers -= 1
        with _READ:
            self._note_end(finish_reason, error)
            extract.read_result(self.record, state)
        with _FIRST_TOKEN:
            self._unwatch(state)
        self._end_if_done()

    def admitted(self) -> None:
        """Take note that admission is over: this call will bring no further answers.

        With streamed input the answers come later, from a task of vLLM's: a request without any is left open.
        """
        self._admitting = False
        if self._adopted:
            self._end_if_done()

    def rejected(self, error: BaseException) -> None:
        """End the request because its admission failed with this error."""
        with _READ:
            self._note_end(None, error)
        self._end()

    def _end_if_done(self) -> None:
        if self._open_answers == 0 and not self._admitting:
            self._end()

    def abandoned(self) -> None:
        """End a request that vLLM forgot (its engine was dropped, an input stream never sent anything)."""
        self.record.error_type = "abandoned"
        self._finish()

    def _end(self) -> None:
        if self.ended:
            return
        if self._runtime.lost:
            self._runtime.drain()
        self._finish()

    def _finish(self) -> None:
        self._close_record()
        self._runtime.pipeline.finish(self.record)

    def _start_at(self, arrival: float) -> None:
        # vLLM's arrival time is when its server received the request, at most a little before this call. A caller may
        # pass any number for it; one that cannot be an arrival on this machine's wall clock is not believed.
        waited_ns = self.record.start_ns - int(arrival * 1e9)
        if 0 <= waited_ns < _LONGEST_WAIT_NS:
            self.record.start_ns -= waited_ns
            self._clock -= waited_ns

    def _close_record(self) -> None:
        self.ended = True
        record, elapsed = self.record, time.perf_counter_ns() - self._clock
        record.end_ns = record.start_ns + elapsed
        record.e2e = elapsed / 1e9
        if record.time_to_first_token is None and self._first_token is not None:
            record.time_to_first_token = (self._first_token - self._clock) / 1e9

    def _note_end(self, finish_reason: str | None, error: BaseException | None) -> None:
        record = self.record
        if finish_reason is not None:
            record.finish_reasons.append(finish_reason)
        if record.error_type is not None:
            return
        if error is not None:
            record.error_type = error_type(error)
            record.error_message = error_message(error)
        else:
            record.error_type = _ERROR_OF_FINISH.get(finish_reason or "")

    def _watch_first_token(self, detokenizer: Any) -> None:
        # Offline vLLM keeps no statistics by default, and nothing of ours may run per token. So the instance's own
        # `update` is shadowed until its first call, which takes the time and removes the shadow again.
        update = detokenizer.update

        def first_update(*args: Any, **kwargs: Any) -> Any:
            with _FIRST_TOKEN:
                _remove_shadow(detokenizer)
                if self._first_token is None:
                    self._first_token = time.perf_counter_ns()
            return update(*args, **kwargs)

        detokenizer.update = first_update

    @staticmethod
    def _unwatch(state: Any) -> None:
        if state.detokenizer is not None:
            _remove_shadow(state.detokenizer)

    def __del__(self) -> None:
        if not getattr(self, "ended", True):
            self._runtime.lost.append(self)


def _remove_shadow(detokenizer: Any) -> None:
    # Not through `__dict__`: that would turn CPython's inline attributes into a dictionary for good, and slow every
    # later access that vLLM makes, token by token.
    with contextlib.suppress(AttributeError):
        del detokenizer.update


class _Internal:
    """Stands for engine requests that are steps inside a request of the user's: they are not traced."""

    __slots__ = ()


INTERNAL = _Internal()
admission: ContextVar[LiveRequest | _Internal | None] = ContextVar("traceai_vllm_admission", default=None)


def begin(
    variant: Variant | None, params: Any, ctx: Context | None = None, called_ns: int | None = None
) -> LiveRequest | _Internal | None:
    """Start a request: take the caller's context, time and parameters.

    Args:
        variant: what the engine serves.
        params: vLLM's ``SamplingParams`` or ``PoolingParams``.
        ctx: the context of the caller; the current one when None.
        called_ns: when the caller called, in nanoseconds since the epoch; now when None.

    Returns:
        The live request; ``INTERNAL`` for a step of another request; None when instrumentation is off or suppressed.
    """
    active = runtime.current()
    if active is None or not is_instrumentation_enabled():
        return None
    if active.lost:
        active.drain()
    if ctx is None:
        ctx = otel_context.get_current()
    if ctx.get(INTERNAL_KEY) is not None:
        return INTERNAL
    record = RequestRecord(
        context=ctx,
        variant=variant or UNKNOWN_VARIANT,
        operation=str(ctx.get(OPERATION_KEY) or extract.operation_of(params)),
        start_ns=called_ns or time.time_ns(),
    )
    with _READ:
        extract.read_params(record, params)
    return LiveRequest(active, record)


def error_type(error: BaseException) -> str:
    """Return the ``error.type`` of an exception: ``timeout``, ``cancelled``, or the name of its class."""
    if isinstance(error, (TimeoutError, asyncio.TimeoutError)):
        return "timeout"
    if isinstance(error, (asyncio.CancelledError, GeneratorExit)):
        return "cancelled"
    return type(error).__name__


def error_message(error: BaseException) -> str | None:
    """Return an exception's message, or None where it may quote what the user sent.

    Validation errors (``ValueError``, ``TypeError``, and from vLLM 0.27 ``VLLMClientError``, with what derives from
    them) are about the request and often repeat a part of it; content is never recorded unasked.
    """
    if isinstance(error, (ValueError, TypeError)) or "VLLMClientError" in {
        base.__name__ for base in type(error).__mro__
    }:
        return None
    return str(error)[:_MAX_MESSAGE] or None
