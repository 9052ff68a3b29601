"""The one list of what is patched in vLLM, and how it is put in place and taken back.

Modules are patched when they are imported (wrapt's post-import hooks), so that ``instrument()`` never imports vLLM or
torch itself. What a version does not have is left out, by feature and not by version number, and one warning for each
such hook says what spans lose by it.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import types
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import wrapt

from traceai_vllm.engine import beams, calls, first_engine, funnel, offline, readings, runtime, serving
from traceai_vllm.guard import Guard
from traceai_vllm.server import fastapi

if TYPE_CHECKING:
    from collections.abc import Callable

_log = logging.getLogger("traceai_vllm")
_PATCH = Guard("patching vLLM")
_UNPATCH = Guard("giving vLLM its functions back")
_MISSING: Any = object()


@dataclass(frozen=True, slots=True)
class Patch:
    """One attribute of one class of vLLM, and what takes its place.

    Attributes:
        module: the module that defines the class.
        owner: the class.
        name: the attribute to replace.
        build: makes the replacement from the original.
        required: a version of vLLM without it loses requests, not only details.
        lost: what else is missing without it, for the warning; empty where nothing is, as for a call that a version
            does not offer.
        only_if: says from the module whether the patch is needed in this version.
        on_need: runs at each engine step, so it is put in place when an engine needs it (:meth:`runtime.Runtime.need`).
    """

    module: str
    owner: str
    name: str
    build: Callable[[Any], Any]
    required: bool = False
    lost: str = ""
    only_if: Callable[[Any], bool] = lambda module: True
    on_need: bool = False

    def __str__(self) -> str:
        """Return the place of the hook, as ``module.Class.name``."""
        return f"{self.module}.{self.owner}.{self.name}"


def _wrapping(hook: Callable[[Any, Any, Any, Any], Any]) -> Callable[[Any], Any]:
    return lambda original: wrapt.FunctionWrapper(original, hook)


def _rejects_in_process_outputs(module: Any) -> bool:
    # EngineCoreOutput.error came with 0.33; before, every end in process_outputs passes _update_stats_from_finished.
    output = getattr(module, "EngineCoreOutput", None)
    return "error" in getattr(output, "__struct_fields__", ())


def _ends_in_process_outputs(module: Any) -> bool:
    processor = getattr(module, "OutputProcessor", None)
    return _rejects_in_process_outputs(module) or not hasattr(processor, "_update_stats_from_finished")


def _answers_are_seen(module: Any) -> bool:
    # A request whose answers are not seen could only end as abandoned.
    return _ADD_REQUEST in _applied


def _searches(owner: str) -> Callable[[Any], bool]:
    # Not where the method is inherited from another home, which is hooked itself.
    return lambda module: "beam_search" in vars(getattr(module, owner, object))


def _is_first_engine(module: Any) -> bool:
    # From 0.11 on the name stands for the V1 engine.
    return getattr(getattr(module, "LLMEngine", None), "__module__", None) == "vllm.engine.llm_engine"


_PROCESSOR = "vllm.v1.engine.output_processor", "OutputProcessor"
_ASYNC = "vllm.v1.engine.async_llm", "AsyncLLM"
_SYNC = "vllm.v1.engine.llm_engine", "LLMEngine"
_LLM = "vllm.entrypoints.llm", "LLM"
# In the worker's process; at another place before 0.10, where the memory of weights and KV cache then stays unknown.
_WORKER = readings.WORKER_MODULE, "WorkerWrapperBase"
_FASTAPI = "fastapi.applications", "FastAPI"
_middleware_init = _wrapping(fastapi.middleware_init)
_beam_search = _wrapping(beams.search)

_REQUESTS = "some requests or their ends will not be seen"
_LOAD = "the engine's load will be missing from spans and metrics"
_BATCH = {name: f"calls of LLM.{name} get no span of their own round their requests" for name in ("generate", "chat")}
_BODY = "tags in a request's metadata, its content and reasoning tokens will be missing from spans"
_REASONING = "reasoning tokens of the Responses API will be missing from spans"
_BEAMS = "each step of each beam of a server's beam search will be a request of its own"
_MEMORY = "the memory of weights and KV cache will be missing from metrics"
_HTTP = "HTTP requests get no SERVER span, and their headers no tags"

_ADD_REQUEST = Patch(*_PROCESSOR, "add_request", funnel.add_request, required=True)
PATCHES: tuple[Patch, ...] = (
    _ADD_REQUEST,
    Patch(*_PROCESSOR, "_update_stats_from_finished", funnel.finished, required=True),
    Patch(*_PROCESSOR, "abort_requests", funnel.abort_requests, required=True),
    Patch(*_PROCESSOR, "propagate_error", funnel.propagate_error, required=True),
    Patch(*_PROCESSOR, "process_outputs", funnel.process_outputs, required=True, only_if=_ends_in_process_outputs),
    Patch(*_PROCESSOR, "update_scheduler_stats", funnel.update_scheduler_stats, lost=_LOAD, on_need=True),
    Patch(*_ASYNC, "generate", _wrapping(calls.generate), required=True, only_if=_answers_are_seen),
    Patch(*_ASYNC, "encode", _wrapping(calls.generate), only_if=_answers_are_seen),
    Patch(*_ASYNC, "add_request", calls.add_request_async, required=True, only_if=_answers_are_seen),
    Patch(*_SYNC, "add_request", calls.add_request, required=True, only_if=_answers_are_seen),
    Patch(*_SYNC, "step", calls.step, required=True, on_need=True),
    Patch(*_WORKER, "initialize_from_config", _wrapping(readings.worker_ready), lost=_MEMORY),
    Patch("vllm.engine.llm_engine", "LLMEngine", "__init__", first_engine.init, only_if=_is_first_engine),
    *(Patch(*_LLM, name, _wrapping(offline.call(name)), lost=_BATCH.get(name, "")) for name in offline.OPERATIONS),
    *(Patch(*_LLM, name, _wrapping(offline.enqueue(name))) for name in offline.ENQUEUE_OPERATIONS),
    *(Patch(*home, _wrapping(serving.handle(op)), lost=_BODY) for home, op in serving.HANDLERS.items()),
    *(Patch(*home, _wrapping(serving.whole_response), lost=_REASONING) for home in serving.WHOLE_RESPONSES),
    Patch(*beams.HOME, "beam_search", _beam_search, lost=_BEAMS),
    *(Patch(*home, "beam_search", _beam_search, only_if=_searches(home[1])) for home in beams.OLDER_HOMES),
    Patch(*_FASTAPI, "build_middleware_stack", _wrapping(fastapi.build_middleware_stack), lost=_HTTP),
    Patch(*_FASTAPI, "__call__", _wrapping(fastapi.call)),
    Patch("opentelemetry.instrumentation.asgi", "OpenTelemetryMiddleware", "__init__", _middleware_init),
)


class Applied(NamedTuple):
    """A patch in place: enough to undo it."""

    patch: Patch
    owner: Any
    inherited: bool
    original: Any
    replacement: Any


_lock = threading.RLock()
_applied: dict[Patch, Applied] = {}
_registered: set[str] = set()


def install() -> None:
    """Patch what is imported of vLLM now, and the rest when it is imported."""
    for module in dict.fromkeys(patch.module for patch in PATCHES):
        if module in _registered:
            with _PATCH:
                _apply_if_imported(module)
        else:
            # wrapt has no way to take an import hook back: it is registered once and asks whether we are on.
            _registered.add(module)
            wrapt.register_post_import_hook(_on_import, module)


def _on_import(module: Any) -> None:
    with _PATCH:
        if runtime.current() is not None:
            _apply(module)


def _apply_if_imported(name: str) -> None:
    import sys

    module = sys.modules.get(name)
    if module is not None:
        _apply(module)


def _apply(module: Any) -> None:
    with _lock:
        for patch in PATCHES:
            if patch.module == module.__name__ and not _is_in_place(patch):
                with _PATCH:
                    _apply_one(patch, module)


def _is_in_place(patch: Patch) -> bool:
    applied = _applied.get(patch)
    if applied is None:
        return False
    # Somebody who patched below or above ours may have given the original back before we did. Something else there may
    # stand on top of ours.
    found = vars(applied.owner).get(patch.name, _MISSING)
    return found is not (_MISSING if applied.inherited else applied.original)


def _apply_one(patch: Patch, module: Any) -> None:
    if not patch.only_if(module):
        return
    owner = getattr(module, patch.owner, None)
    original = getattr(owner, patch.name, _MISSING)
    if original is _MISSING:
        lost = _lost(patch, module)
        if lost:
            _log.warning(
                "This vLLM has no %s, which traceai-vllm hooks: %s. If docs/compatibility.md does not say so of your "
                "version, please report it.",
                patch,
                lost,
            )
        return
    if patch.on_need and not _is_needed(patch):
        return
    inherited = patch.name not in vars(owner)
    original = original if inherited else vars(owner)[patch.name]
    replacement = patch.build(original)
    applied = Applied(patch, owner, inherited, original, replacement)
    setattr(owner, patch.name, replacement)
    _applied[patch] = applied


def place_needed() -> None:
    """Put in place what became needed since (:meth:`runtime.Runtime.need`)."""
    import sys

    with _lock:
        for patch in PATCHES:
            if patch.on_need and patch not in _applied and _is_needed(patch) and _is_ready(patch):
                with _PATCH:
                    _apply_one(patch, sys.modules[patch.module])


def _is_needed(patch: Patch) -> bool:
    active = runtime.current()
    return active is not None and patch.name in active.needed


def _lost(patch: Patch, module: Any) -> str:
    # A module without the class is one of the homes that the class had before or will have.
    return _REQUESTS if patch.required else patch.lost if hasattr(module, patch.owner) else ""


def uninstall() -> None:
    """Give vLLM its own function objects back; requests in flight keep what they need to end."""
    with _lock:
        with _UNPATCH:
            for processor, tracker in funnel.processors_in_flight():
                with _UNPATCH:
                    _keep_in_flight(processor, tracker)
        for applied in list(_applied.values()):
            with _UNPATCH:
                _restore(applied)


def _restore(applied: Applied) -> None:
    patch = applied.patch
    if not _is_in_place(patch):
        del _applied[patch]
        return
    if vars(applied.owner).get(patch.name) is not applied.replacement:
        # Somebody patched on top of us: ours stays underneath, and passes through while the runtime is off.
        _log.warning(
            "%s.%s was patched again after traceai-vllm; it is left in place and does nothing.",
            patch.owner,
            patch.name,
        )
        return
    if applied.inherited:
        delattr(applied.owner, patch.name)
    else:
        setattr(applied.owner, patch.name, applied.original)
    del _applied[patch]


def _keep_in_flight(processor: Any, tracker: funnel.Tracker) -> None:
    for name, build in funnel.HOOKS_IN_FLIGHT.items():
        original = _applied_original(name)
        if callable(original):
            setattr(processor, name, types.MethodType(build(original), processor))

    def release() -> None:
        tracker.on_drained = None
        for name in funnel.HOOKS_IN_FLIGHT:
            with contextlib.suppress(AttributeError):
                delattr(processor, name)

    tracker.on_drained = release


def _applied_original(name: str) -> Any:
    for applied in _applied.values():
        if (applied.patch.module, applied.patch.owner) == _PROCESSOR and applied.patch.name == name:
            return applied.original
    return None


def matched() -> dict[str, bool]:
    """Return for each hook point whether it is in place or can be when it is needed, as ``module.Class.name``."""
    return {str(patch): _is_ready(patch) for patch in PATCHES}


def missing() -> dict[str, str]:
    """Return what is lost for want of a hook point, by its ``module.Class.name``, as far as vLLM is imported."""
    import sys

    absent: dict[str, str] = {}
    for patch in PATCHES:
        module = sys.modules.get(patch.module)
        if module is not None and not _is_ready(patch) and patch.only_if(module):
            absent[str(patch)] = _lost(patch, module)
    return {place: lost for place, lost in absent.items() if lost}


def _is_ready(patch: Patch) -> bool:
    import sys

    if _is_in_place(patch) or not patch.on_need or runtime.current() is None:
        return _is_in_place(patch)
    return hasattr(getattr(sys.modules.get(patch.module), patch.owner, None), patch.name)
