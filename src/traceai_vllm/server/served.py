"""What is known of the HTTP request that is being served: found by layers that see different parts of it.

The middleware sees headers and path, vLLM's handler sees the parsed body, and the engine's hooks make the span. A
handler's own context variables are gone when its response streams (vLLM runs handlers in tasks of their own), so they
share one object, which lies in the context of the whole HTTP request.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from opentelemetry import context as otel_context

if TYPE_CHECKING:
    from collections.abc import Callable

    from opentelemetry.context import Context
    from opentelemetry.trace import Span

    from traceai_vllm.server.callers import CallerTags

_KEY = otel_context.create_key("traceai-vllm-served-request")

# vLLM's public URLs to the operation of their requests; where the pooling task says it, there is no entry.
OPERATIONS = {
    "/v1/chat/completions": "chat",
    "/v1/chat/completions/batch": "chat",
    "/v1/responses": "chat",
    "/v1/messages": "chat",
    "/cohere/v2/chat": "chat",
    "/v1/completions": "text_completion",
    "/inference/v1/generate": "text_completion",
    "/v1/embeddings": "embeddings",
    "/v2/embed": "embeddings",
    "/score": "score",
    "/v1/score": "score",
    "/generative_scoring": "score",
    "/rerank": "rerank",
    "/v1/rerank": "rerank",
    "/v2/rerank": "rerank",
    "/classify": "classify",
    "/v1/audio/transcriptions": "transcription",
    "/v1/audio/translations": "translation",
}


class ServedRequest:
    """One HTTP request.

    Attributes:
        tags: the caller's tags, the same object that lies in the request's context.
        operation: what is asked for, when it is known.
        call: what was handed over, when content is captured (see :mod:`traceai_vllm.engine.content`).
        state: where vLLM's handler puts the id of its answer.
        at_end: called with the SERVER span when the last part of the response is about to be sent.
    """

    __slots__ = ("at_end", "call", "operation", "state", "tags")

    def __init__(self, tags: CallerTags, operation: str | None) -> None:
        self.tags = tags
        self.operation = operation
        self.call: object = None
        self.state: object = None
        self.at_end: Callable[[Span], None] | None = None

    def response_id(self, request_id: str) -> str:
        """Return the id that the caller gets for an engine request of this id.

        Handlers number their engine requests: ``cmpl-1-0``, ``resp_1_0``. The answer has the id without the number.
        """
        known = getattr(getattr(self.state, "request_metadata", None), "request_id", None)
        if not isinstance(known, str) or not request_id.startswith(known):
            return request_id
        number = request_id[len(known) :]
        return known if number[:1] in ("-", "_") and number[1:].isdecimal() else request_id


def served_in(ctx: Context) -> ServedRequest | None:
    """Return the HTTP request that a context belongs to; None outside of one."""
    return ctx.get(_KEY)  # type: ignore[return-value]  # a cast is a call, for every request


def with_served(ctx: Context, served: ServedRequest) -> Context:
    """Return the context of an HTTP request."""
    return otel_context.set_value(_KEY, served, ctx)
