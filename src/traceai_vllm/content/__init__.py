"""The content of requests: messages, answers, tools, retrieved context. Off unless it is asked for.

    traceai_vllm.instrument(capture_content="SPAN_ONLY")
    traceai_vllm.instrument(capture_content=ContentOptions(redact=my_function))

Pure functions on what callers send and on texts; ``engine/`` finds both in vLLM, ``telemetry/`` sends them.
"""

from traceai_vllm.content.content import Content
from traceai_vllm.content.options import ContentMode, ContentOptions

__all__ = ["Content", "ContentMode", "ContentOptions"]
