"""The user's side of a request, in ASGI terms: reading the body, writing the answer, noticing that the user is gone."""

from __future__ import annotations

import asyncio
import json
import uuid
from typing import TYPE_CHECKING, Any

from traceai_vllm.gateway.deadline import timeout
from traceai_vllm.gateway.exchange import ClientGone
from traceai_vllm.gateway.headers import header

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, MutableMapping

    from traceai_vllm.gateway.options import Limits

    Message = MutableMapping[str, Any]
    Receive = Callable[[], Awaitable[Message]]
    Send = Callable[[Message], Awaitable[None]]
    Headers = list[tuple[bytes, bytes]]

_TRACE_ID = b"x-trace-id"
_WITHOUT_BODY = (204, 304)
# An answer that is there sooner needs nobody who watches for the user to hang up.
_WATCH_AFTER_S = 0.005


class Rejected(Exception):
    """A request that the gateway itself answers.

    Args:
        status: the HTTP status.
        kind: the error's type, for programs.
        message: the error's message, for people; it never repeats what the caller sent.
    """

    def __init__(self, status: int, kind: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.kind = kind
        self.message = message


def trace_header(trace_id: int = 0) -> tuple[bytes, bytes]:
    """Return the header of every answer with the id of the trace that its spans are in; a new one for 0."""
    return _TRACE_ID, b"%032x" % (trace_id or uuid.uuid4().int)


def error_document(status: int, kind: str, message: str) -> dict[str, Any]:
    """Return an error of the gateway's own, in the form that OpenAI's clients read."""
    return {"error": {"message": f"gateway: {message}", "type": kind, "code": status}}


async def read_body(receive: Receive, headers: Headers, limits: Limits) -> bytes:
    """Return the body of a request.

    Raises:
        Rejected: it is too long, or takes too long.
        ClientGone: the user hung up.
    """
    announced = header(headers, b"content-length")
    if announced is not None and announced.isdecimal() and int(announced) > limits.max_body_bytes:
        raise _too_long(limits)
    try:
        async with timeout(limits.body_timeout_s):
            return await _whole(receive, limits)
    except asyncio.TimeoutError:
        message = f"the body did not arrive within {limits.body_timeout_s:g} s"
        raise Rejected(408, "request_timeout", message) from None


async def _whole(receive: Receive, limits: Limits) -> bytes:
    pieces: list[bytes] = []
    length, more = 0, True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        pieces.append(message.get("body", b""))
        length += len(pieces[-1])
        if length > limits.max_body_bytes:
            raise _too_long(limits)
        more = message.get("more_body", False)
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def _too_long(limits: Limits) -> Rejected:
    return Rejected(413, "request_too_large", f"the body may have {limits.max_body_bytes} bytes")


class User:
    """Takes the answer to the user; a sink of :func:`~traceai_vllm.gateway.exchange.exchange`.

    Args:
        receive: ASGI's, after the body has been read.
        send: ASGI's.

    Attributes:
        trace_id: goes with the answer; 0 for a new one.
        status: the status that was sent; 0 before that.
        gone: whether the user hung up.
    """

    __slots__ = ("_receive", "_send", "_task", "_watcher", "gone", "status", "trace_id")

    def __init__(self, receive: Receive, send: Send) -> None:
        self._receive = receive
        self._send = send
        self._task: asyncio.Task[Any] | None = None
        self._watcher: asyncio.TimerHandle | asyncio.Task[None] | None = None
        self.trace_id = 0
        self.status = 0
        self.gone = False

    def watch(self) -> None:
        """Cancel the current task when the user hangs up, until :meth:`unwatch`."""
        self._task = asyncio.current_task()
        self._watcher = asyncio.get_running_loop().call_later(_WATCH_AFTER_S, self._start_to_watch)

    def unwatch(self) -> None:
        """Stop watching."""
        if self._watcher is not None:
            self._watcher.cancel()
            self._watcher = None

    async def start(self, status: int, headers: Headers) -> None:
        """Send status and headers."""
        # A server may tell the length of what these do not carry; uvicorn would wait for it.
        left_out = (_TRACE_ID, b"content-length") if status in _WITHOUT_BODY else (_TRACE_ID,)
        kept = [pair for pair in headers if pair[0] not in left_out]
        kept.append(trace_header(self.trace_id))
        self.status = status
        await self._deliver({"type": "http.response.start", "status": status, "headers": kept})

    async def send(self, piece: bytes) -> None:
        """Send a piece of the body."""
        await self._deliver({"type": "http.response.body", "body": piece, "more_body": True})

    async def finish(self) -> None:
        """Send the end of the body."""
        # The server says "disconnected" when the answer is complete: that is not the user hanging up.
        self.unwatch()
        await self._deliver({"type": "http.response.body", "body": b"", "more_body": False})

    async def answer(self, status: int, kind: str, message: str) -> None:
        """Send an error of the gateway's own."""
        await self.document(status, error_document(status, kind, message))

    async def document(self, status: int, document: dict[str, Any]) -> None:
        """Send an answer of the gateway's own."""
        body = json.dumps(document).encode()
        length = str(len(body)).encode()
        await self.start(status, [(b"content-type", b"application/json"), (b"content-length", length)])
        await self.send(body)
        await self.finish()

    async def _deliver(self, message: Message) -> None:
        try:
            await self._send(message)
        except OSError:
            self.gone = True
            raise ClientGone from None

    def _start_to_watch(self) -> None:
        self._watcher = asyncio.get_running_loop().create_task(self._wait_for_disconnect())

    async def _wait_for_disconnect(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self.gone = True
        if self._task is not None:
            self._task.cancel()
