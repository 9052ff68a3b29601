"""Where the gateway listens, and how many may connect."""

from __future__ import annotations

import asyncio
import logging
import resource
import socket

import pytest

from traceai_vllm.cli import gateway
from traceai_vllm.gateway import GatewayConfig

LOOPBACK = (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 0))
NOT_HERE = (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("192.0.2.1", 0))  # an address of documentation


def test_an_address_that_the_machine_has_not_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """As `localhost` in a container without IPv6, which is ::1 in its /etc/hosts all the same."""
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: [NOT_HERE, LOOPBACK])
    (listening,) = gateway._listening("localhost:0")
    with listening:
        assert listening.getsockname()[0] == "127.0.0.1"


def test_a_place_that_the_machine_has_not_at_all_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: [NOT_HERE])
    with pytest.raises(ValueError, match="nobody can be served at example:80: Cannot assign requested address"):
        gateway._listening("example:80")


CONFIG = GatewayConfig.model_validate(
    {
        "servers": {"b": {"url": "http://b"}},
        "routes": [{"name": "r", "baseline": "b"}],
        "limits": {"max_connections": 900},
    }
)
WANTED = 2 * 900 + 64 + 256


@pytest.mark.parametrize(
    ("soft", "hard", "then", "warns"),
    [
        (1024, 4096, WANTED, False),
        (1024, resource.RLIM_INFINITY, WANTED, False),
        (1024, 1500, 1500, True),
        (1024, 2000, 2000, False),
        (4096, 8192, 4096, False),
        (resource.RLIM_INFINITY, resource.RLIM_INFINITY, resource.RLIM_INFINITY, False),
    ],
)
def test_as_many_files_may_be_open_as_the_bounds_need(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, soft: int, hard: int, then: int, warns: bool
) -> None:
    """Most systems begin with 1024, and more users than half of that were turned away without a word."""
    limits = {resource.RLIMIT_NOFILE: (soft, hard)}
    monkeypatch.setattr(resource, "getrlimit", limits.__getitem__)
    monkeypatch.setattr(resource, "setrlimit", limits.__setitem__)
    gateway._allow_files(CONFIG)
    assert limits[resource.RLIMIT_NOFILE] == (then, hard)
    assert ("raise `ulimit -Hn` to 2120" in caplog.text) == warns


def test_a_kernel_that_allows_no_more_is_no_reason_not_to_serve(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(kind: int, limits: tuple[int, int]) -> None:
        raise ValueError("not allowed to raise maximum limit")

    monkeypatch.setattr(resource, "getrlimit", lambda kind: (256, resource.RLIM_INFINITY))
    monkeypatch.setattr(resource, "setrlimit", refuse)
    gateway._allow_files(CONFIG)
    assert "may have 256 open files" in caplog.text


def test_answers_that_are_ended_at_last_leave_no_traceback_each() -> None:
    """A stop after 30 s with hundreds of streams would look like a crash; errors are logged as ever."""
    logged: list[logging.LogRecord] = []
    handler = logging.Handler()
    handler.emit = logged.append  # type: ignore[method-assign]
    gateway._server(None, CONFIG.limits)
    logger = logging.getLogger("uvicorn.error")
    logger.addHandler(handler)
    try:
        for error in (asyncio.CancelledError("timeout graceful shutdown exceeded"), RuntimeError("broken")):
            logger.error("Exception in ASGI application", exc_info=error)
        logger.error("Cancel 2 running task(s), timeout graceful shutdown exceeded")
    finally:
        logger.removeHandler(handler)
    assert [record.exc_info and type(record.exc_info[1]) for record in logged] == [RuntimeError, None]
