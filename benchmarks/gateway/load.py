"""The user: sends requests over raw sockets, so that the measuring costs little, and times them."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import time
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import aiohttp

if TYPE_CHECKING:
    from collections.abc import Sequence

PATH = "/v1/chat/completions"
# 600 bytes of prompt, as in the reference measurements of the targets.
_BODY = {"model": "m", "messages": [{"role": "user", "content": "x" * 600}]}


def request(port: int, *, stream: bool) -> bytes:
    """Return the bytes of a request."""
    body = json.dumps({**_BODY, "stream": stream}).encode()
    head = f"POST {PATH} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: application/json\r\n"
    return f"{head}Authorization: Bearer sk-1\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


def _length_of(data: bytes) -> int | None:
    """Return how long a response is, once its headers are there."""
    end = data.find(b"\r\n\r\n")
    if end < 0:
        return None
    head = data[:end].lower()
    assert head.startswith(b"http/1.1 200"), data[:300]
    place = head.find(b"content-length:")
    if place < 0:
        return -1  # chunked
    return end + 4 + int(head[place + 15 :].split(b"\r\n", 1)[0])


def _complete(data: bytes) -> bool:
    length = _length_of(data)
    if length is None:
        return False
    return data.endswith(b"0\r\n\r\n") if length < 0 else len(data) >= length


def sequential(port: int, count: int, per_second: float | None = None) -> list[float]:
    """Return the seconds that each of so many requests took, one after the other on one connection.

    Args:
        port: where.
        count: how many.
        per_second: how many are sent in a second; None: each as soon as the one before has been answered.
    """
    sent = request(port, stream=False)
    times = []
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        began = time.perf_counter()
        for number in range(count):
            if per_second is not None:
                time.sleep(max(0.0, began + number / per_second - time.perf_counter()))
            started = time.perf_counter()
            connection.sendall(sent)
            data = b""
            while not _complete(data):
                piece = connection.recv(65536)
                assert piece, data
                data += piece
            times.append(time.perf_counter() - started)
    return times


@dataclass
class Streamed:
    """The times of one streamed answer, in seconds: to its first event, and between the events that follow."""

    first: float
    gaps: list[float]


def streams(port: int, count: int) -> list[Streamed]:
    """Return the times of so many streams, one after the other on one connection."""
    sent = request(port, stream=True)
    made = []
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for _ in range(count):
            made.append(_one_stream(connection, sent))
    return made


def _one_stream(connection: socket.socket, sent: bytes) -> Streamed:
    started = time.perf_counter()
    connection.sendall(sent)
    data, events, times = b"", 0, []
    while not data.endswith(b"0\r\n\r\n"):
        piece = connection.recv(65536)
        assert piece, data
        data += piece
        now = time.perf_counter()
        seen = data.count(b"data: {")
        times += [now] * (seen - events)
        events = seen
    return Streamed(times[0] - started, [b - a for a, b in pairwise(times)])


class _User(asyncio.Protocol):
    def __init__(self, sent: bytes, until: float, done: asyncio.Future[None]) -> None:
        self._sent, self._until, self._done = sent, until, done
        self._data = b""
        self.answers = 0

    def connection_made(self, transport: Any) -> None:
        self._transport: asyncio.Transport = transport  # of uvloop's own class
        transport.write(self._sent)

    def data_received(self, data: bytes) -> None:
        self._data += data
        if not _complete(self._data):
            return
        self._data = b""
        self.answers += 1
        if time.perf_counter() < self._until:
            self._transport.write(self._sent)
        else:
            self._transport.close()
            self._done.set_result(None)

    def connection_lost(self, error: Exception | None) -> None:
        if not self._done.done():
            self._done.set_exception(error or ConnectionError("the connection was closed"))


def saturated(port: int, connections: int, seconds: float) -> float:
    """Return the answers per second with so many connections, each of which always has a request under way."""
    import uvloop

    return uvloop.run(_saturated(port, connections, seconds))


async def _saturated(port: int, connections: int, seconds: float) -> float:
    loop = asyncio.get_running_loop()
    started = time.perf_counter()
    users, done = [], []
    for _ in range(connections):
        future: asyncio.Future[None] = loop.create_future()
        _, user = await loop.create_connection(
            lambda future=future: _User(request(port, stream=False), started + seconds, future), "127.0.0.1", port
        )
        users.append(user)
        done.append(future)
    await asyncio.gather(*done)
    return sum(user.answers for user in users) / (time.perf_counter() - started)


async def answers(
    port: int, bodies: Sequence[dict[str, Any]], at_once: int = 16, per_second: float | None = None
) -> list[bytes | None]:
    """Return the answer to each body, so many at a time; None for one that failed.

    Args:
        port: where.
        bodies: of the requests, in the order in which they are sent.
        at_once: how many are under way at a time.
        per_second: how many are sent in a second, if that many can be; None: each as soon as there is room.
    """
    made: list[bytes | None] = [None] * len(bodies)
    waiting = iter(enumerate(bodies))
    began = time.perf_counter()

    async def user(session: aiohttp.ClientSession) -> None:
        for number, body in waiting:
            if per_second is not None:
                await asyncio.sleep(max(0.0, began + number / per_second - time.perf_counter()))
            with contextlib.suppress(aiohttp.ClientError):
                async with session.post(f"http://127.0.0.1:{port}{PATH}", json=body) as response:
                    answer = await response.read()
                    made[number] = answer if response.status == 200 else None

    async with aiohttp.ClientSession() as session:
        await asyncio.gather(*(user(session) for _ in range(at_once)))
    return made
