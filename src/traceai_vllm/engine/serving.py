"""Hooks on the handlers of vLLM's API server, which see a request's parsed body: what it asks for, and its metadata.

They have moved between versions, so each is looked for in all its homes; where none is found, the request's URL still
says the operation (see :mod:`traceai_vllm.server.served`). An application of your own may call them as well.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.context import Context

from traceai_vllm.engine import runtime
from traceai_vllm.engine.content import with_request
from traceai_vllm.guard import Guard
from traceai_vllm.server import callers
from traceai_vllm.server.callers import CallerTags
from traceai_vllm.server.served import ServedRequest, served_in, with_served
from traceai_vllm.telemetry import semconv
from traceai_vllm.telemetry.tags import with_tags

if TYPE_CHECKING:
    from collections.abc import Coroutine

_REQUEST = Guard("the body of an HTTP request")
_ANSWER = Guard("the answer to an HTTP request")
_DETACH = Guard("leaving a handler's context")

_OPENAI = "vllm.entrypoints.openai."
_RESPONSES, _OLDER_RESPONSES = _OPENAI + "responses.serving", _OPENAI + "serving_responses"

# (module, class, method): operation. The later home is named first; versions have one of them.
HANDLERS: dict[tuple[str, str, str], str] = {
    (_OPENAI + "chat_completion.serving", "OpenAIServingChat", "create_chat_completion"): "chat",  # 0.15
    (_OPENAI + "serving_chat", "OpenAIServingChat", "create_chat_completion"): "chat",
    (_OPENAI + "completion.serving", "OpenAIServingCompletion", "create_completion"): "text_completion",  # 0.15
    (_OPENAI + "serving_completion", "OpenAIServingCompletion", "create_completion"): "text_completion",
    (_RESPONSES, "OpenAIServingResponses", "create_responses"): "chat",  # 0.15
    (_OLDER_RESPONSES, "OpenAIServingResponses", "create_responses"): "chat",  # 0.10
    ("vllm.entrypoints.anthropic.serving", "AnthropicServingMessages", "create_messages"): "chat",  # 0.15
    ("vllm.entrypoints.anthropic.serving_messages", "AnthropicServingMessages", "create_messages"): "chat",  # 0.11.1
}
# What makes the whole response, also for the last event of a streamed one.
WHOLE_RESPONSES = tuple(
    (module, "OpenAIServingResponses", "responses_full_generator") for module in (_RESPONSES, _OLDER_RESPONSES)
)


def handle(operation: str) -> Any:
    """Build the hook on a handler, ``async def create_…(self, request, raw_request=None)``."""

    def hook(wrapped: Any, handler: Any, args: Any, kwargs: Any) -> Any:
        ctx = None
        with _REQUEST:
            request = args[0] if args else kwargs["request"]
            ctx = _note_request(operation, request, args[1] if len(args) > 1 else kwargs.get("raw_request"))
            active = runtime.current()
            if ctx is not None and active is not None and active.content is not None:
                ctx = with_request(ctx, handler, request)
        coroutine = wrapped(*args, **kwargs)
        return _answer(coroutine, ctx) if isinstance(ctx, Context) else coroutine

    return hook


def whole_response(wrapped: Any, handler: Any, args: Any, kwargs: Any) -> Any:
    """Hook on ``async def responses_full_generator(self, request, ...)``."""
    return _whole(wrapped(*args, **kwargs))


async def _whole(coroutine: Coroutine[Any, Any, Any]) -> Any:
    response = await coroutine
    with _ANSWER:
        _note_answer(response, trace.get_current_span())
    return response


def _note_request(operation: str, request: Any, raw_request: Any) -> Context | None:
    reader = callers.current()
    if reader is None:
        return None
    ctx = otel_context.get_current()
    served = served_in(ctx)
    if served is None:  # no middleware of ours stands before this handler
        served = ServedRequest(CallerTags(reader), operation)
        ctx = with_served(with_tags(ctx, served.tags), served)
    served.operation = operation
    served.state = getattr(raw_request, "state", None)  # not the whole: spans that wait for export would hold the body
    served.at_end = partial(_note_usage, raw_request)
    served.tags.add_metadata(reader.from_metadata(getattr(request, "metadata", None)))
    return ctx


async def _answer(coroutine: Coroutine[Any, Any, Any], ctx: Context) -> Any:
    token = otel_context.attach(ctx)
    try:
        response = await coroutine
    finally:
        with _DETACH:
            otel_context.detach(token)
    with _ANSWER:
        _note_answer(response, trace.get_current_span(ctx))
    return response


def _note_answer(response: Any, span: trace.Span) -> None:
    # A streamed answer is a generator here, which has no usage.
    _note_reasoning(getattr(response, "usage", None), span)


def _note_usage(raw_request: Any, span: trace.Span) -> None:
    # vLLM's handlers of chat completions leave an answer's usage here for its middleware, of streamed ones too.
    metadata = getattr(getattr(raw_request, "state", None), "request_metadata", None)
    _note_reasoning(getattr(metadata, "final_usage_info", None), span)


def _note_reasoning(usage: Any, span: trace.Span) -> None:
    tokens = reasoning_tokens(usage)
    if tokens and span.is_recording():  # a 0 may only say that nobody counts
        span.set_attribute(semconv.USAGE_REASONING_OUTPUT_TOKENS, tokens)


def reasoning_tokens(usage: Any) -> int | None:
    """Return the reasoning tokens in the ``usage`` of an answer; None when vLLM does not report them."""
    # Chat completions (with a reasoning parser), then responses.
    details = getattr(usage, "completion_tokens_details", None) or getattr(usage, "output_tokens_details", None)
    tokens = getattr(details, "reasoning_tokens", None)
    return tokens if isinstance(tokens, int) else None
