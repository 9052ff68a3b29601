"""ASGI middleware inside OpenTelemetry's: the caller's tags, the time to the first chunk, and how the request ended.

Its work per request is constant. Each chunk of a response costs one check, whether it is the first or the last, in a
plain function: nothing is kept, parsed or recorded of it.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.instrumentation.utils import is_instrumentation_enabled
from opentelemetry.trace import Status, StatusCode

from traceai_vllm.guard import Guard
from traceai_vllm.server import callers
from traceai_vllm.server.callers import CallerTags
from traceai_vllm.server.served import OPERATIONS, ServedRequest, served_in, with_served
from traceai_vllm.server.unquoted import without_messages
from traceai_vllm.telemetry import semconv
from traceai_vllm.telemetry.tags import with_tags

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, MutableMapping

    from opentelemetry.trace import Span

    Scope = MutableMapping[str, Any]
    Message = MutableMapping[str, Any]
    Receive = Callable[[], Awaitable[Message]]
    Send = Callable[[Message], Awaitable[None]]
    App = Callable[[Scope, Receive, Send], Awaitable[None]]

_BEGIN = Guard("the beginning of an HTTP request")
_RESPONSE = Guard("the response to an HTTP request")
_CLIENT = Guard("the end of an HTTP request")
_DETACH = Guard("leaving an HTTP request's context")

HIDDEN = "traceai_vllm.hidden"
"""Key in the scope: what the request really has, where something else is shown to OpenTelemetry's middleware."""


class CallerMiddleware:
    """Puts what a request's caller says about it where the spans of vLLM find it.

    ``instrument()`` adds it to FastAPI applications by itself. Elsewhere add it inside OpenTelemetry's ASGI middleware;
    without that one, it takes the caller's trace context itself.

    Args:
        app: the ASGI application.
    """

    def __init__(self, app: App) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        token, span, begun, waiting = None, trace.get_current_span(), time.perf_counter_ns(), True
        is_given = False  # all of the response is the server's: its last part, or a file that it sends by itself
        served: ServedRequest | None = None

        async def incoming() -> Message:
            message = await receive()
            with _CLIENT:
                if message["type"] == "http.disconnect" and not is_given:
                    _note_gone(span)
            return message

        def outgoing(message: Message) -> Awaitable[None]:
            # Not a coroutine function: for every chunk between the first and the last this is a check and a call.
            nonlocal waiting, is_given
            if waiting or not message.get("more_body"):
                with _RESPONSE:
                    if message["type"] == "http.response.start":
                        _note_status(span, message["status"])
                    elif waiting and message.get("body"):
                        waiting = False
                        _note_first_chunk(span, begun)
                    if message["type"] == "http.response.pathsend":
                        is_given = True
                    elif message["type"] == "http.response.body" and not message.get("more_body"):
                        is_given = True
                        _note_end(span, served)
            return send(message)

        with _BEGIN:
            scope.update(scope.pop(HIDDEN, ()))
            ctx = _context_of(scope)
            if isinstance(ctx, Context):
                span, served = trace.get_current_span(ctx), served_in(ctx)
                token = otel_context.attach(ctx)
        if token is None:
            await self.app(scope, receive, send)
            return
        watched = (incoming, outgoing) if scope["type"] == "http" and span.is_recording() else (receive, send)
        try:
            await self.app(scope, *watched)
        except BaseException as error:
            with _CLIENT:
                _note_error(span, error)
            raise
        else:
            with _CLIENT:
                if not is_given:
                    _note_if_unfinished(scope, span)
        finally:
            with _DETACH:
                otel_context.detach(token)


def _context_of(scope: Scope) -> Context | None:
    reader = callers.current()
    if reader is None or scope["type"] not in ("http", "websocket") or not is_instrumentation_enabled():
        return None
    ctx = otel_context.get_current()
    if not reader.shows_content:
        without_messages(trace.get_current_span(ctx))
    if reader.options.trust_callers and not trace.get_current_span(ctx).get_span_context().is_valid:
        ctx = _joined(ctx, scope["headers"])
    from_headers = reader.from_headers(scope["headers"])
    tags = CallerTags(reader, {**reader.from_baggage(ctx), **from_headers}, frozenset(from_headers))
    path = scope["path"].removeprefix(scope.get("root_path") or "")
    return with_served(with_tags(ctx, tags), ServedRequest(tags, OPERATIONS.get(path)))


def _joined(ctx: Context, headers: Iterable[tuple[bytes, bytes]]) -> Context:
    from opentelemetry import propagate  # only here: without OpenTelemetry's own middleware

    fields = {field.encode("latin-1"): field for field in propagate.get_global_textmap().fields}
    carrier = {fields[name]: value.decode("latin-1") for name, value in headers if name in fields}
    return propagate.extract(carrier, ctx)


def _note_first_chunk(span: Span, begun: int) -> None:
    span.set_attribute(semconv.RESPONSE_TIME_TO_FIRST_CHUNK, (time.perf_counter_ns() - begun) / 1e9)


def _note_status(span: Span, status: int) -> None:
    # OpenTelemetry's middleware sets the status; with its older attribute names it does not say the type.
    if status >= 500:
        span.set_attribute(semconv.ERROR_TYPE, str(status))


def _note_end(span: Span, served: ServedRequest | None) -> None:
    # The span is ended by OpenTelemetry's middleware when this last part of the response has been sent.
    if served is not None and served.at_end is not None:
        at_end, served.at_end = served.at_end, None  # it holds the request and its body
        at_end(span)


def _note_if_unfinished(scope: Scope, span: Span) -> None:
    # OpenTelemetry's middleware ends the span with the last byte of the response. If it has not, that was never sent.
    if scope["type"] == "http":
        _note_gone(span)


def _note_error(span: Span, error: BaseException) -> None:
    import asyncio  # here: services that only make offline calls need not wait for it

    if isinstance(error, asyncio.CancelledError):
        _note_gone(span)
    elif span.is_recording():  # the status is set by OpenTelemetry's middleware
        span.set_attribute(semconv.ERROR_TYPE, type(error).__name__)


def _note_gone(span: Span) -> None:
    if span.is_recording():
        span.set_attribute(semconv.ERROR_TYPE, "cancelled")
        span.set_status(Status(StatusCode.ERROR, "the client went away"))
