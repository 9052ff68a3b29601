"""Keeps the words of exceptions off SERVER spans while spans carry no content: they may quote the request.

OpenTelemetry's FastAPI instrumentation records every exception that leaves an application with its message and stack
trace, and puts the message into the span's status as well. What stays is the exception's class.
"""

from __future__ import annotations

import functools
import sys
from typing import TYPE_CHECKING, Any

from opentelemetry.trace import Status, StatusCode

from traceai_vllm.guard import Guard

if TYPE_CHECKING:
    from opentelemetry.trace import Span

_RECORD = Guard("an exception on a SERVER span")
_STATUS = Guard("the status of a SERVER span")


def without_messages(span: Span) -> None:
    """Let a span have only the class of each exception from now on."""
    # An application inside another one may meet the same span again.
    if span.is_recording() and type(span).record_exception is not _record_class:
        # Not functions on the instance: each would hold on to the span that holds it, until the garbage collector runs.
        span.__class__ = _unquoted(type(span))


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
