"""Keeps the words of exceptions off SERVER spans while spans carry no content: they may quote the request.

OpenTelemetry's FastAPI instrumentation records every exception that leaves an application with its message and stack
trace, and puts the message into the span's status as well; so it does on the spans of background tasks. What stays is
the exception's class.
"""

from __future__ import annotations

import functools
import sys
from typing import TYPE_CHECKING, Any

from opentelemetry.trace import ProxyTracer, Status, StatusCode

from traceai_vllm.guard import Guard
from traceai_vllm.server import callers

if TYPE_CHECKING:
    from opentelemetry.trace import Span, Tracer

_START = Guard("the start of a SERVER span")
_RECORD = Guard("an exception on a SERVER span")
_STATUS = Guard("the status of a SERVER span")


def without_messages(span: Span) -> None:
    """Let a span have only the class of each exception from now on."""
    # An application inside another one may meet the same span again.
    if span.is_recording() and type(span).record_exception is not _record_class:
        # Not functions on the instance: each would hold on to the span that holds it, until the garbage collector runs.
        span.__class__ = _unquoted(type(span))


def spans_without_messages(tracer: Tracer) -> None:
    """Let all spans that a tracer starts be such spans, whenever spans carry no content."""
    if type(tracer).start_span is not _start_span:
        tracer.__class__ = _unquoting(type(tracer))  # whoever holds it already: their hook on background tasks


@functools.cache
def _unquoting(kind: type[Tracer]) -> type[Tracer]:
    from opentelemetry.sdk.trace import Tracer  # only here: it takes a while, and there need be no server

    members: dict[str, Any] = {"start_span": _start_span}
    if issubclass(kind, ProxyTracer):  # made before there was a provider; its own goes round start_span
        members["start_as_current_span"] = Tracer.start_as_current_span
    return type(kind.__name__, (kind,), members)


def _start_span(tracer: Tracer, *args: Any, **kwargs: Any) -> Span:
    span: Span = super(type(tracer), tracer).start_span(*args, **kwargs)  # type: ignore[misc]
    with _START:
        reader = callers.current()
        if reader is not None and not reader.shows_content:
            without_messages(span)
    return span


@functools.cache
def _unquoted(kind: type[Span]) -> type[Span]:
    return type(kind.__name__, (kind,), {"record_exception": _record_class, "set_status": _set_status})


def _record_class(
    span: Span, exception: BaseException, attributes: Any = None, timestamp: int | None = None, escaped: bool = False
) -> None:
    with _RECORD:
        kind = type(exception).__qualname__
        span.add_event("exception", {**(attributes or {}), "exception.type": kind}, timestamp)


def _set_status(span: Span, status: Status | StatusCode, description: str | None = None) -> None:
    with _STATUS:
        super(type(span), span).set_status(*_without_words(status, description))  # type: ignore[misc]


def _without_words(status: Status | StatusCode, description: str | None) -> tuple[Status | StatusCode, str | None]:
    error = sys.exc_info()[1]
    if not isinstance(error, Exception):
        return status, description
    code = status.status_code if isinstance(status, Status) else status
    return code, type(error).__name__ if code is StatusCode.ERROR else None
