"""Who answers: configuration and decision files, serving modes, fallback; the program, and its books' file."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF

from tests.support.api_server import free_port
from tests.support.gateway import DEADLINE_S, GatewayUnderTest, wait_until
from tests.support.stub_upstream import StubUpstream
from traceai_vllm.gateway.books import Books
from traceai_vllm.gateway.config import Mode

PICTURE = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 10**6}}
CHAT = {"model": "m", "messages": [{"role": "user", "content": "hi"}], "stream": True}


@pytest.fixture
def baseline() -> Iterator[StubUpstream]:
    with StubUpstream(variant="b-") as stub:
        yield stub


@pytest.fixture
def candidate() -> Iterator[StubUpstream]:
    with StubUpstream(variant="c-") as stub:
        yield stub


def config(baseline: StubUpstream, candidate: StubUpstream, **route: Any) -> dict[str, Any]:
    return {
        "servers": {"bf16": {"url": baseline.url}, "int4": {"url": candidate.url}},
        "routes": [{"name": "support", "baseline": "bf16", "candidate": "int4", **route}],
    }


def served_by(url: str, body: dict[str, Any] = CHAT, **headers: str) -> str:
    """Return which of the servers answered: their words differ."""
    answer = httpx.post(url + "/v1/chat/completions", json=body, headers=headers)
    assert answer.status_code == 200, answer.text
    return {True: "baseline", False: "candidate"}["b-" in answer.text]


def test_a_canary_is_sticky_by_session_and_near_its_share(baseline: StubUpstream, candidate: StubUpstream) -> None:
    """A session keeps its server; the share of sessions is about the one asked for."""
    with GatewayUnderTest(config(baseline, candidate, mode="canary", share=0.5)) as gateway:
        first = [served_by(gateway.url, **{"x-session-id": f"s{i}"}) for i in range(60)]
        again = [served_by(gateway.url, **{"x-session-id": f"s{i}"}) for i in range(60)]
    assert first == again
    assert 15 < first.count("candidate") < 45


@pytest.mark.parametrize("session", ["a session of {}", "s" * 200 + "{}"])
def test_a_canary_is_sticky_by_any_session(baseline: StubUpstream, candidate: StubUpstream, session: str) -> None:
    """Also by one that no span could hold."""
    with GatewayUnderTest(config(baseline, candidate, mode="canary", share=0.5)) as gateway:
        for name in map(session.format, range(3)):
            assert len({served_by(gateway.url, **{"x-session-id": name}) for _ in range(12)}) == 1


def test_a_canary_goes_on_where_the_earlier_response_is_kept(baseline: StubUpstream, candidate: StubUpstream) -> None:
    """Whatever the session and the share: the other server does not know the response."""

    def ask(session: str, **more: str) -> str:
        body = {"model": "m", "input": "hi", **more}
        answer = httpx.post(gateway.url + "/v1/responses", json=body, headers={"x-session-id": session})
        return "baseline" if "b-" in answer.text else "candidate"

    with GatewayUnderTest(config(baseline, candidate, mode="canary", share=0.5)) as gateway:
        sessions = {ask(f"s{i}"): f"s{i}" for i in range(20)}
        for arm, session in sessions.items():
            assert ask(session) == arm
            assert {ask(f"s{i}", previous_response_id="resp_1") for i in range(20)} == {arm}
    assert set(sessions) == {"baseline", "candidate"}


def test_answers_without_an_id_are_nobodys_earlier_response(baseline: StubUpstream, candidate: StubUpstream) -> None:
    """Some servers write an empty one: requests that go on from nothing are served by the share alone."""
    body = json.dumps({"id": "", "model": "m", "choices": [{"index": 0, "message": {"content": "b-"}}]}).encode()
    for stub, word in ((baseline, b"b-"), (candidate, b"c-")):
        head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(body)
        stub.behaviour.raw = head + body.replace(b"b-", word)
    with GatewayUnderTest(config(baseline, candidate, mode="canary", share=0.5)) as gateway:
        served = [served_by(gateway.url, **{"x-session-id": f"s{i}"}) for i in range(60)]
    assert 15 < served.count("candidate") < 45


@pytest.mark.parametrize("earlier", [{"previous_response_id": "resp_0"}, {"conversation": "conv_0"}])
def test_a_candidate_that_does_not_know_a_conversation_is_not_rolled_back(
    baseline: StubUpstream, candidate: StubUpstream, earlier: dict[str, str]
) -> None:
    """It was begun at the baseline, which answers; the same refusals of self-contained requests do roll back."""
    candidate.behaviour.fault = "400"
    settings = {**config(baseline, candidate, mode="candidate"), "guard": {"min_answers": 10}}
    with GatewayUnderTest(settings) as gateway:
        for more, rolled_back in ((earlier, False), ({}, True)):
            for _ in range(12):
                body = {"model": "m", "input": "hi", **more}
                assert httpx.post(gateway.url + "/v1/responses", json=body).status_code == 200
            assert bool(gateway.runtime.rollout.rollbacks) is rolled_back


@pytest.mark.parametrize(
    ("only", "expected"),
    [
        ({"intents": ["billing"]}, "candidate"),
        ({"intents": ["other"]}, "baseline"),
        ({"prompt_versions": ["v3"], "max_prompt_bytes": 10_000}, "candidate"),
        ({"prompt_versions": ["v4"]}, "baseline"),
        ({"traffic_cohorts": ["eu"]}, "baseline"),
        ({"max_prompt_bytes": 10}, "baseline"),
    ],
)
def test_a_restricted_route_obeys_its_restriction(
    baseline: StubUpstream, candidate: StubUpstream, only: dict[str, Any], expected: str
) -> None:
    """The candidate answers what is let through, and nothing else."""
    route = {"mode": "restricted", "only": only, "intent": "billing", "prompt_version": "v3"}
    with GatewayUnderTest(config(baseline, candidate, **route)) as gateway:
        assert served_by(gateway.url) == expected


@pytest.mark.parametrize(
    "route",
    [
        {"mode": "restricted", "only": {"max_prompt_tokens": 10}},
        {"mode": "restricted", "only": {"intents": ["billing"]}, "intent": "billing"},
        {"mode": "candidate", "max_prompt_bytes": 100},
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_a_body_that_cannot_be_read_here_is_not_let_through(
    baseline: StubUpstream, candidate: StubUpstream, encoding: str, route: dict[str, Any]
) -> None:
    """Servers on Python read it, however long it is; where nothing is restricted, the candidate does."""
    body = json.dumps({**CHAT, "messages": [{"role": "user", "content": "long " * 1000}]}).encode(encoding)
    for given, expected in ((route, b"b-"), ({"mode": "candidate"}, b"c-")):
        with GatewayUnderTest(config(baseline, candidate, **given)) as gateway:
            assert expected in httpx.post(gateway.url + "/v1/chat/completions", content=body).content


@pytest.mark.parametrize(
    ("fault", "error"), [("500", "500"), ("refused", "connection_refused"), ("slow", "timeout"), ("hang", "timeout")]
)
def test_a_failing_candidate_falls_back_before_its_first_byte(
    baseline: StubUpstream, candidate: StubUpstream, fault: str, error: str
) -> None:
    """Users get the baseline's answer; the span says why; after five failures the circuit is open."""
    candidate.behaviour.fault = fault
    if fault == "refused":
        candidate.stop()
    settings = config(baseline, candidate, mode="candidate")
    settings["servers"]["int4"]["first_byte_timeout_s"] = 0.2
    with GatewayUnderTest(settings) as gateway:
        assert [served_by(gateway.url) for _ in range(6)] == ["baseline"] * 6
        servers = [span for span in gateway.spans(at_least=17) if span.kind.name == "SERVER"]
    assert [span.attributes["traceai.gateway.fallback"] for span in servers] == [error] * 5 + ["circuit_open"]
    assert {span.attributes["traceai.gateway.served_by"] for span in servers} == {"bf16"}
    assert all(span.status.status_code.name != "ERROR" for span in servers)


@pytest.mark.parametrize(
    ("head", "error"),
    [
        (b"HTTP/1.1 200 OK\r\nx-a: b\x01c\r\ncontent-length: 2\r\n\r\n{}", "connection_broken"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", "connection_broken"),
        (b"HTTP/1.1 204 No Content\r\n\r\n", "connection_broken"),
        (b"HTTP/1.1 302 Found\r\nlocation: /login\r\ncontent-length: 0\r\n\r\n", "302"),
        (b"HTTP/1.1 600 Odd\r\ncontent-length: 2\r\n\r\n{}", "600"),
    ],
)
def test_a_candidate_whose_answer_is_none_falls_back(
    baseline: StubUpstream, candidate: StubUpstream, head: bytes, error: str
) -> None:
    """One that cannot be passed on, has no first byte, or sends the user elsewhere."""
    candidate.behaviour.raw = head
    with GatewayUnderTest(config(baseline, candidate, mode="candidate")) as gateway:
        assert served_by(gateway.url) == "baseline"
        [server] = [span for span in gateway.spans(at_least=3) if span.kind.name == "SERVER"]
    assert server.attributes["traceai.gateway.fallback"] == error


def test_a_candidate_that_breaks_after_its_first_byte_is_seen_to_break(
    baseline: StubUpstream, candidate: StubUpstream
) -> None:
    """Two answers are never mixed: the user's connection ends early, as it would without a gateway."""
    candidate.behaviour.fault = "killed"
    candidate.behaviour.gap_s = 0.02
    with (
        GatewayUnderTest(config(baseline, candidate, mode="candidate")) as gateway,
        pytest.raises(httpx.RemoteProtocolError),
    ):
        served_by(gateway.url)
    assert baseline.seen == []


def write(path: Path, content: str) -> None:
    """Replace a file in one step, as editors and deployments do."""
    new = path.with_suffix(".new")
    new.write_text(content)
    new.replace(path)


def decision(**route: Any) -> str:
    """Return the text of a decision file for the route of these tests."""
    head = {"action": "promote", "policy_hash": "sha256:0", "made_at": "2026-11-23T12:00:00Z"}
    return json.dumps({**head, "id": "d1", "routes": {"support": route}})


def test_a_decision_is_obeyed_within_a_second_and_a_broken_one_means_baseline(
    baseline: StubUpstream, candidate: StubUpstream, tmp_path: Path
) -> None:
    """Missing, then given, then broken, then given, then gone; spans name the decision that governed them."""
    path = tmp_path / "decision.json"
    promoted = decision(action="promote")
    settings = {**config(baseline, candidate), "decision_file": str(path)}
    steps = [(promoted, "candidate"), ("{", "baseline"), (promoted, "candidate"), ('{"version": 2}', "baseline")]
    steps += [(promoted, "candidate"), (decision(action="ship it"), "baseline")]
    steps += [(promoted, "candidate"), (decision(action="fallback"), "baseline")]
    with GatewayUnderTest(settings) as gateway:
        assert served_by(gateway.url) == "baseline"
        for content, expected in steps:
            write(path, content)
            wait_until(lambda: served_by(gateway.url) == expected, f"{content} is obeyed", 1.0)  # noqa: B023
        write(path, promoted)
        wait_until(lambda: served_by(gateway.url) == "candidate", "it is obeyed", 1.0)
        path.unlink()
        wait_until(lambda: served_by(gateway.url) == "baseline", "it is gone", 1.0)
        servers = [span.attributes for span in gateway.spans(at_least=20) if span.kind.name == "SERVER"]
    decided = {s["traceai.gateway.served_by"] for s in servers if s.get("traceai.decision.id") == "d1"}
    undecided = {s["traceai.gateway.served_by"] for s in servers if "traceai.decision.id" not in s}
    assert (decided, undecided) == ({"bf16", "int4"}, {"bf16"})


@pytest.mark.parametrize(
    ("only", "expected"),
    [
        ({"slices": [{"intent": "billing", "traffic_cohort": "us"}, {"traffic_cohort": "eu"}]}, "candidate"),
        ({"slices": [{"intent": "billing", "traffic_cohort": "us"}, {"risk": "high"}]}, "baseline"),
        ({"slices": []}, "baseline"),
        ({"slices": [{"agent_step": "plan", "max_prompt_tokens": 1000}]}, "candidate"),
        ({"max_prompt_tokens": 1000}, "candidate"),
        ({"max_prompt_tokens": 10}, "baseline"),
        ({"except_slices": ["code"]}, "candidate"),
        ({"slices": [{"name": "code"}]}, "baseline"),
    ],
)
def test_a_restriction_holds_by_slice_and_by_length(
    baseline: StubUpstream, candidate: StubUpstream, tmp_path: Path, only: dict[str, Any], expected: str
) -> None:
    """Of the requests of a restricted route the candidate gets those in an allowed slice, and no others."""
    path = tmp_path / "decision.json"
    path.write_text(decision(action="restrict_route", only=only))
    settings = {**config(baseline, candidate, intent="billing"), "decision_file": str(path)}
    with GatewayUnderTest(settings) as gateway:
        assert served_by(gateway.url, **{"x-traffic-cohort": "eu", "x-agent-step": "plan"}) == expected


def test_a_routes_own_limit_in_tokens_holds_for_copies_too(baseline: StubUpstream, candidate: StubUpstream) -> None:
    """By what servers counted of earlier prompts: these have 5 tokens; without any count 16 are reckoned with."""
    with GatewayUnderTest(config(baseline, candidate, max_prompt_tokens=10)) as gateway:
        for _ in range(30):
            assert served_by(gateway.url, {**CHAT, "stream": False}) == "baseline"
        gateway.settled()
        balance = gateway.balance()
    assert (balance.paired, balance.dropped) == (10, {"prompt_too_long": 20})


@pytest.mark.parametrize(
    "odd",
    [
        {"messages": [{"role": "user", "content": [PICTURE]}]},
        {"messages": [{"role": "user", "content": "x" * 10**6}], "previous_response_id": "resp_0"},
    ],
    ids=["picture", "state"],
)
def test_the_length_of_texts_is_learned_from_texts(
    baseline: StubUpstream, candidate: StubUpstream, odd: dict[str, Any]
) -> None:
    """Of a picture's bytes hardly any is a token, and one among many would let long texts through."""
    only = {"max_prompt_tokens": 1000}
    long = {**CHAT, "messages": [{"role": "user", "content": "long " * 4000}]}
    with GatewayUnderTest(config(baseline, candidate, mode="restricted", only=only)) as gateway:
        assert {served_by(gateway.url, {**CHAT, "stream": False}) for _ in range(25)} == {"candidate"}
        assert served_by(gateway.url, long) == "baseline"
        served_by(gateway.url, {**CHAT, **odd, "stream": False})
        assert served_by(gateway.url, long) == "baseline"


def test_a_candidate_that_breaks_after_a_promotion_is_taken_back(
    baseline: StubUpstream, candidate: StubUpstream, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """By itself, with the next request: users never see it; a decision with newer evidence promotes again.

    An event, a metric and a log line say why.
    """
    path = tmp_path / "decision.json"
    path.write_text(decision(action="promote"))
    guard = {"min_answers": 10, "max_errors": 0.1, "file": str(tmp_path / "rollbacks.json")}
    settings = {**config(baseline, candidate), "decision_file": str(path), "guard": guard}
    with GatewayUnderTest(settings) as gateway:
        assert [served_by(gateway.url) for _ in range(10)] == ["candidate"] * 10
        candidate.behaviour.fault = "500"
        while not gateway.runtime.rollout.rollbacks:
            assert served_by(gateway.url) == "baseline"
        candidate.behaviour.fault = None
        assert served_by(gateway.url) == "baseline"
        [event] = gateway.events()
        [counted] = gateway.measured("traceai.gateway.rollbacks")
    assert event.event_name == "traceai.gateway.rollback"
    assert "errors: " in event.body
    assert dict(event.attributes)["route"] == "support"
    assert (counted.value, dict(counted.attributes)) == (1, {"route": "support", "signal": "errors"})
    assert event.body in caplog.text
    with GatewayUnderTest(settings) as restarted:
        assert served_by(restarted.url) == "baseline"
        [server] = [span for span in restarted.spans(at_least=2) if span.kind.name == "SERVER"]
        assert server.attributes["traceai.gateway.rolled_back"] is True
        later = json.loads(decision(action="promote"))
        later["made_at"] = "2099-01-01T00:00:00Z"
        write(path, json.dumps(later))
        wait_until(lambda: served_by(restarted.url) == "candidate", "the newer decision is obeyed", 1.0)


@pytest.mark.parametrize("fault", ["error_event", "truncated"])
def test_broken_answers_take_a_candidate_back_though_no_trace_is_sampled(
    baseline: StubUpstream, candidate: StubUpstream, fault: str
) -> None:
    """Streams that begin well and break: that is read from the answer, and has nothing to do with spans."""
    candidate.behaviour.fault = fault
    settings = {**config(baseline, candidate, mode="candidate"), "guard": {"min_answers": 10}}
    with GatewayUnderTest(settings, ALWAYS_OFF) as gateway:
        for _ in range(12):
            httpx.post(gateway.url + "/v1/chat/completions", json=CHAT)
        [rollback] = gateway.runtime.rollout.rollbacks.values()
        assert gateway.spans() == []
    assert rollback.signal == "errors"


@pytest.mark.parametrize("both", [True, False])
def test_a_request_that_both_refuse_is_not_the_candidates_fault(
    baseline: StubUpstream, candidate: StubUpstream, both: bool
) -> None:
    """A user's bad requests neither open the circuit nor take the route back; what only the candidate refuses does."""
    candidate.behaviour.fault = "400"
    baseline.behaviour.fault = "400" if both else None
    settings = {**config(baseline, candidate, mode="candidate"), "guard": {"min_answers": 10}}
    with GatewayUnderTest(settings) as gateway:
        statuses = [httpx.post(gateway.url + "/v1/chat/completions", json=CHAT).status_code for _ in range(12)]
        assert bool(gateway.runtime.rollout.rollbacks) is not both
    assert statuses == [400 if both else 200] * 12


def test_a_candidate_that_users_give_up_waiting_for_is_taken_back(
    baseline: StubUpstream, candidate: StubUpstream
) -> None:
    """They have less patience than the gateway: of a candidate that hangs, no other sign is ever seen."""
    candidate.behaviour.fault = "hang"
    settings = {
        **config(baseline, candidate, mode="candidate"),
        "guard": {"slow_first_byte_s": 0.05, "min_answers": 3},
    }
    with GatewayUnderTest(settings) as gateway:
        for _ in range(3):
            with pytest.raises(httpx.ReadTimeout):
                httpx.post(gateway.url + "/v1/chat/completions", json=CHAT, timeout=0.3)
        wait_until(lambda: bool(gateway.runtime.rollout.rollbacks), "the guard acts")
        assert gateway.runtime.rollout.rollbacks["support"].signal == "slow"
        assert served_by(gateway.url) == "baseline"


def test_a_changed_configuration_is_obeyed_and_a_bad_one_is_not(
    baseline: StubUpstream, candidate: StubUpstream, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """All of the new file or nothing; what is wrong is in the log, with the line."""
    path = tmp_path / "gateway.yaml"
    settings = config(baseline, candidate, mode="baseline")
    write(path, yaml.safe_dump(settings))
    with GatewayUnderTest(str(path)) as gateway:
        assert served_by(gateway.url) == "baseline"
        settings["routes"][0]["mode"] = "candidate"
        settings["routes"][0]["baseline"] = "gone"
        write(path, yaml.safe_dump(settings))
        wait_until(lambda: gateway.runtime.config_error is not None, "the error is noticed")
        assert served_by(gateway.url) == "baseline"
        assert "there is no server 'gone'; use one of bf16, int4" in caplog.text
        settings["routes"][0]["baseline"] = "bf16"
        write(path, yaml.safe_dump(settings))
        wait_until(lambda: served_by(gateway.url) == "candidate", "the new file is in force")
        assert gateway.runtime.config_error is None


def test_a_configuration_that_changes_before_the_first_request_is_obeyed(
    baseline: StubUpstream, candidate: StubUpstream, tmp_path: Path
) -> None:
    """A gateway that is mounted in an application starts with its first request, which may be late."""
    path = tmp_path / "gateway.yaml"
    settings = config(baseline, candidate, mode="baseline")
    write(path, yaml.safe_dump(settings))
    waiting = GatewayUnderTest(str(path))
    settings["routes"][0]["mode"] = "candidate"
    write(path, yaml.safe_dump(settings))
    with waiting as gateway:
        wait_until(lambda: served_by(gateway.url) == "candidate", "the new file is in force")


def test_a_request_whose_body_arrives_while_the_configuration_changes_keeps_the_old_one(
    baseline: StubUpstream, candidate: StubUpstream, tmp_path: Path
) -> None:
    """Its servers may have other names by then; and what it is served by says nothing of the requests after it."""
    path = tmp_path / "gateway.yaml"
    settings = config(baseline, candidate, mode="mirror")
    write(path, yaml.safe_dump(settings))
    body = json.dumps(CHAT).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: {len(body)}\r\n\r\n".encode()
    with GatewayUnderTest(str(path)) as gateway:
        assert served_by(gateway.url) == "baseline"
        with socket.create_connection(("127.0.0.1", int(gateway.url.rpartition(":")[2]))) as connection:
            connection.sendall(head + body[:5])
            wait_until(lambda: gateway.under_way == 1, "the request has begun")
            settings["servers"] = {"one": {"url": baseline.url}, "two": {"url": candidate.url}}
            settings["routes"][0].update(baseline="one", candidate="two", mode="candidate")
            write(path, yaml.safe_dump(settings))
            wait_until(lambda: "one" in gateway.runtime.config.servers, "the new file is in force")
            connection.sendall(body[5:])
            assert connection.recv(65536).startswith(b"HTTP/1.1 200")
        gateway.settled()
        assert gateway.runtime.shift(gateway.runtime.config.routes[0]) is not None
        assert served_by(gateway.url) == "candidate"


def test_a_pipe_in_place_of_the_configuration_holds_nobody_up(
    baseline: StubUpstream, candidate: StubUpstream, tmp_path: Path
) -> None:
    """Nobody writes to it: the gateway says so, and goes on with the configuration that it has."""
    path, pipe = tmp_path / "gateway.yaml", tmp_path / "pipe"
    write(path, yaml.safe_dump(config(baseline, candidate, mode="baseline")))
    os.mkfifo(pipe)
    with GatewayUnderTest(str(path)) as gateway:
        pipe.replace(path)
        wait_until(lambda: gateway.runtime.config_error is not None, "the pipe is noticed")

        assert "it is no regular file" in str(gateway.runtime.config_error)
        assert served_by(gateway.url) == "baseline"


def test_what_needs_a_restart_stays_as_it_was_until_then(
    baseline: StubUpstream, candidate: StubUpstream, tmp_path: Path
) -> None:
    """The decision file that was named at the start is the one that is obeyed, and callers are as trusted as then."""
    path, old, new = (tmp_path / name for name in ("gateway.yaml", "old.json", "new.json"))
    old.write_text(decision(action="keep_mirroring"))
    new.write_text(decision(action="promote"))
    settings = {**config(baseline, candidate), "decision_file": str(old)}
    write(path, yaml.safe_dump(settings))
    with GatewayUnderTest(str(path)) as gateway:
        assert served_by(gateway.url) == "baseline"
        settings |= {"decision_file": str(new), "trust_callers": False, "limits": {"max_body_bytes": 10_000}}
        write(path, yaml.safe_dump(settings))
        wait_until(lambda: gateway.runtime.config.limits.max_body_bytes == 10_000, "the new file is in force")
        write(old, decision(action="fallback"))
        wait_until(lambda: "fallback" in str(gateway.runtime.decision), "the decision is obeyed", 1.0)
        assert served_by(gateway.url, **{"x-agent-step": "plan"}) == "baseline"
    assert baseline.seen[-1].header("x-agent-step") == "plan"


def test_a_rollback_ends_when_the_configuration_says_something_else(
    baseline: StubUpstream, candidate: StubUpstream, tmp_path: Path
) -> None:
    """An operator who takes the candidate out, and later puts it in again as it was, has decided so."""
    path, kept = tmp_path / "gateway.yaml", tmp_path / "rollbacks.json"
    settings = {**config(baseline, candidate, mode="candidate"), "guard": {"min_answers": 3, "file": str(kept)}}

    def mode() -> Mode:
        [route] = gateway.runtime.config.routes
        return gateway.runtime.serving(route).mode

    def take(asked: str) -> None:
        settings["routes"][0]["mode"] = asked
        write(path, yaml.safe_dump(settings))

    take("candidate")
    candidate.behaviour.fault = "500"
    with GatewayUnderTest(str(path)) as gateway:
        for _ in range(3):
            assert served_by(gateway.url) == "baseline"
        assert mode() is Mode.MIRROR
        settings["routes"][0]["intent"] = "billing"
        take("candidate")
        wait_until(lambda: gateway.runtime.config.routes[0].intent == "billing", "the file is in force")
        assert mode() is Mode.MIRROR
        take("baseline")
        wait_until(lambda: mode() is Mode.BASELINE, "the candidate is out")
        take("candidate")
        wait_until(lambda: mode() is Mode.CANDIDATE, "the candidate is in again")
    assert json.loads(kept.read_text()) == []


def test_requests_find_their_route(baseline: StubUpstream, candidate: StubUpstream) -> None:
    """By model, path, header and metadata; the first match counts; no match is the user's error."""
    matches = [{"model": "m1"}, {"path": "/v1/embeddings"}, {"header": {"X-Team": "a"}}, {"metadata": {"route": "z"}}]
    settings = config(baseline, candidate)
    settings["routes"] = [{"name": f"r{i}", "baseline": "bf16", "match": match} for i, match in enumerate(matches)]
    asked: list[tuple[str, dict[str, Any], dict[str, str]]] = [
        ("/v1/chat/completions", {**CHAT, "model": "m1"}, {}),
        ("/v1/embeddings", {"model": "e", "input": "x"}, {}),
        ("/v1/chat/completions", CHAT, {"x-team": "a"}),
        ("/v1/chat/completions", {**CHAT, "metadata": {"route": "z"}}, {}),
    ]
    with GatewayUnderTest(settings) as gateway:
        for path, body, headers in asked:
            assert httpx.post(gateway.url + path, json=body, headers=headers).status_code == 200
        assert httpx.post(gateway.url + "/v1/chat/completions", json=CHAT).status_code == 404
        routes = [s.attributes.get("route") for s in gateway.spans(at_least=9) if s.kind.name == "SERVER"]
    assert routes == ["r0", "r1", "r2", "r3", None]


def test_the_program_keeps_its_books_through_kill_9(
    baseline: StubUpstream, candidate: StubUpstream, tmp_path: Path
) -> None:
    """The command serves, its admin port shows the books, and what was in flight at ``kill -9`` is counted after."""
    candidate.behaviour.fault = "hang"
    books = tmp_path / "books"
    listen, admin = (f"127.0.0.1:{free_port()}" for _ in range(2))
    path = tmp_path / "gateway.yaml"
    settings = {**config(baseline, candidate), "listen": listen, "admin": admin, "books": str(books)}
    path.write_text(yaml.safe_dump(settings))
    process = program(path)
    try:
        wait_until(lambda: is_up(f"http://{admin}/healthz") and is_up(f"http://{listen}/health"), "the program serves")
        assert [served_by(f"http://{listen}") for _ in range(5)] == ["baseline"] * 5
        [shown] = httpx.get(f"http://{admin}/books").json()
        assert (shown["sampled"], shown["in_flight"], shown["difference"]) == (5, 5, 0)
        scraped = httpx.get(f"http://{admin}/metrics").text
        assert 'traceai_mirror_requests_total{route="support",target="candidate",outcome="sampled"} 5' in scraped
        assert 'traceai_mirror_in_flight{route="support",target="candidate"} 5' in scraped
        assert httpx.get(f"http://{listen}/books").status_code == 404
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    after = Books(books)
    balance = after.balances()["support", "candidate"]
    after.close()
    assert (balance.sampled, balance.dropped, balance.difference) == (5, {"killed": 5}, 0)


def test_the_program_ends_on_a_signal_and_settles_its_books(
    baseline: StubUpstream, candidate: StubUpstream, tmp_path: Path
) -> None:
    """SIGTERM: exit code 0, and what was in flight is booked as dropped at shutdown. Its log began with where it is."""
    candidate.behaviour.fault = "hang"
    books, listen, log = tmp_path / "books", f"127.0.0.1:{free_port()}", tmp_path / "log"
    path = tmp_path / "gateway.yaml"
    path.write_text(yaml.safe_dump({**config(baseline, candidate), "listen": listen, "books": str(books)}))
    process = program(path, log)
    try:
        wait_until(lambda: is_up(f"http://{listen}/health"), "the program serves")
        assert served_by(f"http://{listen}") == "baseline"
        started = time.monotonic()
        process.terminate()
        process.wait(20)
        assert time.monotonic() - started < 10
    finally:
        process.kill()
    assert process.returncode == 0
    assert f"gateway.yaml is in force: users are answered at http://{listen}\n" in log.read_text()
    after = Books(books)
    assert after.balances()["support", "candidate"].dropped == {"shutdown": 1}
    after.close()


def test_an_answer_that_the_end_of_the_gateway_cuts_off_is_no_error_of_its_server(
    baseline: StubUpstream, candidate: StubUpstream
) -> None:
    """Where the copy had been answered: it is booked as dropped at shutdown, as the copies that are under way are."""
    baseline.behaviour.fault = "hang"
    with GatewayUnderTest(config(baseline, candidate)) as gateway, ThreadPoolExecutor(1) as users:
        url = gateway.url + "/v1/chat/completions"
        users.submit(httpx.post, url, json=CHAT, timeout=DEADLINE_S)
        wait_until(lambda: bool(candidate.seen) and gateway.runtime.mirror.running == 0, "the copy is answered")
        gateway.stop_now()
    balance = gateway.balance()
    assert (balance.sampled, balance.primary_error, balance.dropped) == (1, 0, {"shutdown": 1})


def test_a_hangup_reads_the_configuration_again_and_ends_nothing(
    baseline: StubUpstream, candidate: StubUpstream, tmp_path: Path
) -> None:
    """SIGHUP, as operators send it to other servers: it would end the program, and answers that users are getting."""
    listen, path, log = f"127.0.0.1:{free_port()}", tmp_path / "gateway.yaml", tmp_path / "log"
    path.write_text(yaml.safe_dump({**config(baseline, candidate), "listen": listen}))
    process = program(path, log)
    try:
        wait_until(lambda: is_up(f"http://{listen}/health"), "the program serves")
        process.send_signal(signal.SIGHUP)
        wait_until(lambda: "gateway.yaml is in force\n" in log.read_text(), "it is read again")
        assert served_by(f"http://{listen}") == "baseline"
        process.terminate()
        assert process.wait(20) == 0
    finally:
        process.kill()


@pytest.mark.parametrize("busy", ["listen", "admin"])
def test_the_program_says_which_port_it_cannot_have(
    baseline: StubUpstream, candidate: StubUpstream, tmp_path: Path, busy: str
) -> None:
    """In one line, before it serves anybody at the other."""
    path = tmp_path / "gateway.yaml"
    with socket.create_server(("127.0.0.1", 0)) as other:
        places = {name: f"127.0.0.1:{free_port()}" for name in ("listen", "admin")}
        places[busy] = f"127.0.0.1:{other.getsockname()[1]}"
        path.write_text(yaml.safe_dump({**config(baseline, candidate), **places}))
        done = subprocess.run(
            [sys.executable, "-m", "traceai_vllm.cli", "gateway", "--config", str(path)],
            env={**os.environ, "OTEL_SDK_DISABLED": "true"},
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert done.returncode == 2
    assert done.stderr.startswith(f"nobody can be served at {places[busy]}: Address already in use")
    assert len(done.stderr.splitlines()) == 1


def program(config: Path, log: Path | None = None) -> subprocess.Popen[bytes]:
    """Start `traceai-vllm gateway`; what it logs goes to a file, or where the tests' own output goes."""
    command = [sys.executable, "-m", "traceai_vllm.cli", "gateway", "--config", str(config)]
    environment = {**os.environ, "OTEL_SDK_DISABLED": "true"}
    if log is None:
        return subprocess.Popen(command, env=environment)
    with log.open("wb") as output:
        return subprocess.Popen(command, env=environment, stderr=output)


def is_up(url: str) -> bool:
    try:
        return httpx.get(url).status_code == 200
    except httpx.TransportError:
        return False
