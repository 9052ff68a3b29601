"""How users' connections are served: uvicorn, with the time-outs and bounds that it lacks.

uvicorn bounds how long an idle connection is kept after an answer, and nothing before it: without this a client that
opens connections and sends a header a minute, or never reads its answer, holds them for ever.
"""

from __future__ import annotations

import re
import socket
import struct
from collections import deque
from typing import TYPE_CHECKING, Any, cast

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from traceai_vllm.gateway.user import User, trace_header

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

    from traceai_vllm.gateway.options import Limits

_MALFORMED = b"400 Bad Request"
_TOO_LARGE = b"431 Request Header Fields Too Large"
_TOO_SLOW = b"408 Request Timeout"
_UPGRADE = re.compile(rb"(?<=\r\n)upgrade(?=:)", re.IGNORECASE)


def uvicorn_config(app: Any, limits: Limits, **options: Any) -> uvicorn.Config:
    """Return how a gateway's application is served.

    Args:
        app: the ASGI application.
        limits: the bounds; read when a connection opens.
        options: further options of uvicorn's.
    """
    options.setdefault("timeout_keep_alive", limits.keep_alive_s)
    # The servers' own headers are passed on; ours would stand beside them.
    return uvicorn.Config(
        app,
        http=protocol(limits),
        ws="none",
        access_log=False,
        server_header=False,
        date_header=False,
        proxy_headers=False,
        **options,
    )


class _HeadsWithBodies:
    """A transport that sends the head of an answer together with the first piece of its body, where that is there.

    uvicorn writes them apart: another call of the system, and a user's client that wakes up for a head alone. A head
    that nothing follows at once is sent as soon as the event loop gets to it.
    """

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._head = b""

    def write(self, data: bytes) -> None:
        if self._head:
            data, self._head = self._head + data, b""
        elif data.startswith(b"HTTP/1.1 2"):
            self._head = data
            self._loop.call_soon(self._flush)
            return
        self._transport.write(data)

    def close(self) -> None:
        self._flush()
        self._transport.close()

    def _flush(self) -> None:
        if self._head:
            head, self._head = self._head, b""
            self._transport.write(head)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


async def _too_many_connections(scope: Any, receive: Any, send: Any) -> None:
    message = "there are as many connections as there may be; try again later"
    await User(receive, send).answer(503, "too_many_connections", message)


class _EndsWithConnection:
    """An application for clients of HTTP/1.0: what has no known length ends where the connection does.

    uvicorn would send it in chunks, which they do not know (RFC 9112, section 7).
    """

    def __init__(self, app: Any) -> None:
        self._app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        cycle: RequestResponseCycle = send.__self__
        of_no_length = False

        async def unframed(message: Any) -> None:
            nonlocal of_no_length
            if message["type"] == "http.response.start":
                of_no_length = all(name != b"content-length" for name, _ in message["headers"])
                if of_no_length:
                    cycle.chunked_encoding = False
            elif of_no_length:
                cycle.expected_content_length = len(message["body"])
            await send(message)

        try:
            await self._app(scope, receive, unframed)
        finally:
            if of_no_length and not (cycle.response_complete or cycle.transport.is_closing()):
                # What broke off would look complete: uvicorn's close is to be a reset.
                connection = cycle.transport.get_extra_info("socket")
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def _without_upgrade(data: bytes) -> bytes:
    """Return what begins with the head of a request, without its wish for another protocol, which may be ignored.

    Java's own client asks for HTTP/2 so; httptools would take the body for the other protocol's, and leave it out.
    """
    end = data.find(b"\r\n\r\n")
    end = len(data) if end < 0 else end
    if _UPGRADE.search(data, 0, end) is None:  # nearly always: nothing is copied
        return data
    return _UPGRADE.sub(b"te", data[:end]) + data[end:]  # another header that ends here


def protocol(limits: Limits) -> type[asyncio.Protocol]:
    """Return uvicorn's protocol with bounds."""

    class _Bounded(HttpToolsProtocol):
        _head = 0
        _head_complete = False
        _beside_body = 0  # trailers and the like, since the last piece of the body: the parser keeps them
        _head_timer: asyncio.TimerHandle | None = None
        _body_complete = False
        _body_timer: asyncio.TimerHandle | None = None
        _write_timer: asyncio.TimerHandle | None = None
        _is_one_too_many = False

        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            self._unanswered: deque[RequestResponseCycle] = deque()
            self._is_one_too_many = len(self.connections) > limits.max_connections
            self.transport = cast("asyncio.Transport", _HeadsWithBodies(transport, self.loop))
            self._expect_head()

        def connection_lost(self, exc: Exception | None) -> None:
            self._stop_timers()
            super().connection_lost(exc)
            # uvicorn tells the newest alone, and with pipelining that is not the one that is being answered.
            for cycle in self._unanswered:
                cycle.disconnected = True
                cycle.message_event.set()

        def data_received(self, data: bytes) -> None:
            if not self._head_complete:
                self._head += len(data)
            if not self._head_complete or self._body_complete:
                data = _without_upgrade(data)
            else:
                self._beside_body += len(data)
            super().data_received(data)
            if self._beside_body > limits.max_header_bytes and not self.transport.is_closing():
                self._stop_timers()
                self.transport.abort()  # it may have been answered already
            if not self._head_complete and self._head > limits.max_header_bytes:
                self._refuse(_TOO_LARGE)
            if self.timeout_keep_alive_task is None and self._is_idle():
                # uvicorn takes any byte for the next request; empty lines, and the rest of a refused one, are none.
                self.timeout_keep_alive_task = self._later(self.timeout_keep_alive, self.timeout_keep_alive_handler)

        def _is_idle(self) -> bool:
            answered = self.cycle is not None and self.cycle.response_complete
            return answered and self._head_complete and self._body_complete and not self.transport.is_closing()

        def on_message_begin(self) -> None:
            super().on_message_begin()
            self._body_complete = False
            if self._head_complete:
                self._head = 0
                self._expect_head()

        def on_header(self, name: bytes, value: bytes) -> None:
            # What follows a body may not become a header: whatever stands in front has not seen it as one.
            if not self._head_complete:
                super().on_header(name, value)

        def on_headers_complete(self) -> None:
            self._head_complete = True
            if self._head_timer is not None:
                self._head_timer.cancel()
                self._head_timer = None
            if len(self.url) + sum(len(n) + len(v) for n, v in self.headers) > limits.max_header_bytes:
                self._refuse(_TOO_LARGE)
                return
            if self.parser.should_upgrade():  # its head came in parts; the parser would leave its body out
                self._refuse(_MALFORMED)
                return
            self.app = _too_many_connections if self._is_one_too_many else self.config.loaded_app
            if self.parser.get_http_version() == "1.0":
                self.app = _EndsWithConnection(self.app)
            super().on_headers_complete()
            self._unanswered.append(self.cycle)
            if self._is_one_too_many:
                self.cycle.keep_alive = False

        def on_body(self, body: bytes) -> None:
            self._beside_body = 0
            if self.cycle is not None and not self.transport.is_closing():
                super().on_body(body)

        def on_message_complete(self) -> None:
            self._body_complete = True
            self._beside_body = 0
            if self._body_timer is not None:
                self._body_timer.cancel()
                self._body_timer = None
            if self.cycle is not None and not self.transport.is_closing():
                super().on_message_complete()

        def on_response_complete(self) -> None:
            self._unanswered.popleft()
            super().on_response_complete()
            # Refused before its body had come. To close at once would break a client that still sends, before it has
            # read why; one that sends for ever must not keep the connection.
            if self.cycle.response_complete and not self._body_complete:
                self._body_timer = self._later(limits.body_timeout_s, self.transport.abort)

        def pause_writing(self) -> None:
            super().pause_writing()
            self._write_timer = self._later(limits.write_timeout_s, self.transport.abort)

        def resume_writing(self) -> None:
            super().resume_writing()
            if self._write_timer is not None:
                self._write_timer.cancel()
                self._write_timer = None

        def _expect_head(self) -> None:
            self._head_complete = False
            self._head_timer = self._later(limits.header_timeout_s, lambda: self._refuse(_TOO_SLOW))

        def send_400_response(self, msg: str) -> None:
            self._refuse(_MALFORMED)

        def _refuse(self, status: bytes) -> None:
            self._stop_timers()
            if not self.transport.is_closing():
                named = b"%b: %b" % trace_header()
                self.transport.write(
                    b"HTTP/1.1 %b\r\nconnection: close\r\n%b\r\ncontent-length: 0\r\n\r\n" % (status, named)
                )
                self.transport.close()

        def _stop_timers(self) -> None:
            for timer in (self._head_timer, self._body_timer, self._write_timer):
                if timer is not None:
                    timer.cancel()

        def _later(self, seconds: float, action: Callable[[], None]) -> asyncio.TimerHandle:
            return self.loop.call_later(seconds, action)

    return _Bounded
