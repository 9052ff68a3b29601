"""Hooks on the engines' own ``add_request``, where a request of the user's begins, may be rejected, and may fan out.

``AsyncLLM.generate`` only makes a generator: the caller's context is taken when it is called and kept until the request
is admitted, because a server may consume the generator in another task than the one that called.
"""

from __future__ import annotations

import functools
import time
import weakref
from typing import TYPE_CHECKING, Any

from opentelemetry import context as otel_context
from opentelemetry.instrumentation.utils import is_instrumentation_enabled

from traceai_vllm.engine import runtime
from traceai_vllm.engine.funnel import Tracker, tracker_of
from traceai_vllm.engine.live import INTERNAL, SCOPE_KEY, Internal, LiveRequest, admission, begin
from traceai_vllm.guard import Guard

if TYPE_CHECKING:
    from opentelemetry.context import Context

_CALL = Guard("the context of a call")
_BEGIN = Guard("the beginning of a request")
_ADMITTED = Guard("the end of an admission")
_REJECTED = Guard("the rejection of a request")
_STEP = Guard("the failure of an engine step")


def tracker_of_engine(engine: Any) -> Tracker:
    """Return the tracker of an ``AsyncLLM`` or ``LLMEngine``, and tell it the engine's config."""
    tracker = tracker_of(engine.output_processor)
    if tracker.config is None:
        tracker.config = engine.vllm_config
        tracker.engine = weakref.ref(engine)
    return tracker


def add_request(original: Any) -> Any:
    """Build the hook on ``LLMEngine.add_request(request_id, prompt, params, ...)``."""

    @functools.wraps(original)
    def hook(self: Any, *args: Any, **kwargs: Any) -> Any:
        live = None
        try:
            live = _begin(self, args, kwargs)
        except Exception as error:
            _BEGIN.caught(error)
        if live is None:
            return original(self, *args, **kwargs)
        token = admission.set(live)
        try:
            result = original(self, *args, **kwargs)
        except BaseException as error:
            with _REJECTED:
                live.rejected(error)
            raise
        finally:
            admission.reset(token)
        try:
            live.admitted()
        except Exception as error:
            _ADMITTED.caught(error)
        return result

    return hook


def add_request_async(original: Any) -> Any:
    """Build the hook on ``AsyncLLM.add_request(request_id, prompt, params, ...)``, a coroutine function."""

    @functools.wraps(original)
    async def hook(self: Any, *args: Any, **kwargs: Any) -> Any:
        live = None
        try:
            live = _begin_async(self, args, kwargs)
        except Exception as error:
            _BEGIN.caught(error)
        if live is None:
            return await original(self, *args, **kwargs)
        token = admission.set(live)
        try:
            result = await original(self, *args, **kwargs)
        except BaseException as error:
            with _REJECTED:
                if not isinstance(error, GeneratorExit):  # of the garbage collector, where no span can be made
                    live.rejected(error)
            raise
        finally:
            try:  # noqa: SIM105 -- contextlib.suppress costs a microsecond, for every request
                admission.reset(token)
            except ValueError:  # the garbage collector works in whatever context there is
                pass
        try:
            live.admitted()
        except Exception as error:
            _ADMITTED.caught(error)
        return result

    return hook


def _begin(engine: Any, args: Any, kwargs: Any) -> LiveRequest | Internal | None:
    params = args[2] if len(args) > 2 else kwargs.get("params")
    live = begin(tracker_of_engine(engine), params, args[0] if args else kwargs.get("request_id"))
    if isinstance(live, LiveRequest) and SCOPE_KEY not in live.context:
        live.runtime.need("step")  # whoever adds requests without `LLM` makes the steps without it, too
    return live


def _begin_async(engine: Any, args: Any, kwargs: Any) -> LiveRequest | Internal | None:
    tracker = tracker_of_engine(engine)
    request_id, params = _argument(args, kwargs, 0, "request_id"), _argument(args, kwargs, 2, "params")
    call = _take_call(tracker, _key(request_id, _argument(args, kwargs, 1, "prompt"), params))
    if call is None:
        return begin(tracker, params, request_id)
    if call.suppressed:
        return INTERNAL
    live = begin(tracker, params, request_id, call.context, call.time_ns, clock=call.clock)
    if isinstance(live, LiveRequest):
        live.stream = call.streams
    return live


class _Call:
    """What is known when ``AsyncLLM.generate`` or ``encode`` is called."""

    __slots__ = ("clock", "context", "generator", "streams", "suppressed", "time_ns")

    def __init__(self, context: Context, streams: bool | None) -> None:
        self.context = context
        self.streams = streams
        self.suppressed = not is_instrumentation_enabled()
        self.time_ns = time.time_ns()
        self.clock = time.perf_counter_ns()
        self.generator: weakref.ref[Any] | None = None


def generate(wrapped: Any, engine: Any, args: Any, kwargs: Any) -> Any:
    """Hook on ``AsyncLLM.generate(prompt, sampling_params, request_id, ...)`` and ``encode``, async generators."""
    generator = wrapped(*args, **kwargs)
    with _CALL:
        if runtime.current() is not None:
            _keep_call(engine, generator, args, kwargs)
    return generator


def _keep_call(engine: Any, generator: Any, args: Any, kwargs: Any) -> None:
    calls = tracker_of_engine(engine).calls
    params = _argument(args, kwargs, 1, "sampling_params", "pooling_params")
    key = _key(_argument(args, kwargs, 2, "request_id"), _argument(args, kwargs, 0, "prompt"), params)
    call = _Call(otel_context.get_current(), _streams(params))
    calls.setdefault(key, []).append(call)

    def forget(_: Any) -> None:
        with _CALL:
            _forget(calls, key, call)

    # A generator that is never consumed must not keep its caller's context for ever.
    call.generator = weakref.ref(generator, forget)


def _take_call(tracker: Tracker, key: Any) -> _Call | None:
    waiting = tracker.calls.get(key)
    if not waiting:
        return None
    call: _Call = waiting.pop(0)
    if not waiting:
        del tracker.calls[key]
    return call


def _forget(calls: dict[Any, list[Any]], key: Any, call: _Call) -> None:
    waiting = calls.get(key)
    if waiting and call in waiting:
        waiting.remove(call)
        if not waiting:
            del calls[key]


def _key(request_id: Any, prompt: Any, params: Any) -> Any:
    # Request ids need not be unique (0.14 and later); `generate` hands these very objects on to `add_request`.
    return (request_id, id(prompt), id(params))


def _streams(params: Any) -> bool | None:
    # RequestOutputKind: CUMULATIVE 0, DELTA 1, FINAL_ONLY 2. Pooling requests do not stream.
    kind = getattr(params, "output_kind", None)
    return None if kind is None or not hasattr(params, "max_tokens") else getattr(kind, "value", kind) != 2


def _argument(args: Any, kwargs: Any, position: int, *names: str) -> Any:
    if len(args) > position:
        return args[position]
    return next((kwargs[name] for name in names if name in kwargs), None)


def step(original: Any) -> Any:
    """Build the hook on ``LLMEngine.step()``, once per engine step: nothing unless it raises.

    Offline vLLM does not pass through ``propagate_error``. Only there once somebody steps an engine without an entry
    point of ``LLM``, which sees the failure itself (:func:`~traceai_vllm.engine.funnel.failed_in_step`).
    """

    @functools.wraps(original)
    def hook(self: Any) -> Any:
        try:
            return original(self)
        except Exception as error:
            with _STEP:
                tracker_of(self.output_processor).close_all(error)
            raise

    return hook
