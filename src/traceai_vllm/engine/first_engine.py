"""vLLM's first engine (V0), which versions before 0.11 can still run: it is not traced, and its user is told so."""

from __future__ import annotations

import functools
import logging
from typing import Any

from traceai_vllm.engine import runtime
from traceai_vllm.guard import Guard

_log = logging.getLogger("traceai_vllm")
_WARN = Guard("the warning of an engine that is not traced")


def init(original: Any) -> Any:
    """Build the hook on the constructor of V0's ``LLMEngine``, which its asynchronous engine calls too."""

    @functools.wraps(original)
    def hook(self: Any, *args: Any, **kwargs: Any) -> Any:
        with _WARN:
            if runtime.current() is not None:
                _log.warning(
                    "vLLM runs its first engine (V0) here, whose requests traceai-vllm does not see. "
                    "Set VLLM_USE_V1=1, or use vLLM 0.11 or later."
                )
        return original(self, *args, **kwargs)

    return hook
