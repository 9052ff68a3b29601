"""The way in through vLLM's plugins: ``TRACEAI_VLLM_ENABLED=1 vllm serve ...``.

vLLM loads this module in every process of its own, whether it is wanted or not. It stands outside of the package
so that without the variable nothing else is imported.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import types

# These run the model and see no request: they only report what the model takes of their memory.
_MODEL_PROCESSES = ("vllm.v1.engine.core", "vllm.v1.worker")
# This one only looks at a model's class, and ends.
_INSPECTION = "vllm.model_executor"


def load() -> None:
    """Instrument this process, if ``TRACEAI_VLLM_ENABLED`` is 1, true, yes or on.

    Where it runs the model and takes no requests, only its memory is reported.
    """
    wanted = os.environ.get("TRACEAI_VLLM_ENABLED", "").strip()
    if wanted.lower() not in ("1", "true", "yes", "on"):
        if wanted.lower() not in ("", "0", "false", "no", "off"):
            _warn(f"TRACEAI_VLLM_ENABLED={wanted} is neither true nor false: vLLM is not traced. Set it to 1.")
        return
    loaded_by = _loaded_by()
    if loaded_by.startswith(_INSPECTION):
        return
    try:
        from traceai_vllm import VLLMInstrumentor, instrument

        if VLLMInstrumentor().is_instrumented_by_opentelemetry:  # `opentelemetry-instrument` was here before
            return
        if loaded_by.startswith(_MODEL_PROCESSES):
            from traceai_vllm.engine.model_process import report_memory

            report_memory()
        else:
            instrument()
    except Exception:
        _warn("traceai-vllm could not be turned on; vLLM is not affected.", exc_info=True)


def _warn(message: str, *, exc_info: bool = False) -> None:
    import logging

    logging.getLogger("traceai_vllm").warning(message, exc_info=exc_info)


def _loaded_by() -> str:
    """Return the module that called vLLM's ``load_general_plugins``."""
    frame: types.FrameType | None = sys._getframe(1)
    while frame is not None and frame.f_globals.get("__name__") in (__name__, "vllm.plugins"):
        frame = frame.f_back
    if frame is None:
        return ""
    # vLLM looks at a model's class in a process of its own, `python -m vllm.model_executor.models.registry`.
    run_as_program = getattr(frame.f_globals.get("__spec__"), "name", None)
    return str(run_as_program or frame.f_globals.get("__name__"))
