"""OpenTelemetry tracing and release safety for vLLM.

    import traceai_vllm

    traceai_vllm.instrument()

    with traceai_vllm.tags(route="support", prompt_version="v3"):
        llm.chat(messages)

Every request becomes a span that says which model variant and quantization format served it, for which route, prompt
version, cohort and agent step, with token counts, latency and errors.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from traceai_vllm.version import __version__

if TYPE_CHECKING:
    from traceai_vllm.instrumentor import VLLMInstrumentor, instrument, uninstrument
    from traceai_vllm.telemetry.feedback import feedback
    from traceai_vllm.telemetry.tags import tags

__all__ = ["VLLMInstrumentor", "__version__", "feedback", "instrument", "tags", "uninstrument"]


def __getattr__(name: str) -> Any:
    # Imported when first used: OpenTelemetry takes a while, and `traceai-vllm --help` needs none of it.
    if name in ("VLLMInstrumentor", "instrument", "uninstrument"):
        from traceai_vllm import instrumentor as home
    elif name == "tags":
        from traceai_vllm.telemetry import tags as home  # type: ignore[no-redef]
    elif name == "feedback":
        from traceai_vllm.telemetry import feedback as home  # type: ignore[no-redef]
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value = getattr(home, name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
