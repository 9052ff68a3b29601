"""OpenTelemetry tracing and release safety for vLLM.

    import traceai_vllm

    traceai_vllm.instrument()

    with traceai_vllm.tags(route="support", prompt_version="v3"):
        llm.chat(messages)

Every request becomes a span that says which model variant and quantization format served it, for which route, prompt
version, cohort and agent step, with token counts, latency and errors.
"""

from traceai_vllm.instrumentor import VLLMInstrumentor, instrument, uninstrument
from traceai_vllm.telemetry.tags import tags
from traceai_vllm.version import __version__

__all__ = ["VLLMInstrumentor", "__version__", "instrument", "tags", "uninstrument"]
