"""What callers may do to the gateway: feedback on answers, and requests that mean no good."""

from __future__ import annotations

import contextlib
import json
import logging
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.gateway import GatewayUnderTest, wait_until
from tests.support.stub_upstream import StubUpstream
from traceai_vllm.gateway.measures import prometheus

CHAT = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
KEY = {"authorization": "Bearer app"}


@pytest.fixture
def settings(baseline: StubUpstream, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.setenv("FEEDBACK_KEYS", "app,other")
    server = {"url": baseline.url, "model_variant": "m-int4", "quantization_format": "int4"}
    return {
        "servers": {"one": server, "two": server},
        "routes": [{"name": "support", "baseline": "one", "candidate": "two", "mode": "candidate"}],
        "feedback": {"keys_env": "FEEDBACK_KEYS", "per_second": 1.0},
        "guard": {"min_answers": 5},
    }


@pytest.fixture
def gateway(settings: dict[str, Any]) -> Iterator[GatewayUnderTest]:
    with GatewayUnderTest(settings) as gateway:
        yield gateway


def feedback(gateway: GatewayUnderTest, headers: dict[str, str] | None = None, **said: Any) -> httpx.Response:
    return httpx.post(gateway.url + "/v1/feedback", json=said, headers=KEY if headers is None else headers)


def feedback_spans(gateway: GatewayUnderTest) -> list[Any]:
    return [span for span in gateway.spans() if span.name == "feedback"]


@pytest.mark.parametrize("by", ["trace_id", "response_id"])
def test_feedback_finds_its_answer(gateway: GatewayUnderTest, by: str) -> None:
    """By response id or by `x-trace-id`: it is in the answer's trace, with its tags and its variant."""
    answer = httpx.post(gateway.url + "/v1/chat/completions", json=CHAT)
    named = {"trace_id": answer.headers["x-trace-id"], "response_id": answer.json()["id"]}

    taken = feedback(gateway, kind="thumbs_down", **{by: named[by]})

    assert (taken.status_code, taken.json()["new"]) == (202, True)
    [span] = feedback_spans(gateway)
    assert f"{span.context.trace_id:032x}" == named["trace_id"]
    found = span.attributes
    assert (found["traceai.feedback.kind"], found["gen_ai.response.id"]) == ("thumbs_down", named["response_id"])
    assert (found["route"], found["model_variant"], found["quantization_format"]) == ("support", "m-int4", "int4")


def test_feedback_on_an_answer_that_is_forgotten_is_recorded_with_its_ids(gateway: GatewayUnderTest) -> None:
    """It is joined where the spans are."""
    assert feedback(gateway, kind="abandoned", response_id="chatcmpl-long-ago").status_code == 202
    [span] = feedback_spans(gateway)
    assert span.attributes["gen_ai.response.id"] == "chatcmpl-long-ago"


def test_feedback_counts_once(gateway: GatewayUnderTest) -> None:
    """The same again, or the same idempotency key, is known."""
    assert feedback(gateway, kind="thumbs_up", response_id="r1").status_code == 202
    assert feedback(gateway, kind="thumbs_up", response_id="r1").status_code == 200
    keyed = {**KEY, "idempotency-key": "k"}
    assert feedback(gateway, keyed, kind="thumbs_up", response_id="r2").status_code == 202
    assert feedback(gateway, keyed, kind="thumbs_up", response_id="r2", text="x").json()["new"] is False
    assert len(feedback_spans(gateway)) == 2


@pytest.mark.parametrize(
    ("headers", "said", "status"),
    [
        ({}, {"kind": "thumbs_up", "response_id": "r"}, 401),
        ({"authorization": "Bearer wrong"}, {"kind": "thumbs_up", "response_id": "r"}, 401),
        (KEY, {"kind": "meh", "response_id": "r"}, 400),
        (KEY, {"kind": "thumbs_up"}, 400),
        (KEY, {"kind": "thumbs_up", "trace_id": "x"}, 400),
        (KEY, {"kind": "thumbs_up", "response_id": "r", "wrong": 1}, 400),
        (KEY, {"kind": "correction", "response_id": "r", "text": "x" * 100_000}, 413),
    ],
)
def test_feedback_that_cannot_be_taken_is_refused(
    gateway: GatewayUnderTest, headers: dict[str, str], said: dict[str, Any], status: int
) -> None:
    """With an error in OpenAI's form, which does not repeat what was sent."""
    answer = feedback(gateway, headers, **said)
    assert answer.status_code == status
    assert "wrong" not in answer.text
    assert answer.json()["error"]["message"]
    assert feedback_spans(gateway) == []


def test_feedback_is_rate_limited_by_key(gateway: GatewayUnderTest) -> None:
    """One key's flood leaves the others alone."""
    statuses = {feedback(gateway, kind="thumbs_up", response_id=f"r{i}").status_code for i in range(40)}
    assert statuses == {202, 429}
    assert feedback(gateway, {"x-api-key": "other"}, kind="thumbs_up", response_id="r").status_code == 202


def test_without_keys_a_flood_is_limited_whatever_key_it_sends(settings: dict[str, Any]) -> None:
    """By the address that it comes from."""
    settings["feedback"] = {"without_keys": True, "per_second": 1}
    with GatewayUnderTest(settings) as gateway:
        made_up = ({"x-api-key": f"made-up-{i}"} for i in range(40))
        statuses = {feedback(gateway, key, kind="thumbs_up", response_id="r").status_code for key in made_up}
    assert 429 in statuses


def test_without_keys_there_is_no_feedback_unless_it_is_asked_for(settings: dict[str, Any]) -> None:
    """Anybody's word would move the guard."""
    settings["feedback"] = {}
    with GatewayUnderTest(settings) as gateway:
        assert feedback(gateway, {}, kind="thumbs_up", response_id="r").status_code == 403
    settings["feedback"] = {"without_keys": True}
    with GatewayUnderTest(settings) as gateway:
        assert feedback(gateway, {}, kind="thumbs_up", response_id="r").status_code == 202


def test_users_who_complain_take_the_candidate_back(gateway: GatewayUnderTest) -> None:
    """Negative feedback on the candidate's answers uses the guard's budget up."""
    traces = [httpx.post(gateway.url + "/v1/chat/completions", json=CHAT).headers["x-trace-id"] for _ in range(6)]
    for trace_id in traces:
        feedback(gateway, kind="thumbs_down", trace_id=trace_id)
    rollback = gateway.runtime.rollout.rollbacks["support"]
    assert rollback.signal == "negative_feedback"


def test_a_user_who_says_many_things_of_one_answer_is_one_bad_answer(gateway: GatewayUnderTest) -> None:
    """The guard's budget is a share of the answers, and one of 20 is within it; all that was said is recorded."""
    traces = [httpx.post(gateway.url + "/v1/chat/completions", json=CHAT).headers["x-trace-id"] for _ in range(20)]
    for kind in ("thumbs_down", "correction", "escalation", "abandoned"):
        assert feedback(gateway, kind=kind, trace_id=traces[0]).status_code == 202
    assert gateway.runtime.rollout.rollbacks == {}
    assert len(feedback_spans(gateway)) == 4
    for trace_id in traces[1:3]:
        feedback(gateway, kind="thumbs_down", trace_id=trace_id)
    assert gateway.runtime.rollout.rollbacks["support"].signal == "negative_feedback"


def test_what_is_said_late_of_another_way_to_serve_does_not_count(settings: dict[str, Any], tmp_path: Path) -> None:
    """It takes nothing back that it is not about, and what is counted now is not forgotten for it."""
    path = tmp_path / "decision.json"
    settings["routes"][0]["mode"] = "mirror"
    settings["decision_file"] = str(path)
    settings["feedback"]["per_second"] = 1000.0
    with StubUpstream() as candidate:
        settings["servers"]["two"] = {"url": candidate.url}
        promote(path, "d1", 1.0)
        with GatewayUnderTest(settings) as gateway:
            early = [httpx.post(gateway.url + "/v1/chat/completions", json=CHAT) for _ in range(40)]
            promote(path, "d2", 0.999)
            wait_until(lambda: gateway.runtime.decision.id == "d2", "the next decision is in force")
            ids = iter(answer.headers["x-trace-id"] for answer in early)
            for _ in range(10):
                assert feedback(gateway, kind="thumbs_down", trace_id=next(ids)).status_code == 202
            assert gateway.runtime.rollout.rollbacks == {}
            candidate.behaviour.fault = "500"
            for _ in range(10):
                httpx.post(gateway.url + "/v1/chat/completions", json=CHAT)
                feedback(gateway, kind="thumbs_down", trace_id=next(ids))
            [rollback] = gateway.runtime.rollout.rollbacks.values()
    assert (rollback.signal, rollback.source) == ("errors", "decision 'd2'")


def test_a_decision_that_is_made_again_does_not_hide_a_bad_candidate(settings: dict[str, Any], tmp_path: Path) -> None:
    """Each night, or each minute: what the candidate does is counted on, also what is said late of it."""
    path = tmp_path / "decision.json"
    settings["routes"][0]["mode"] = "mirror"
    settings["decision_file"] = str(path)
    settings["feedback"]["per_second"] = 1000.0
    promote(path, "d0")
    with GatewayUnderTest(settings) as gateway:
        for number in range(1, 4):
            traces = [httpx.post(gateway.url + "/v1/chat/completions", json=CHAT).headers["x-trace-id"] for _ in "ab"]
            promote(path, f"d{number}")
            wait_until(lambda: gateway.runtime.decision.id == f"d{number}", "it is in force")  # noqa: B023
            for trace_id in traces:
                feedback(gateway, kind="thumbs_down", trace_id=trace_id)
        [rollback] = gateway.runtime.rollout.rollbacks.values()
    assert (rollback.signal, rollback.source) == ("negative_feedback", "decision 'd3'")


def promote(path: Path, name: str, share: float = 1.0) -> None:
    head = {"id": name, "action": "promote", "policy_hash": "sha256:0", "made_at": "2026-11-23T12:00:00Z"}
    new = path.with_suffix(".new")  # it appears in one step, as a release writes it
    new.write_text(json.dumps({**head, "routes": {"support": {"action": "promote", "share": share}}}))
    new.replace(path)


def test_the_same_idempotency_key_of_another_caller_is_another(gateway: GatewayUnderTest) -> None:
    """Each application numbers its own."""
    one, other = ({"x-api-key": key, "idempotency-key": "1"} for key in ("app", "other"))
    assert feedback(gateway, one, kind="thumbs_up", response_id="r1").status_code == 202
    assert feedback(gateway, other, kind="thumbs_down", response_id="r2").status_code == 202
    assert feedback(gateway, other, kind="thumbs_down", response_id="r2").status_code == 200
    assert len({span.attributes["traceai.feedback.id"] for span in feedback_spans(gateway)}) == 2


def raw(gateway: GatewayUnderTest, sent: bytes, *, then: bytes = b"") -> bytes:
    """Send bytes, and return all that comes back until the gateway closes or has been silent for a while."""
    port = int(gateway.url.rpartition(":")[2])
    received = b""
    with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
        connection.sendall(sent)
        with contextlib.suppress(TimeoutError, ConnectionError):
            while piece := connection.recv(65536):
                received += piece
                if then and then in received:
                    break
    return received


def head(*lines: str) -> bytes:
    return "\r\n".join(("POST /v1/chat/completions HTTP/1.1", "host: x", *lines, "", "")).encode()


BODY = json.dumps(CHAT).encode()
LENGTH = f"content-length: {len(BODY)}"


@pytest.mark.parametrize(
    "sent",
    [
        head(LENGTH, "transfer-encoding: chunked") + b"0\r\n\r\n" + BODY,
        head("transfer-encoding: chunked", LENGTH) + b"0\r\n\r\n" + BODY,
        head(LENGTH, "content-length: 0") + BODY,
        head("content-length: +2") + BODY,
        head("content-length: 0x2") + BODY,
        head("transfer-encoding: xchunked") + b"0\r\n\r\n" + BODY,
        head("transfer-encoding: chunked") + b"zz\r\n" + BODY,
        head("transfer-encoding : chunked", LENGTH) + BODY,
        head(LENGTH, "x-a: 1\n\tcontent-length: 0") + BODY,
        head(LENGTH, "x-a: b\x00c") + BODY,
    ],
)
def test_a_request_with_two_readings_reaches_no_server(
    gateway: GatewayUnderTest, baseline: StubUpstream, sent: bytes
) -> None:
    """Requests that another program might take for two (smuggling) are refused, and the connection is closed."""
    answer = raw(gateway, sent)
    assert answer.startswith(b"HTTP/1.1 400")
    assert answer.count(b"HTTP/1.1") == 1
    assert baseline.seen == []


def test_a_caller_cannot_choose_a_server_or_plant_headers(gateway: GatewayUnderTest, baseline: StubUpstream) -> None:
    """Absolute targets, host headers, and ids and tags with line ends in them change nothing that is sent on."""
    target = b"POST http://127.0.0.1:9/v1/chat/completions?x=%0d%0ax-evil:1 HTTP/1.1\r\nhost: evil\r\n"
    headers = b"x-request-id: a b\tc\r\nx-prompt-version: v\xc2\x85x-evil: 1\r\nx-forwarded-host: evil\r\n"
    length = f"content-length: {len(BODY)}\r\n\r\n".encode()
    assert raw(gateway, target + headers + length + BODY, then=b"}").startswith(b"HTTP/1.1 200")

    [seen] = baseline.seen
    assert seen.path == "/v1/chat/completions?x=%0d%0ax-evil:1"
    assert seen.header("host") == baseline.url.removeprefix("http://")
    assert seen.header("x-evil") is None
    assert seen.header("x-request-id").isalnum()


def test_what_strangers_say_of_themselves_reaches_no_server(settings: dict[str, Any], baseline: StubUpstream) -> None:
    """Servers that run traceai-vllm would believe the gateway's headers; the route's own tags do go there."""
    settings["trust_callers"] = False
    settings["routes"][0]["prompt_version"] = "v3"
    trace_id = "a" * 32
    headers = {
        **dict.fromkeys(("x-route", "x-prompt-version", "x-traffic-cohort", "x-agent-step"), "spoofed"),
        "baggage": "traffic_cohort=spoofed",
        "traceparent": f"00-{trace_id}-{'b' * 16}-01",
        "tracestate": "spoofed=1",
        "x-other": "kept",
    }
    with GatewayUnderTest(settings) as gateway:
        httpx.post(gateway.url + "/v1/chat/completions", json=CHAT, headers=headers)
        httpx.get(gateway.url + "/v1/models", headers=headers)
    chat, models = (dict(seen.headers) for seen in baseline.seen)
    assert (chat["x-route"], chat["x-prompt-version"], chat["x-other"]) == ("support", "v3", "kept")
    assert "spoofed" not in str(chat) + str(models)
    assert trace_id not in str(chat) + str(models)


@pytest.mark.parametrize("name", ["x-" + "a" * 100_000, "x-a"])
def test_headers_are_bounded(gateway: GatewayUnderTest, baseline: StubUpstream, name: str) -> None:
    """Also one that never ends."""
    answer = raw(gateway, b"POST /v1/chat/completions HTTP/1.1\r\n" + f"{name}: {'b' * 100_000}".encode())
    assert answer.startswith(b"HTTP/1.1 431")
    many = head(*(f"x-{i}: {'c' * 100}" for i in range(1000)), LENGTH)
    assert raw(gateway, many + BODY).startswith(b"HTTP/1.1 431")
    assert baseline.seen == []


STREAMED = json.dumps({**CHAT, "stream": True}).encode()


def old_head(length: int) -> bytes:
    return b"POST /v1/chat/completions HTTP/1.0\r\ncontent-length: %d\r\n\r\n" % length


def test_a_client_of_http_1_0_gets_no_chunks(gateway: GatewayUnderTest) -> None:
    """It does not know them: a stream ends where the connection does. What has a length is told it as ever."""
    chunked = httpx.post(gateway.url + "/v1/chat/completions", content=STREAMED)
    answer, _, body = raw(gateway, old_head(len(STREAMED)) + STREAMED).partition(b"\r\n\r\n")
    assert (b"transfer-encoding" in answer, b"connection: close" in answer) == (False, True)
    assert body == chunked.content

    answer, _, body = raw(gateway, old_head(len(BODY)) + BODY).partition(b"\r\n\r\n")
    assert f"content-length: {len(body)}".encode() in answer
    assert json.loads(body)["choices"]


def test_a_stream_that_breaks_off_looks_so_to_a_client_of_http_1_0(
    gateway: GatewayUnderTest, baseline: StubUpstream
) -> None:
    """Its connection is reset: closed, the answer would look complete."""
    baseline.behaviour.fault = "killed"
    received = b""
    with socket.create_connection(("127.0.0.1", int(gateway.url.rpartition(":")[2])), timeout=5) as connection:
        connection.sendall(old_head(len(STREAMED)) + STREAMED)
        with pytest.raises(ConnectionResetError):
            while piece := connection.recv(65536):
                received += piece
    assert b"data: " in received


def test_what_follows_a_body_is_no_header(gateway: GatewayUnderTest, baseline: StubUpstream) -> None:
    """A proxy in front that sets or takes out headers does not do so with trailers; the next request has its own."""
    planted = b"x-evil: 1\r\nauthorization: Bearer evil\r\nx-request-id: evil\r\n\r\n"
    chunked = head("transfer-encoding: chunked") + f"{len(BODY):x}\r\n".encode() + BODY + b"\r\n0\r\n" + planted
    with socket.create_connection(("127.0.0.1", int(gateway.url.rpartition(":")[2]))) as connection:
        for sent in (chunked, head(LENGTH, "x-mine: 1") + BODY):
            connection.sendall(sent)
            assert connection.recv(65536).startswith(b"HTTP/1.1 200")
    assert "evil" not in str([seen.headers for seen in baseline.seen])
    assert [seen.header("x-mine") for seen in baseline.seen] == [None, "1"]


@pytest.mark.parametrize("protocol", ["h2c", "websocket"])
def test_a_wish_for_another_protocol_is_ignored(
    gateway: GatewayUnderTest, baseline: StubUpstream, protocol: str
) -> None:
    """Java's own client says it with each request: the body is sent on all the same, and nothing of the wish."""
    wish = ("connection: Upgrade, HTTP2-Settings", f"Upgrade: {protocol}", "http2-settings: AAMAAABk", LENGTH)
    with socket.create_connection(("127.0.0.1", int(gateway.url.rpartition(":")[2]))) as connection:
        for _ in range(2):
            connection.sendall(head(*wish) + BODY)
            assert connection.recv(65536).startswith(b"HTTP/1.1 200")
    assert [seen.body for seen in baseline.seen] == [BODY] * 2
    assert not {"upgrade", "http2-settings", "te"} & dict(baseline.seen[0].headers).keys()


def test_such_a_wish_in_a_head_that_comes_in_parts_loses_no_body(
    gateway: GatewayUnderTest, baseline: StubUpstream
) -> None:
    """It may be refused."""
    whole = head("connection: upgrade", "upgrade: h2c", LENGTH) + BODY
    middle = whole.index(b"rade: h2c")
    with socket.create_connection(("127.0.0.1", int(gateway.url.rpartition(":")[2]))) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.sendall(whole[:middle])
        wait_until(lambda: gateway.connections == 1, "it is connected")
        connection.sendall(whole[middle:])
        assert connection.recv(65536).startswith((b"HTTP/1.1 400", b"HTTP/1.1 200"))
    assert all(seen.body == BODY for seen in baseline.seen)


def test_who_is_connected_stays_so_when_others_fill_the_gateway(settings: dict[str, Any]) -> None:
    """More connections than there may be: those are told so, not the others."""
    settings["limits"] = {"max_connections": 1}
    with GatewayUnderTest(settings) as gateway, httpx.Client() as client:
        url = gateway.url + "/v1/chat/completions"
        assert client.post(url, json=CHAT).status_code == 200
        refused = httpx.post(url, json=CHAT)
        with socket.create_connection(("127.0.0.1", int(gateway.url.rpartition(":")[2]))) as connection:
            wait_until(lambda: gateway.connections == 2, "a stranger is connected too")
            assert client.post(url, json=CHAT).status_code == 200
            connection.close()
    assert (refused.status_code, refused.headers["connection"]) == (503, "close")


def test_a_wrong_method_is_told_the_right_one(gateway: GatewayUnderTest) -> None:
    """RFC 9110 has it so for 405."""
    answer = httpx.get(gateway.url + "/v1/chat/completions")
    assert (answer.status_code, answer.headers["allow"]) == (405, "POST")


CORS = b"access-control-allow-origin: https://app.example\r\naccess-control-allow-headers: authorization\r\n"


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/responses", "/v1/models"])
def test_a_browsers_preflight_is_answered_by_the_baseline(
    settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    """It comes without a key, and no server's key goes on with it; it is no request of the route's: no copy."""
    monkeypatch.setenv("SERVERS", "servers-canary")
    settings["keys_env"] = "FEEDBACK_KEYS"
    asked = {"origin": "https://app.example", "access-control-request-method": "POST"}
    with StubUpstream(raw=b"HTTP/1.1 204 No Content\r\n" + CORS + b"\r\n") as one, StubUpstream() as two:
        for name, server in (("one", one), ("two", two)):
            settings["servers"][name] = {"url": server.url, "api_key_env": "SERVERS"}
        settings["routes"] = [
            {"name": "by-model", "match": {"model": "m"}, "baseline": "one", "candidate": "two"},
            {"name": "else", "match": {"model": "other"}, "baseline": "two"},
        ]
        with GatewayUnderTest(settings) as gateway:
            answer = httpx.options(gateway.url + path, headers={**asked, "authorization": "Bearer app"})
            held, spans = gateway.runtime.budget.used, gateway.spans()
            books = gateway.runtime.books.balances()
    assert (answer.status_code, answer.headers["access-control-allow-headers"]) == (204, "authorization")
    assert answer.headers["access-control-allow-origin"] == "https://app.example"
    [seen] = one.seen
    assert (seen.method, seen.path, seen.header("origin")) == ("OPTIONS", path, "https://app.example")
    assert seen.header("authorization") is None
    assert (held, spans, books, two.seen) == (0, [], {}, [])


def test_a_preflight_finds_its_route_by_path_and_header(settings: dict[str, Any], baseline: StubUpstream) -> None:
    """What else a route goes by is not known yet."""
    with StubUpstream(raw=b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n") as other:
        settings["servers"]["two"] = {"url": other.url}
        match = {"path": "/v1/embeddings"}
        settings["routes"].append({"name": "embeddings", "match": match, "baseline": "two"})
        settings["routes"].reverse()
        with GatewayUnderTest(settings) as gateway:
            assert httpx.options(gateway.url + "/v1/embeddings").status_code == 200
            httpx.options(gateway.url + "/v1/messages")
    assert [seen.path for seen in other.seen] == ["/v1/embeddings"]
    assert [seen.path for seen in baseline.seen] == ["/v1/messages"]


def test_who_has_sent_several_requests_and_hangs_up_cancels_them(
    gateway: GatewayUnderTest, baseline: StubUpstream
) -> None:
    """One after the other on one connection, without waiting for answers: also the one that is being answered."""
    baseline.behaviour.fault = "hang"
    body = json.dumps(CHAT).encode()
    request = b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body)
    with socket.create_connection(("127.0.0.1", int(gateway.url.rpartition(":")[2]))) as connection:
        connection.sendall(request * 3)
        wait_until(lambda: len(baseline.seen) == 1, "the first is asked")
    wait_until(lambda: gateway.under_way == 0, "nobody is waited for")
    wait_until(lambda: baseline.seen[0].cancelled, "the server's work is cancelled")
    assert len(baseline.seen) == 1


@pytest.mark.parametrize("start", [b"0\r\nx-a: ", b"0\r\n", b"5;"], ids=["trailer", "its name", "extension"])
def test_what_stands_beside_a_body_is_bounded(gateway: GatewayUnderTest, start: bytes) -> None:
    """A trailer that never ends would take memory, and the time of all users."""
    sent = 0
    with (
        socket.create_connection(("127.0.0.1", int(gateway.url.rpartition(":")[2]))) as connection,
        pytest.raises(ConnectionError),
    ):
        connection.sendall(head("transfer-encoding: chunked") + start)
        while sent < 32 * 1024 * 1024:
            sent += connection.send(b"a" * 65536)


def test_slow_clients_are_let_go(settings: dict[str, Any]) -> None:
    """One that does not finish its headers, its body, or does not read its answer."""
    settings["limits"] = {"header_timeout_s": 0.2, "body_timeout_s": 0.2, "write_timeout_s": 0.2}
    with StubUpstream(tokens=100_000) as endless:
        settings["servers"]["one"] = settings["servers"]["two"] = {"url": endless.url}
        with GatewayUnderTest(settings) as gateway:
            assert raw(gateway, b"").startswith(b"HTTP/1.1 408")
            assert raw(gateway, b"POST /v1/chat").startswith(b"HTTP/1.1 408")
            assert raw(gateway, head(LENGTH) + BODY[:5], then=b"}}").startswith(b"HTTP/1.1 408")
            body = json.dumps({**CHAT, "stream": True}).encode()
            with socket.create_connection(("127.0.0.1", int(gateway.url.rpartition(":")[2]))) as connection:
                connection.sendall(head(f"content-length: {len(body)}") + body)
                refused, server = [span for span in gateway.spans(at_least=3) if span.kind.name == "SERVER"]
    assert refused.attributes["traceai.gateway.refused"] == "request_timeout"
    assert server.attributes["error.type"] == "cancelled"


@pytest.mark.parametrize(("key", "status"), [("wrong", b"401"), ("app", b"408")])
def test_a_refused_client_that_never_ends_its_body_is_let_go(
    settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch, key: str, status: bytes
) -> None:
    """After it was told why; a piece now and then must not keep its connection for ever."""
    settings["limits"], settings["keys_env"] = {"body_timeout_s": 0.2}, "FEEDBACK_KEYS"
    with GatewayUnderTest(settings) as gateway:
        port = int(gateway.url.rpartition(":")[2])
        with socket.create_connection(("127.0.0.1", port), timeout=0.02) as connection:
            connection.sendall(head(f"authorization: Bearer {key}", "transfer-encoding: chunked"))
            received, open_ = b"", True

            def closed() -> bool:
                nonlocal received, open_
                try:
                    connection.sendall(b"1\r\na\r\n")
                    piece = connection.recv(65536)
                    received, open_ = received + piece, bool(piece)
                except TimeoutError:
                    pass
                except ConnectionError:
                    open_ = False
                return not open_

            wait_until(closed, "the gateway closes the connection")
    assert received.startswith(b"HTTP/1.1 " + status)


@pytest.mark.parametrize("sent", ["empty lines", "the rest of a refused body"])
def test_what_is_no_request_does_not_keep_a_connection(settings: dict[str, Any], sent: str) -> None:
    """Old clients send an empty line after a body. Who is silent then is let go as if he had been silent before."""
    settings["limits"] = {"keep_alive_s": 1, "max_body_bytes": len(BODY)}
    length = len(BODY) if sent == "empty lines" else len(BODY) + 4
    with GatewayUnderTest(settings) as gateway:
        port = int(gateway.url.rpartition(":")[2])
        with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
            connection.sendall(head(f"content-length: {length}") + BODY)
            assert connection.recv(65536).startswith((b"HTTP/1.1 200", b"HTTP/1.1 413"))
            connection.sendall(b"\r\n\r\n")
            wait_until(lambda: gateway.connections == 0, "it is let go")
            assert connection.recv(65536) == b""


def test_secrets_are_nowhere(
    settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Neither callers' keys nor servers' in spans, logs, books, metrics, or answers, whatever goes wrong."""
    monkeypatch.setenv("USERS", "users-canary")
    monkeypatch.setenv("SERVERS", "servers-canary")
    settings["keys_env"] = "USERS"
    settings["servers"] = {name: {"url": "http://127.0.0.1:9", "api_key_env": "SERVERS"} for name in ("one", "two")}
    answers = []
    with caplog.at_level(logging.DEBUG), GatewayUnderTest(settings) as gateway:
        url = gateway.url + "/v1/chat/completions?api_key=query-canary"
        for key in ("users-canary", "wrong-canary"):
            headers = {"authorization": f"Bearer {key}", "cookie": "cookie-canary"}
            answers.append(httpx.post(url, json=CHAT, headers=headers))
            answers.append(httpx.post(url, content=b"{body-canary", headers=headers))
            answers.append(httpx.post(gateway.url + "/v1/feedback", content=b"{body-canary", headers=headers))
        spans = "".join(span.to_json() for span in gateway.spans(at_least=3))
        recorded = spans + prometheus(gateway.runtime) + str(gateway.runtime.books.balances())
    logged = "".join(record.getMessage() for record in caplog.records if record.name.startswith("traceai"))
    assert [answer.status_code for answer in answers] == [502, 502, 401, 401, 401, 401]
    assert "canary" not in recorded + logged + "".join(answer.text for answer in answers)
