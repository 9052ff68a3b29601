"""`x-trace-id`: every answer of the users' port has one, and it is that of the spans where there are some."""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.support.gateway import GatewayUnderTest
from tests.support.stub_upstream import StubUpstream

CHAT = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
PATH = "/v1/chat/completions"
CALLERS = "0af7651916cd43dd8448eb211c80319c"
TRACED = {"traceparent": f"00-{CALLERS}-b7ad6b7169203331-01"}


@pytest.fixture
def settings(baseline: StubUpstream, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.setenv("KEYS", "app")
    return {
        "servers": {"one": {"url": baseline.url}},
        "routes": [{"name": "support", "baseline": "one", "match": {"model": "m"}}],
        "keys_env": "KEYS",
        "limits": {"max_body_bytes": 1000},
        "feedback": {"per_second": 1.0},
    }


@pytest.fixture
def gateway(settings: dict[str, Any]) -> Iterator[GatewayUnderTest]:
    with GatewayUnderTest(settings) as gateway:
        yield gateway


def ask(gateway: GatewayUnderTest, method: str, path: str, body: Any = None, **headers: str) -> httpx.Response:
    content = b"" if body is None else json.dumps(body).encode()
    return httpx.request(method, gateway.url + path, content=content, headers={"x-api-key": "app", **headers})


@pytest.mark.parametrize(
    ("body", "status", "why"),
    [
        ({**CHAT, "model": "another"}, 404, "not_found"),
        ({**CHAT, "user": "x" * 1000}, 413, "request_too_large"),
    ],
)
def test_a_refused_request_is_found_by_its_trace_id(
    gateway: GatewayUnderTest, body: dict[str, Any], status: int, why: str
) -> None:
    """Its SERVER span says why, and stands in the caller's trace."""
    answer = ask(gateway, "POST", PATH, body, **TRACED)

    assert (answer.status_code, answer.json()["error"]["type"]) == (status, why)
    assert answer.headers["x-trace-id"] == CALLERS
    [span] = gateway.spans(at_least=1)
    assert (span.kind.name, f"{span.context.trace_id:032x}") == ("SERVER", CALLERS)
    assert (span.attributes["http.response.status_code"], span.attributes["traceai.gateway.refused"]) == (status, why)


@pytest.mark.parametrize(
    ("method", "path", "key", "status"),
    [
        ("GET", "/health", "app", 200),
        ("GET", "/v1/models", "app", 200),
        ("GET", "/v1/models", "wrong", 401),
        ("POST", PATH, "wrong", 401),
        ("GET", PATH, "app", 405),
        ("POST", PATH + "/", "app", 404),
        ("GET", "/", "app", 404),
        ("POST", "/v1/feedback", "wrong", 401),
        ("POST", "/v1/feedback", "app", 400),
    ],
)
def test_answers_without_a_span_have_an_id_too(
    gateway: GatewayUnderTest, method: str, path: str, key: str, status: int
) -> None:
    """The caller's where he has a trace, else a new one; probes and strangers make no spans."""
    answers = [
        httpx.request(method, gateway.url + path, headers={"x-api-key": key, **headers}) for headers in ({}, {}, TRACED)
    ]

    assert {answer.status_code for answer in answers} == {status}
    first, second, third = (answer.headers["x-trace-id"] for answer in answers)
    assert re.fullmatch("[0-9a-f]{32}", first)
    assert (first == second, third) == (False, CALLERS)
    assert gateway.spans() == []


def test_feedback_has_the_id_of_its_own_span(gateway: GatewayUnderTest) -> None:
    """Which is in the trace of the answer that it is about."""
    answer = ask(gateway, "POST", PATH, CHAT)
    said = {"kind": "thumbs_up", "response_id": answer.json()["id"]}

    taken = ask(gateway, "POST", "/v1/feedback", said)

    assert (taken.status_code, taken.headers["x-trace-id"]) == (202, answer.headers["x-trace-id"])
    again = ask(gateway, "POST", "/v1/feedback", said)
    assert (again.status_code, len(again.headers["x-trace-id"])) == (200, 32)
    statuses = [ask(gateway, "POST", "/v1/feedback", said) for _ in range(40)]
    assert {(one.status_code, len(one.headers["x-trace-id"])) for one in statuses} == {(200, 32), (429, 32)}


def test_a_server_that_does_not_answer(settings: dict[str, Any]) -> None:
    """Also where no span is made."""
    settings["servers"]["one"]["url"] = "http://127.0.0.1:9"
    with GatewayUnderTest(settings) as gateway:
        for method, path, body in (("GET", "/health", None), ("POST", PATH, CHAT)):
            answer = ask(gateway, method, path, body)
            assert (answer.status_code, len(answer.headers["x-trace-id"])) == (502, 32)


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"nonsense\r\n\r\n", b"400"),
        (b"GET /health HTTP/1.1\r\nhost: x\r\nx-a: %s\r\n\r\n" % (b"a" * 100_000), b"431"),
        (b"GET /health HTTP/1.1\r\n", b"408"),
    ],
)
def test_what_is_no_request(settings: dict[str, Any], sent: bytes, status: bytes) -> None:
    """Malformed, too long, too slow."""
    settings["limits"] = {"header_timeout_s": 0.2}
    with GatewayUnderTest(settings) as gateway:
        assert re.match(b"HTTP/1.1 %s .*\r\nx-trace-id: [0-9a-f]{32}\r\n" % status, raw(gateway, sent), re.DOTALL)


def test_one_connection_too_many(settings: dict[str, Any]) -> None:
    """As many as there may be are served, the next is refused and closed."""
    settings["limits"] = {"max_connections": 1}
    request = b"GET /health HTTP/1.1\r\nhost: x\r\nx-api-key: app\r\n\r\n"
    with GatewayUnderTest(settings) as gateway, connected(gateway) as first:
        first.sendall(request)
        assert first.recv(65536).startswith(b"HTTP/1.1 200")
        refused = raw(gateway, request)
        assert refused.startswith(b"HTTP/1.1 503")
        assert re.search(b"\r\nx-trace-id: [0-9a-f]{32}\r\n", refused)
        assert b"\r\nconnection: close\r\n" in refused
        first.sendall(request)
        assert first.recv(65536).startswith(b"HTTP/1.1 200")


def connected(gateway: GatewayUnderTest) -> socket.socket:
    return socket.create_connection(("127.0.0.1", int(gateway.url.rpartition(":")[2])), timeout=5)


def raw(gateway: GatewayUnderTest, sent: bytes) -> bytes:
    """Send bytes, and return all that comes back until the gateway closes."""
    received = b""
    with connected(gateway) as connection:
        connection.sendall(sent)
        while piece := connection.recv(65536):
            received += piece
    return received
