"""One request to one server, and everything that came back: the same code for the user's answer and for every copy.

So both arms are timed at the same points: ``started`` is when the request is handed to the HTTP client, each piece is
timed when the client hands it over, and only then it goes to the user (of a copy: nowhere).
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Protocol

import aiohttp

from traceai_vllm.gateway.answers import DIALECTS, Answer
from traceai_vllm.gateway.client import say_unreached, send
from traceai_vllm.gateway.deadline import timeout
from traceai_vllm.gateway.headers import response_headers
from traceai_vllm.gateway.reading import INCOMPLETE, AnswerReader
from traceai_vllm.guard import Guard

if TYPE_CHECKING:
    from traceai_vllm.gateway.budget import Hold
    from traceai_vllm.gateway.client import OutgoingRequest
    from traceai_vllm.gateway.config import Server

    Headers = list[tuple[bytes, bytes]]

CANCELLED = "cancelled"
TIMEOUT = "timeout"
CONNECT = "connection_refused"
BROKEN = "connection_broken"

_READING = Guard("reading an answer")


class Sink(Protocol):
    """Where an answer goes while it arrives."""

    async def start(self, status: int, headers: Headers) -> None:
        """Take the status and the headers."""

    async def send(self, piece: bytes) -> None:
        """Take a piece of the body."""


class Exchange:
    """What happened between the gateway and a server; made by :func:`exchange` while it happens.

    Attributes:
        path: the path of the request.
        start_ns: when it began, nanoseconds since the epoch.
        started: the same, in seconds on the clock of the other times (``time.perf_counter``).
        ended: when the last byte came, or it failed; 0 before that.
        status: the HTTP status; 0 when there was none.
        first_byte: when the first piece came.
        pieces: how many pieces came.
        length: how many bytes came.
        error: why it failed: ``timeout``, ``cancelled``, ``connection_refused``, ``connection_broken``, an HTTP status;
            None when it did not.
        captured: whether all of the body is read; False where nobody needs it, or there was no room.
    """

    __slots__ = (
        "_answer",
        "_reader",
        "_unread",
        "captured",
        "ended",
        "error",
        "first_byte",
        "length",
        "path",
        "pieces",
        "start_ns",
        "started",
        "status",
    )

    def __init__(self, path: str) -> None:
        self.path = path
        self.start_ns = time.time_ns()
        self.started = time.perf_counter()
        self.ended = 0.0
        self.status = 0
        self.first_byte: float | None = None
        self.pieces = 0
        self.length = 0
        self.error: str | None = None
        self.captured = True
        self._unread: list[tuple[float, bytes]] = []
        self._reader: AnswerReader | None = None
        self._answer: Answer | None = None

    @property
    def end_ns(self) -> int:
        """When it ended, nanoseconds since the epoch."""
        return self.start_ns + int(self.duration * 1e9)

    @property
    def duration(self) -> float:
        """How long it took, in seconds; once it has ended."""
        return self.ended - self.started

    def begin(self, status: int, headers: Headers, hold: Hold) -> None:
        """Take the status and the headers; ``hold`` is the room for what is decompressed."""
        self.status = status
        if self.captured:
            named = dict(headers)
            kind, encoding = named.get(b"content-type", b""), named.get(b"content-encoding", b"")
            self._reader = AnswerReader(
                self.path, kind.decode("latin-1").lower(), encoding.decode("latin-1").lower(), hold.grow
            )

    def add(self, piece: bytes, hold: Hold) -> None:
        """Take a piece of the body; it is kept, to be read by :meth:`read`, as long as there is room for it."""
        now = time.perf_counter()
        if self.first_byte is None:
            self.first_byte = now
        self.pieces += 1
        self.length += len(piece)
        if self.captured and hold.grow(len(piece)):
            self._unread.append((now, piece))
        elif self.captured:
            self._forget()

    def read(self) -> None:
        """Read what has come. Done when it has gone on to the user, so that at the end of a stream little is left."""
        if self._reader is None or not self._unread:
            return
        unread, self._unread = self._unread, []
        with _READING:
            if self._reader.feed(unread):
                return
        self._forget()  # the server is not to be blamed for a lack of room, or an error of ours

    def end(self, error: str | None = None) -> None:
        """Note that it has ended, once."""
        if not self.ended:
            self.ended = time.perf_counter()
            self.error = error

    def answer(self) -> Answer:
        """Return what the answer says."""
        if self._answer is None:
            self.read()
            self._answer = self._said()
        return self._answer

    def complete(self) -> bool:
        """Return whether all of a good answer has come, even if the connection has not seen its end yet."""
        if self.status != 200 or not self.pieces or not self.captured or self.path not in DIALECTS:
            return False
        answer = self.answer()
        return answer.done and answer.error is None

    def failure(self) -> str | None:
        """Return why there is no good answer: the exchange's own error, or what is wrong with the answer."""
        if self.error is not None:
            return self.error
        return self.answer().error if self.captured else None

    def release(self) -> None:
        """Forget the bytes of the body."""
        self._unread = []
        self._reader = None

    def _forget(self) -> None:
        self.captured = False
        self.release()

    def _said(self) -> Answer:
        if self._reader is None or (self.error is not None and not self.pieces):
            return Answer(error=self.error if self.captured else "not_captured")
        answer = self._reader.end()
        if self.error in (BROKEN, TIMEOUT, CANCELLED) and answer.error is None:
            answer.error = INCOMPLETE
        return answer


class ClientGone(Exception):
    """Raised by a sink whose user can no longer be reached: it is not the server that failed."""


class _Refused(Exception):
    # A server's answer that is not handed on, because of its status.
    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


async def exchange(
    session: aiohttp.ClientSession,
    server: Server,
    request: OutgoingRequest,
    record: Exchange,
    *,
    hold: Hold,
    sink: Sink | None,
    first_byte_timeout_s: float | None = None,
) -> None:
    """Send a request, and take in the answer. How it went is noted in ``record``; nothing is raised for a bad server.

    Args:
        session: the HTTP client.
        server: whom to ask.
        request: what to ask.
        record: is filled in.
        hold: the room for the bytes that are kept.
        sink: where the answer goes; None: nowhere else.
        first_byte_timeout_s: hand nothing to the sink before the first byte of a good answer, which has to come within
            this time; None: hand everything on as it comes.

    Raises:
        asyncio.CancelledError: the caller was cancelled; that is noted too.
        ClientGone: as the sink raised it.
    """
    try:
        if first_byte_timeout_s is None:
            response = await send(session, server, request)
            async with response:
                await _take_in(response, record, hold, sink)
        else:
            until = record.started + first_byte_timeout_s
            async with timeout(until - time.perf_counter()):
                response = await send(session, server, request)
            async with response:
                async with timeout(until - time.perf_counter()):
                    first = await _good_start(response)
                await _take_in(response, record, hold, sink, first)
        record.end(str(record.status) if record.status >= 400 else None)
    except _Refused as refused:
        record.status = refused.status
        record.end(str(refused.status))
    except (asyncio.CancelledError, ClientGone):
        # Many clients hang up as soon as they have read a stream's last event: nothing is missing then.
        record.end(None if record.complete() else CANCELLED)
        raise
    except aiohttp.ConnectionTimeoutError as error:
        record.end(TIMEOUT)
        say_unreached(server, error)
    except (asyncio.TimeoutError, TimeoutError):
        record.end(TIMEOUT)
    except (aiohttp.ClientConnectorError, aiohttp.InvalidURL) as error:
        record.end(CONNECT)
        say_unreached(server, error)
    except (aiohttp.ClientError, OSError, ValueError):
        record.end(BROKEN)


async def _take_in(
    response: aiohttp.ClientResponse, record: Exchange, hold: Hold, sink: Sink | None, first: bytes = b""
) -> None:
    headers = response_headers(response.raw_headers)
    if not 200 <= response.status < 600:
        raise ValueError("no status of an answer")  # a switch of protocols, which nobody asked for, or no HTTP at all
    record.begin(response.status, headers, hold)
    if sink is not None:
        await sink.start(response.status, headers)
    piece = first or await response.content.readany()
    while piece:
        record.add(piece, hold)
        if sink is not None:
            await sink.send(piece)
        record.read()
        piece = await response.content.readany()


async def _good_start(response: aiohttp.ClientResponse) -> bytes:
    if not 200 <= response.status < 300:
        raise _Refused(response.status)
    first = await response.content.readany()
    if not first:
        raise ValueError("an answer without a body")
    return first
