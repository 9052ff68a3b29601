"""Hooks on ``vllm.v1.engine.output_processor.OutputProcessor``, which every request passes in the frontend process.

Its class and method names have not changed from vLLM 0.8.5 to 0.33. Requests come in through ``add_request`` and leave
through ``_update_stats_from_finished`` (called once per finished answer with the true reason, statistics on or off),
``abort_requests`` or ``propagate_error``. Nothing here runs per token. The hooks are plain functions: what they cost is
paid for every request, and a wrapt wrapper costs some 1.5 µs where a function costs 0.3.
"""

from __future__ import annotations

import functools
import os
import sys
import time
import weakref
from typing import TYPE_CHECKING, Any

from traceai_vllm.engine import extract
from traceai_vllm.engine.live import LiveRequest, admission, begin
from traceai_vllm.guard import Guard
from traceai_vllm.record import UNKNOWN_VARIANT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from traceai_vllm.engine.runtime import Runtime
    from traceai_vllm.record import Variant

_ADMIT = Guard("the admission of a request")
_FINISH = Guard("the end of a request")
_ABORT = Guard("the abort of a request")
_FAIL = Guard("the failure of an engine")
_EXIT = Guard("the end of a request at exit")
_SWEEP = Guard("looking for requests that have ended")
_LOAD = Guard("the engine's load")
_VARIANT = Guard("detecting the model variant")
_EXIT_S = 1.0
_MAX_CAUSES = 16


class Tracker:
    """The open requests of one ``OutputProcessor``, and what its engine serves.

    Attributes:
        open: internal request id to the request and vLLM's state of it.
        calls: callers' contexts of ``AsyncLLM.generate`` calls that were made but not admitted yet.
        engine: weak reference to the engine, once it is known.
        keeps_statistics: whether the engine's load comes with its steps.
        load: the engine's latest ``SchedulerStats``.
        prefix_cache_queries: tokens looked up in the prefix cache so far (blocks in old versions of vLLM).
        prefix_cache_hits: tokens found there so far.
        on_drained: called when the last open request has ended.
    """

    __slots__ = (
        "__weakref__",
        "_variants",
        "calls",
        "config",
        "engine",
        "keeps_statistics",
        "load",
        "on_drained",
        "open",
        "prefix_cache_hits",
        "prefix_cache_queries",
    )

    def __init__(self, *, keeps_statistics: bool = True) -> None:
        self.keeps_statistics = keeps_statistics
        self.open: dict[str, tuple[LiveRequest, Any]] = {}
        self.calls: dict[Any, list[Any]] = {}
        self.config: Any = None
        self.engine: weakref.ref[Any] | None = None
        self.load: Any = None
        self.prefix_cache_queries = 0
        self.prefix_cache_hits = 0
        self.on_drained: Callable[[], None] | None = None
        self._variants: tuple[Runtime, Variant] | None = None

    def variant(self, active: Runtime) -> Variant:
        """Return what the engine serves; read once per engine and period of instrumentation."""
        if self._variants is None or self._variants[0] is not active:
            if self.keeps_statistics:
                active.need("update_scheduler_stats")
            if self.config is None:
                return UNKNOWN_VARIANT
            # What cannot be read once is not tried again for every request, which is traced all the same.
            self._variants = (active, UNKNOWN_VARIANT)
            with _VARIANT:
                self._variants = (active, _chosen_variant(self.config, active))
        return self._variants[1]

    def close(self, request_id: str, finish_reason: str | None, error: BaseException | None = None) -> None:
        """End one answer; an id that is not open (ended before, or never seen) is passed over."""
        entry = self.open.pop(request_id, None)
        if entry is None:
            return
        live, state = entry
        live.answered(state, finish_reason, error)
        if self.on_drained is not None and not self.open:
            self.on_drained()

    def close_all(self, error: BaseException) -> None:
        """End every open answer with the same error."""
        for request_id in tuple(self.open):
            with _FAIL:
                self.close(request_id, None, error)


def _chosen_variant(config: Any, active: Runtime) -> Variant:
    from traceai_vllm.engine.variant import detect_variant, override_variant  # five modules, once there is an engine

    chosen = override_variant(
        detect_variant(config), model_variant=active.model_variant, quantization_format=active.quantization_format
    )
    active.note_declared(chosen)
    return chosen


_processors: weakref.WeakSet[Any] = weakref.WeakSet()
# The engines that a fork copied are its parent's.
os.register_at_fork(after_in_child=_processors.clear)
_ATTRIBUTE = "_traceai_vllm_tracker"


def tracker_of(processor: Any) -> Tracker:
    """Return the tracker of an ``OutputProcessor``; it lives on the processor and dies with it."""
    # getattr and setattr, not `__dict__`: see live._remove_shadow.
    tracker: Tracker | None = getattr(processor, _ATTRIBUTE, None)
    if tracker is None:
        tracker = Tracker(keeps_statistics=getattr(processor, "log_stats", True))
        setattr(processor, _ATTRIBUTE, tracker)
        _processors.add(processor)
    return tracker


def trackers() -> list[Tracker]:
    """Return the trackers of all processors that are alive."""
    return [tracker_of(processor) for processor in tuple(_processors)]


def processors_in_flight() -> Iterable[tuple[Any, Tracker]]:
    """Return the processors that still have open requests of ours."""
    trackers = [(processor, tracker_of(processor)) for processor in tuple(_processors)]
    return [(processor, tracker) for processor, tracker in trackers if tracker.open]


def abandon_all() -> None:
    """End the requests that are still open, as abandoned: the process exits, and vLLM will not end them any more.

    A batch may have any number of them; the process does not wait for more than a second.
    """
    deadline = time.monotonic() + _EXIT_S
    for tracker in trackers():
        for live, _ in tuple(tracker.open.values()):
            with _EXIT:
                if time.monotonic() > deadline:
                    return
                live.abandoned()  # the first of several answers counts


def add_request(original: Any) -> Any:
    """Build the hook on ``OutputProcessor.add_request(request, prompt, parent_req, request_index, queue)``."""

    @functools.wraps(original)
    def hook(self: Any, *args: Any, **kwargs: Any) -> Any:
        result = original(self, *args, **kwargs)
        try:
            _admit(self, args[0] if args else kwargs["request"])
        except Exception as error:
            _ADMIT.caught(error)
        return result

    return hook


def _admit(processor: Any, request: Any) -> None:
    tracker = tracker_of(processor)
    states, request_id = processor.request_states, request.request_id
    state = states.get(request_id)
    if state is None:
        # The last call of a streamed-input session ends it here (0.15 and later).
        tracker.close(request_id, "stop")
    elif request_id not in tracker.open:
        _open(tracker, request, state)
    if len(tracker.open) > len(states):
        _let_go(tracker, states)


def _open(tracker: Tracker, request: Any, state: Any) -> None:
    live = admission.get()
    alone = live is None
    if live is None:
        live = _sibling(tracker, state) or begin(tracker, extract.params_of(request, state))
    if not isinstance(live, LiveRequest):
        return
    tracker.open[request.request_id] = (live, state)
    live.adopt(request, state, tracker.load)
    if alone:
        live.admitted()


def _sibling(tracker: Tracker, state: Any) -> LiveRequest | None:
    # Whoever drives the processor without an engine's `add_request` (or a version without that hook) also has one
    # request with several answers when n > 1.
    parent = state.parent_req
    if parent is None:
        return None
    return next((live for live, other in tracker.open.values() if other.parent_req is parent), None)


def _let_go(tracker: Tracker, states: Any) -> None:
    # Requests whose end was missed by an error of ours: they must not be held for ever, and end as abandoned.
    for request_id in [known for known in tracker.open if known not in states]:
        del tracker.open[request_id]


def finished(original: Any) -> Any:
    """Build the hook on ``OutputProcessor._update_stats_from_finished(req_state, finish_reason, iteration_stats)``."""

    @functools.wraps(original)
    def hook(self: Any, *args: Any, **kwargs: Any) -> Any:
        result = original(self, *args, **kwargs)
        try:
            state = args[0] if args else kwargs["req_state"]
            reason = args[1] if len(args) > 1 else kwargs.get("finish_reason")
            tracker_of(self).close(state.request_id, None if reason is None else str(reason))
        except Exception as error:
            _FINISH.caught(error)
        return result

    return hook


def abort_requests(original: Any) -> Any:
    """Build the hook on ``OutputProcessor.abort_requests(request_ids[, internal])``, which returns internal ids."""

    @functools.wraps(original)
    def hook(self: Any, *args: Any, **kwargs: Any) -> Any:
        aborted = original(self, *args, **kwargs)
        with _ABORT:
            cause = _cause_of_abort(sys.exc_info()[1])
            # What is left of a pooling batch is aborted when the engine has failed.
            reason = None if cause is not None and failed_in_step(cause) else "abort"
            tracker = tracker_of(self)
            for request_id in aborted:
                tracker.close(request_id, reason, cause)
        return aborted

    return hook


def _cause_of_abort(error: BaseException | None) -> BaseException | None:
    # vLLM aborts while it handles what ended the request: cancellation, a closed generator, an error of its own. An
    # application may do so while it handles anything.
    import asyncio

    if isinstance(error, (asyncio.CancelledError, GeneratorExit, TimeoutError, asyncio.TimeoutError)):
        return error
    traceback = None if error is None else error.__traceback__  # its first frame is the one that handles the error
    handled_by_vllm = traceback is not None and str(traceback.tb_frame.f_globals.get("__name__")).startswith("vllm.")
    return error if handled_by_vllm else None


def failed_in_step(error: BaseException, handled: BaseException | None = None) -> bool:
    """Return whether an error that came out of an entry point of ``LLM`` is the failure of an engine step.

    Others leave the engine's requests open: a prompt that is refused, or Ctrl-C. A function that stands round the step
    may raise an error of its own for it.

    Args:
        error: the error.
        handled: what the caller was handling when it called, and is no failure of this call.
    """
    cause: BaseException | None = error
    for _ in range(_MAX_CAUSES):
        if not isinstance(cause, Exception) or cause is handled:
            return False
        if _came_out_of_step(cause):
            return True
        cause = cause.__cause__ or cause.__context__
    return False


def _came_out_of_step(error: Exception) -> bool:
    traceback = error.__traceback__
    while traceback is not None:
        frame = traceback.tb_frame
        if frame.f_code.co_name == "step" and frame.f_globals.get("__name__") == "vllm.v1.engine.llm_engine":
            return True
        traceback = traceback.tb_next
    return False


def propagate_error(original: Any) -> Any:
    """Build the hook on ``OutputProcessor.propagate_error(e)``: the engine failed, and every request with it."""

    @functools.wraps(original)
    def hook(self: Any, *args: Any, **kwargs: Any) -> Any:
        result = original(self, *args, **kwargs)
        with _FAIL:
            tracker_of(self).close_all(args[0] if args else kwargs["e"])
        return result

    return hook


def process_outputs(original: Any) -> Any:
    """Build the hook on ``OutputProcessor.process_outputs``, once per engine step: one comparison.

    Only for versions (0.33 and later) in which a request can be rejected in there without passing
    ``_update_stats_from_finished``, or that do not have the latter.
    """

    @functools.wraps(original)
    def hook(self: Any, *args: Any, **kwargs: Any) -> Any:
        result = original(self, *args, **kwargs)
        with _SWEEP:
            tracker = getattr(self, _ATTRIBUTE, None)
            if tracker is not None and len(tracker.open) > len(self.request_states):
                outputs = args[0] if args else kwargs["engine_core_outputs"]
                _sweep(tracker, self.request_states, outputs, getattr(result, "reqs_to_abort", ()))
        return result

    return hook


def _sweep(tracker: Tracker, states: Any, outputs: Any, stopped: Any) -> None:
    last = {output.request_id: output for output in outputs}
    for request_id in [known for known in tracker.open if known not in states]:
        tracker.close(request_id, *_end_of(last.get(request_id), request_id in stopped))


def _end_of(output: Any, stopped: bool) -> tuple[str, BaseException | None]:
    error = getattr(output, "error", None)  # 0.33: a RequestError; the caller gets it as this exception
    if error is not None:
        return "error", error.to_exception()
    reason = getattr(output, "finish_reason", None)
    if stopped:  # a stop string was found: the engine itself is to end the request
        return "stop", None
    return ("error" if reason is None else str(reason)), None


def update_scheduler_stats(original: Any) -> Any:
    """Build the hook on ``OutputProcessor.update_scheduler_stats``, once per engine step: an assignment, two sums.

    Only there once an engine keeps statistics, as servers do; offline vLLM by default does not.
    """

    @functools.wraps(original)
    def hook(self: Any, scheduler_stats: Any) -> Any:
        result = original(self, scheduler_stats)
        if scheduler_stats is not None:
            with _LOAD:
                _note_load(tracker_of(self), scheduler_stats)
        return result

    return hook


def _note_load(tracker: Tracker, scheduler_stats: Any) -> None:
    tracker.load = scheduler_stats
    cache = scheduler_stats.prefix_cache_stats
    if cache.queries:
        tracker.prefix_cache_queries += cache.queries
        tracker.prefix_cache_hits += cache.hits


HOOKS_IN_FLIGHT = {
    "_update_stats_from_finished": finished,
    "abort_requests": abort_requests,
    "propagate_error": propagate_error,
}
"""Hooks that a processor with open requests keeps until they have ended, after ``uninstrument()``."""
