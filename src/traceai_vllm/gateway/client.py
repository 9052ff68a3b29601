"""The HTTP client of a gateway: aiohttp, the cheapest of those that are well kept (docs/gateway.md has figures)."""

from __future__ import annotations

import logging
import time
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import aiohttp
from yarl import URL

if TYPE_CHECKING:
    from traceai_vllm.gateway.config import Server

_log = logging.getLogger("traceai_vllm.gateway")
_SAY_AGAIN_AFTER_S = 60.0
_said: dict[str, float] = {}  # by server: when it was logged that it cannot be reached

# Servers on uvicorn (vLLM's) close idle connections after 5 s; ours must not be the one that is just being closed.
KEEPALIVE_S = 3.0
_TRIES = 10
_NO_AUTOMATIC_HEADERS = ("User-Agent", "Accept", "Accept-Encoding", "Content-Type")


class OutgoingRequest:
    """A request as it is sent to one server.

    Attributes:
        method: the HTTP method.
        target: path and query, as the caller wrote them.
        headers: the headers, complete but for the framing.
        body: the body.
    """

    __slots__ = ("body", "headers", "method", "target")

    def __init__(self, method: str, target: str, headers: list[tuple[str, str]], body: bytes) -> None:
        self.method = method
        self.target = target
        self.headers = headers
        self.body = body


class _Connector(aiohttp.TCPConnector):
    """Takes no connection into use again on which something has come that nobody asked for: it would be the answer."""

    async def connect(self, req: Any, traces: Any, timeout: aiohttp.ClientTimeout) -> Any:
        for _ in range(_TRIES):
            connection = await super().connect(req, traces, timeout)
            if connection.protocol is None or not connection.protocol.should_close:
                return connection
            connection.close()
        raise aiohttp.ClientConnectionError("the server answers what it was not asked")


def new_session() -> aiohttp.ClientSession:
    """Return the HTTP client of a gateway: it leaves bodies as they are, keeps no cookies, and uses no proxy."""
    return aiohttp.ClientSession(
        connector=_Connector(limit=0, keepalive_timeout=KEEPALIVE_S),
        skip_auto_headers=_NO_AUTOMATIC_HEADERS,
        auto_decompress=False,
        cookie_jar=aiohttp.DummyCookieJar(),
        max_line_size=32768,
        max_field_size=32768,
        trust_env=False,
    )


async def send(session: aiohttp.ClientSession, server: Server, request: OutgoingRequest) -> aiohttp.ClientResponse:
    """Send a request, and return the response when its head is there; the body is still to be read."""
    return await session.request(
        request.method,
        # A caller may write a new query each time; paths are few.
        URL(server.url + request.target, encoded=True) if "?" in request.target else _url(server.url, request.target),
        data=request.body or None,
        headers=request.headers,
        allow_redirects=False,
        timeout=_timeout(server.connect_timeout_s, server.read_timeout_s),
    )


def say_unreached(server: Server, error: Exception) -> None:
    """Log why a server cannot be reached (its name, its certificate, the network): once a minute, however many ask.

    Args:
        server: the server.
        error: the HTTP client's, before anything was sent or received.
    """
    now = time.monotonic()
    if now - _said.get(server.url, -_SAY_AGAIN_AFTER_S) < _SAY_AGAIN_AFTER_S:
        return
    _said[server.url] = now
    _log.warning("The server at %s cannot be reached: %s", server.url, error)


@lru_cache(maxsize=256)
def _url(server: str, path: str) -> URL:
    return URL(server + path, encoded=True)


@lru_cache(maxsize=256)
def _timeout(connect_s: float, read_s: float) -> aiohttp.ClientTimeout:
    return aiohttp.ClientTimeout(total=None, sock_connect=connect_s, sock_read=read_s)
