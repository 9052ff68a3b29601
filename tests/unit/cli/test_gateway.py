"""Where the gateway listens."""

from __future__ import annotations

import socket

import pytest

from traceai_vllm.cli import gateway

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
