"""Requests that come over HTTP: their span, and what their callers say about them.

A request of vLLM's API server, or of an application of yours on ``AsyncLLM``, gets a SERVER span from
OpenTelemetry's FastAPI instrumentation; what stands here reads the caller's tags from headers, W3C baggage and the
body's ``metadata``, and puts them where the engine's span finds them.

``CallerMiddleware`` is for ASGI applications that are not FastAPI; those are found without it.
"""

from traceai_vllm.server.middleware import CallerMiddleware
from traceai_vllm.server.options import ServerOptions

__all__ = ["CallerMiddleware", "ServerOptions"]
