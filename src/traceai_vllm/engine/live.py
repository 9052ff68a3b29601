"""Requests in flight: from admission to the one end that each of them has."""

from __future__ import annotations

import time
from contextvars import ContextVar
from functools import partial
from typing import TYPE_CHECKING, Any

from opentelemetry import context as otel_context
from opentelemetry.instrumentation.utils import is_instrumentation_enabled

from traceai_vllm.engine import extract, runtime
from traceai_vllm.engine.content import RequestContent
from traceai_vllm.guard import Guard
from traceai_vllm.record import RequestRecord, Variant
from traceai_vllm.server.served import served_in

if TYPE_CHECKING:
    from opentelemetry.context import Context

    from traceai_vllm.engine.funnel import Tracker
    from traceai_vllm.engine.runtime import Runtime

_READ = Guard("reading a request of vLLM's")
_FIRST_TOKEN = Guard("the time of a first token")
_LONGEST_WAIT_NS = 3_600 * 1_000_000_000
# vllm.v1.engine.FinishReason values that are no answer.
ERROR_OF_FINISH = {"abort": "cancelled", "error": "engine_error"}
_MAX_MESSAGE = 256

SCOPE_KEY = otel_context.create_key("traceai-vllm-scope")


class Scope:
    """What a call of ``LLM`` says of the requests inside it, whose context it lies in; only if they are to be traced.

    Args:
        operation: their operation; None where the request's parameters say it.
        internal: they are steps inside one request of the user's (beam search).
    """

    __slots__ = ("internal", "operation")

    def __init__(self, operation: str | None, *, internal: bool = False) -> None:
        self.operation = operation
        self.internal = internal


class LiveRequest:
    """One request of the user's, with as many engine requests (answers) under it as ``n`` says.

    It ends once: when its last answer ended and its admission is over, or when its admission failed. While it runs it
    only holds on to what vLLM knows of it; that is read when it has ended, and only if somebody wants the record.

    Args:
        active: the runtime that it is admitted under.
        variant: what the engine serves.
        ctx: the context of the caller.
        params: vLLM's ``SamplingParams`` or ``PoolingParams``.
        start_ns: when the caller called, in nanoseconds since the epoch.
        clock: the same moment, of ``time.perf_counter_ns()``, which measures from there.
        request_id: the caller's id, for a request that is rejected before the engine has seen it.
        operation: the operation, if it is known from the caller; else it is found when the request has ended.
    """

    __slots__ = (
        "_admitting",
        "_answers",
        "_clock",
        "_content",
        "_error_message",
        "_error_type",
        "_finish_reasons",
        "_in_parts",
        "_load",
        "_open_answers",
        "_params",
        "_record",
        "_request_id",
        "context",
        "end_ns",
        "ended",
        "first_token",
        "operation",
        "runtime",
        "start_ns",
        "stream",
        "variant",
    )

    def __init__(
        self,
        active: Runtime,
        variant: Variant,
        ctx: Context,
        params: Any,
        start_ns: int,
        *,
        clock: int,
        request_id: Any = None,
        operation: str | None = None,
    ) -> None:
        self.runtime = active
        self._params = params
        self.variant = variant
        self.context = ctx
        self.start_ns = start_ns
        self.end_ns = 0
        self.ended = False
        self.operation = operation or ""
        self.stream: bool | None = None
        self.first_token: int | None = None
        self._request_id = request_id
        self._clock = clock
        self._load: Any = None
        self._answers: list[Any] = []
        self._finish_reasons: list[tuple[int, str]] = []
        self._error_type: str | None = None
        self._error_message: str | None = None
        self._open_answers = 0
        self._in_parts = False
        self._admitting = True
        self._record: RequestRecord | None = None
        self._content = None if active.content is None else RequestContent(active.content, ctx)

    def adopt(self, request: Any, state: Any, load: Any) -> None:
        """Take an engine request as one of this request's answers.

        Args:
            request: vLLM's ``EngineCoreRequest``.
            state: its ``RequestState``.
            load: the engine's latest ``SchedulerStats``; None when unknown.
        """
        self._open_answers += 1
        if not self._answers:
            self._load = load
            # vLLM's own copy: the caller's may change before this request has ended.
            self._params = extract.params_of(request, state)
            self._start_at(request.arrival_time)
            self._in_parts = getattr(request, "resumable", False)  # streamed input: 0.15
        self._answers.append(state)
        detokenizer = state.detokenizer
        if detokenizer is not None and (self._in_parts or not extract.reports_first_token(state)):
            # Offline vLLM keeps no statistics by default, and nothing of ours may run per token. So the instance's own
            # `update` is shadowed until its first call, which takes the time and removes the shadow again.
            detokenizer.update = partial(_first_update, self, detokenizer, detokenizer.update)

    def answered(self, state: Any, finish_reason: str | None, error: BaseException | None = None) -> None:
        """Take note that one answer ended; the request ends with its last one."""
        self._open_answers -= 1
        if finish_reason is not None:
            self._finish_reasons.append((state.request_index, finish_reason))
        if self._content is not None:
            self._content.answered(state, finish_reason)
        if error is not None:
            self._note_error(error, is_cause_of_abort=finish_reason == "abort")
        elif finish_reason in ERROR_OF_FINISH and self._error_type is None:
            self._error_type = ERROR_OF_FINISH[finish_reason]
        if state.detokenizer is not None and (self.first_token is None or len(self._answers) > 1):
            _remove_shadow(state.detokenizer)
        if self._open_answers == 0 and not self._admitting:
            self._end()

    def admitted(self) -> None:
        """Take note that admission is over: this call will bring no further answers.

        With streamed input the answers come later, from a task of vLLM's: a request without any is left open.
        """
        self._admitting = False
        if self._answers and self._open_answers == 0:
            self._end()

    def rejected(self, error: BaseException) -> None:
        """End the request because its admission failed with this error."""
        self._note_error(error)
        self._end()

    def _note_error(self, error: BaseException, *, is_cause_of_abort: bool = False) -> None:
        # Not the exception itself: it would keep the caller's frames alive. The first error counts. What an abort
        # answers may be about another request, and say what that one was about.
        if self._error_type is None:
            self._error_type = error_type(error)
            self._error_message = None if is_cause_of_abort else error_message(error)

    def abandoned(self) -> None:
        """End a request that vLLM forgot (its engine was dropped, its input stream sent nothing, the process exits)."""
        if not self.ended:
            self._error_type = "abandoned"
            self._finish()

    def _end(self) -> None:
        if self.runtime.lost:
            self.runtime.drain()  # it may be among them: the garbage collector finalizes it before what still ends it
        if not self.ended:
            self._finish()

    def _finish(self) -> None:
        self.ended = True
        self.end_ns = self.start_ns + time.perf_counter_ns() - self._clock
        if not self.operation:
            self.operation = self._known_operation()
        self.runtime.pipeline.finish(self)

    def _known_operation(self) -> str:
        served = served_in(self.context)
        return (served and served.operation) or extract.operation_of(self._params)

    def _start_at(self, arrival: float) -> None:
        # vLLM's arrival time is when its server received the request, at most a little before this call. A caller may
        # pass any number for it; one that cannot be an arrival on this machine's wall clock is not believed.
        waited_ns = self.start_ns - int(arrival * 1e9)
        if 0 <= waited_ns < _LONGEST_WAIT_NS:
            self.start_ns -= waited_ns
            self._clock -= waited_ns

    def record(self) -> RequestRecord:
        """Return the record of this request, which must have ended; made once, when it is first asked for."""
        record = self._record
        if record is None:
            record = RequestRecord(self.context, self.variant, self.operation, self.start_ns, self.end_ns)
            self._record = record
            try:
                self._fill(record)
            except Exception as error:
                _READ.caught(error)
        return record

    def _fill(self, record: RequestRecord) -> None:
        record.e2e = (self.end_ns - self.start_ns) / 1e9
        record.stream = self.stream
        # In the order of the answers, which need not be that of their ends.
        record.finish_reasons = [reason for _, reason in sorted(self._finish_reasons)]
        record.error_type = self._error_type
        record.error_message = self._error_message
        if self.first_token is not None:
            record.time_to_first_token = (self.first_token - self._clock) / 1e9
        extract.read_params(record, self._params)
        if self._content is not None:
            self._content.stop_sequences = record.stop_sequences
            self._content.output_schema = extract.output_schema(self._params)
            record.content = self._content
        if self._load is not None:
            extract.read_load(record, self._load)
        request_id = self._request_id
        if self._answers:
            extract.read_admission(record, self._answers[0])
            request_id = extract.request_id_of(self._answers[0])
        if isinstance(request_id, str):
            served = served_in(self.context)
            request_id = request_id if served is None else served.response_id(request_id)
            record.request_id = request_id[: extract.MAX_REQUEST_ID]
        for state in self._answers:
            extract.read_result(record, state, in_parts=self._in_parts)

    def __del__(self) -> None:
        if not getattr(self, "ended", True):
            self.runtime.lost.append(self)


def _first_update(live: LiveRequest, detokenizer: Any, update: Any, *args: Any, **kwargs: Any) -> Any:
    try:
        _remove_shadow(detokenizer)
        if live.first_token is None:
            live.first_token = time.perf_counter_ns()
    except Exception as error:
        _FIRST_TOKEN.caught(error)
    return update(*args, **kwargs)


def _remove_shadow(detokenizer: Any) -> None:
    # Not through `__dict__`: that would turn CPython's inline attributes into a dictionary for good, and slow every
    # later access that vLLM makes, token by token.
    try:  # noqa: SIM105 -- contextlib.suppress costs a microsecond, for every request
        del detokenizer.update
    except AttributeError:
        pass


class Internal:
    """Stands for engine requests that are steps inside a request of the user's: they are not traced."""

    __slots__ = ()

    def admitted(self) -> None:
        """Do nothing."""

    def rejected(self, error: BaseException) -> None:
        """Do nothing."""


INTERNAL = Internal()
admission: ContextVar[LiveRequest | Internal | None] = ContextVar("traceai_vllm_admission", default=None)


def begin(
    tracker: Tracker,
    params: Any,
    request_id: Any = None,
    ctx: Context | None = None,
    called_ns: int | None = None,
    *,
    clock: int | None = None,
) -> LiveRequest | Internal | None:
    """Start a request: take the caller's context, time and parameters.

    Args:
        tracker: that of the engine's ``OutputProcessor``.
        params: vLLM's ``SamplingParams`` or ``PoolingParams``.
        request_id: the caller's id.
        ctx: the context of the caller; the current one when None.
        called_ns: when the caller called, in nanoseconds since the epoch; now when None.
        clock: the same moment, of ``time.perf_counter_ns()``.

    Returns:
        The live request; ``INTERNAL`` for a step of another request; None when instrumentation is off or suppressed.
    """
    active = runtime.current()
    if active is None:
        return None
    if active.lost:
        active.drain()
    if ctx is None:
        ctx = otel_context.get_current()
    scope: Scope | None = ctx.get(SCOPE_KEY)  # type: ignore[assignment]
    operation = None
    if scope is not None:
        if scope.internal:
            return INTERNAL
        operation = scope.operation
    elif not is_instrumentation_enabled():
        return None
    return LiveRequest(
        active,
        tracker.variant(active),
        ctx,
        params,
        called_ns or time.time_ns(),
        clock=clock or time.perf_counter_ns(),
        request_id=request_id,
        operation=operation,
    )


def error_type(error: BaseException) -> str:
    """Return the ``error.type`` of an exception: ``timeout``, ``cancelled``, or the name of its class."""
    import asyncio  # here, because it takes longer to import than all of ours, and whoever fails in it has it

    if isinstance(error, (TimeoutError, asyncio.TimeoutError)):
        return "timeout"
    if isinstance(error, (asyncio.CancelledError, GeneratorExit)):
        return "cancelled"
    return type(error).__name__


def error_message(error: BaseException) -> str | None:
    """Return an exception's message, or None where it may quote what the user sent.

    Validation errors (``ValueError``, ``TypeError``, and from vLLM 0.27 ``VLLMClientError``, with what derives from
    them) are about the request and often repeat a part of it; a ``LookupError`` is what was looked up; those of files
    and connections (``OSError``) name the URL of a picture that could not be had; a panic of a tokenizer in Rust, which
    is no ``Exception``, quotes the text. Content is never recorded unasked.
    """
    if (
        not isinstance(error, Exception)
        or isinstance(error, (ValueError, TypeError, LookupError, OSError))
        or "VLLMClientError" in {base.__name__ for base in type(error).__mro__}
    ):
        return None
    return str(error)[:_MAX_MESSAGE] or None
