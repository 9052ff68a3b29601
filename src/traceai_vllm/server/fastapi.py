"""Hooks on FastAPI: a SERVER span per request by OpenTelemetry's own instrumentation, and our middleware inside it.

Replacing the name ``fastapi.FastAPI``, as that instrumentation does, comes too late where vLLM has imported it already
(its plugins are loaded late). So the class itself is hooked, at the point where an application builds its middleware,
before the first request.
"""

from __future__ import annotations

import importlib.util
import inspect
import logging
import string
from typing import TYPE_CHECKING, Any
from urllib.parse import quote_from_bytes
from weakref import WeakSet

from opentelemetry import propagate

from traceai_vllm.guard import Guard
from traceai_vllm.server import callers
from traceai_vllm.server.middleware import HIDDEN, CallerMiddleware
from traceai_vllm.server.unquoted import spans_without_messages
from traceai_vllm.telemetry.disabled import is_disabled

if TYPE_CHECKING:
    from opentelemetry.trace import TracerProvider

_log = logging.getLogger("traceai_vllm")
_APP = Guard("instrumenting a FastAPI application")
_DEFAULTS = Guard("the settings of OpenTelemetry's ASGI instrumentation")
_HIDE = Guard("what is kept from OpenTelemetry's middleware")
_UNDO = Guard("giving a FastAPI application its middleware back")

# How the headers begin that propagators read: W3C's, B3's, Jaeger's, OpenTracing's, AWS' and Google's.
_TRACE_HEADERS: tuple[bytes, ...] = (b"traceparent", b"tracestate", b"baggage", b"b3", b"x-b3-", b"uber-trace-id")
_TRACE_HEADERS += (b"uberctx-", b"ot-tracer-", b"ot-baggage-", b"x-amzn-trace-id", b"x-cloud-trace-context")
# Bytes. vLLM's server takes headers of megabytes and URLs of any length; W3C's baggage may have 8,192.
_MAX_HEADER, _MAX_TRACE_HEADER, _MAX_URL = 1024, 8192, 2048
_instrumented: WeakSet[Any] = WeakSet()
# Those that were, until uninstrument(): their middleware is built, and the next instrument() lets them build it anew.
_released: WeakSet[Any] = WeakSet()
# The applications whose middleware gives back what is kept from OpenTelemetry's.
_restoring: WeakSet[Any] = WeakSet()
_tracer_provider: TracerProvider | None = None
_trace_headers = _TRACE_HEADERS


def use(tracer_provider: TracerProvider | None) -> None:
    """Say where the SERVER spans go."""
    # The hooks are functions, and there is one instrumentation in a process.
    global _tracer_provider, _trace_headers  # noqa: PLW0603
    _tracer_provider = tracer_provider
    # And those of a propagator that is the application's own.
    _trace_headers = _TRACE_HEADERS + tuple(field.lower().encode() for field in propagate.get_global_textmap().fields)
    while tracer_provider is not None and _released:
        _released.pop().middleware_stack = None


def build_middleware_stack(wrapped: Any, app: Any, args: Any, kwargs: Any) -> Any:
    """Hook on ``FastAPI.build_middleware_stack()``, which runs once, before an application's first request."""
    before = vars(app).get("build_middleware_stack")
    with _APP:
        if callers.current() is not None:
            _add_middleware(app)
            if not getattr(app, "_is_instrumented_by_opentelemetry", False):
                _instrument(app)
    # The instrumentation puts a function of its own over this one, which comes back here.
    theirs = vars(app).get("build_middleware_stack")
    return wrapped(*args, **kwargs) if theirs is before else theirs()


def _add_middleware(app: Any) -> None:
    from starlette.middleware import Middleware

    classes = [middleware.cls for middleware in app.user_middleware]
    if CallerMiddleware not in classes:
        # Outermost, but for OpenTelemetry's: releases before 0.53b0 put it here when the application is made.
        names = [getattr(middleware, "__name__", "") for middleware in classes]
        place = names.index("OpenTelemetryMiddleware") + 1 if "OpenTelemetryMiddleware" in names else 0
        app.user_middleware.insert(place, Middleware(CallerMiddleware))
    _restoring.add(app)


def _instrument(app: Any) -> None:
    if is_disabled("fastapi"):
        return
    if importlib.util.find_spec("opentelemetry.instrumentation.fastapi") is None:
        _log.warning(
            "HTTP requests get no SERVER span, because OpenTelemetry's FastAPI instrumentation is not installed: "
            "pip install 'traceai-vllm[server]'. Everything else is traced."
        )
        return
    from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor
    from opentelemetry.metrics import NoOpMeterProvider

    # No HTTP metrics of theirs: the older names of their attributes hold the Host header, which any client can vary.
    FastAPIInstrumentor.instrument_app(app, tracer_provider=_tracer_provider, meter_provider=NoOpMeterProvider())
    _instrumented.add(app)


def middleware_init(wrapped: Any, middleware: Any, args: Any, kwargs: Any) -> Any:
    """Hook on ``OpenTelemetryMiddleware.__init__``: no span per chunk, none for health checks, unless asked for.

    ``opentelemetry-instrument`` has no variable for the first. Releases before 0.49b0 do not have the setting at all.
    And no exception's message on the spans of its tracer, which makes those of background tasks too.
    """
    with _DEFAULTS:
        from opentelemetry.util.http import parse_excluded_urls

        reader = callers.current()
        known = inspect.signature(wrapped).parameters
        if reader is not None:
            if "exclude_spans" in known and kwargs.get("exclude_spans") is None:
                kwargs = {**kwargs, "exclude_spans": ["receive", "send"]}
            if _names_none(kwargs.get("excluded_urls")) and len(args) < 2:
                kwargs = {**kwargs, "excluded_urls": parse_excluded_urls(reader.options.excluded_urls)}
            if kwargs.get("tracer") is not None:
                spans_without_messages(kwargs["tracer"])
    return wrapped(*args, **kwargs)


def _names_none(excluded_urls: Any) -> bool:
    # The FastAPI instrumentation hands over the ExcludeList that it made of the environment, which may be empty.
    return not getattr(excluded_urls, "_excluded_urls", excluded_urls)


def call(wrapped: Any, app: Any, args: Any, kwargs: Any) -> Any:
    """Hook on ``FastAPI.__call__(scope, receive, send)``: some things are kept from OpenTelemetry's middleware.

    The trace context of a caller that is not trusted. What is not ASCII, because that middleware raises (and the client
    gets a 500) for some such bytes. What stands in the query, which it puts on the span, while content is not captured.
    And what would let a caller fill the memory, as spans wait for their export: long URLs and headers, ever new hosts.
    Our own middleware, inside, gives the application all of it back: nothing is kept where that is not.
    """
    with _HIDE:
        reader = callers.current()
        if reader is not None and _restores(app) and args and args[0]["type"] in ("http", "websocket"):
            shown = _presentable(args[0], reader)
            if isinstance(shown, dict):
                args = ({**args[0], **shown}, *args[1:])
    return wrapped(*args, **kwargs)


def _restores(app: Any) -> bool:
    # At its first request an application builds its middleware, with ours, only after this.
    return app in _restoring or getattr(app, "middleware_stack", None) is None


def _presentable(scope: Any, reader: callers.Callers) -> dict[str, Any] | None:
    path, headers, query = scope["path"], scope["headers"], scope.get("query_string", b"")
    kept = [(name, value) for name, value in headers if _may_be_shown(name, value, reader)]
    quoted = _quoted(query) if query and reader.shows_content else b""
    if len(kept) == len(headers) and quoted == query and len(path) <= _MAX_URL:
        return None
    hidden = {"path": path, "headers": headers, "query_string": query}
    return {"path": path[:_MAX_URL], "headers": kept, "query_string": quoted, HIDDEN: hidden}


def _may_be_shown(name: bytes, value: bytes, reader: callers.Callers) -> bool:
    name = name.lower()
    if name.startswith(_trace_headers):
        return reader.options.trust_callers and value.isascii() and len(value) <= _MAX_TRACE_HEADER
    if len(value) > _MAX_HEADER or not value.isascii():
        return False
    return name != b"host" or reader.knows_host(value)


def _quoted(query: bytes) -> bytes:
    cut = query[:_MAX_URL]
    return cut if cut.isascii() else quote_from_bytes(cut, safe=string.punctuation).encode("ascii")


def release() -> None:
    """Take OpenTelemetry's middleware out of the applications again that were instrumented here."""
    for app in list(_instrumented):
        with _UNDO:
            from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor

            FastAPIInstrumentor.uninstrument_app(app)
            _released.add(app)
    _instrumented.clear()
