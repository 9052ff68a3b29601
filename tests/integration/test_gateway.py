"""The gateway on real sockets: what users get, what servers get, what is recorded of both."""

from __future__ import annotations

import itertools
import json
import socketserver
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

from tests.support.gateway import GatewayUnderTest, wait_until
from tests.support.stub_upstream import LINGER, StubUpstream
from traceai_vllm.gateway import proxy
from traceai_vllm.release import compare, open_source, parse_policy
from traceai_vllm.store import SpanStoreExporter

TOOLS = [{"type": "function", "function": {"name": "look_up", "parameters": {"type": "object"}}}]


def config(baseline: StubUpstream, candidate: StubUpstream, **route: Any) -> dict[str, Any]:
    return {
        "servers": {
            "bf16": {"url": baseline.url, "model_variant": "m-bf16", "quantization_format": "bf16"},
            "int4": {"url": candidate.url, "model_variant": "m-int4", "quantization_format": "int4"},
        },
        "routes": [{"name": "support", "baseline": "bf16", "candidate": "int4", "prompt_version": "v3", **route}],
    }


@pytest.fixture
def gateway(baseline: StubUpstream, candidate: StubUpstream) -> Iterator[GatewayUnderTest]:
    with GatewayUnderTest(config(baseline, candidate)) as gateway:
        yield gateway


def chat(stream: bool = True, **more: Any) -> dict[str, Any]:
    return {"model": "m", "messages": [{"role": "user", "content": "hi"}], "stream": stream, "temperature": 0, **more}


def test_a_streamed_chat_is_answered_by_the_baseline_and_captured_on_both_arms(
    gateway: GatewayUnderTest, baseline: StubUpstream, candidate: StubUpstream
) -> None:
    """The user gets the baseline's bytes; a trace has SERVER and a CLIENT span for each arm; the books have a pair."""
    direct = httpx.post(baseline.url + "/v1/chat/completions", json=chat())

    through = httpx.post(gateway.url + "/v1/chat/completions", json=chat())

    assert (through.status_code, through.content) == (200, direct.content)
    gateway.settled()
    spans = gateway.spans(at_least=3)
    [server] = [span for span in spans if span.kind.name == "SERVER"]
    arms = {span.attributes["traceai.pair.arm"]: span for span in spans if span.kind.name == "CLIENT"}
    assert {span.context.trace_id for span in spans} == {server.context.trace_id}
    assert through.headers["x-trace-id"] == f"{server.context.trace_id:032x}"
    assert set(arms) == {"baseline", "candidate"}
    for arm, variant, number_format in (("baseline", "m-bf16", "bf16"), ("candidate", "m-int4", "int4")):
        attributes = arms[arm].attributes
        assert arms[arm].parent.span_id == server.context.span_id
        assert attributes["traceai.pair.id"] == server.attributes["traceai.pair.id"]
        assert (attributes["model_variant"], attributes["quantization_format"]) == (variant, number_format)
        assert (attributes["route"], attributes["prompt_version"]) == ("support", "v3")
        assert attributes["gen_ai.response.finish_reasons"] == ("stop",)
        assert attributes["gen_ai.latency.time_to_first_token"] > 0
        assert attributes["gen_ai.request.temperature"] == 0.0
        assert attributes["gen_ai.request.stream"] is True
    assert (
        arms["baseline"].attributes["traceai.pair.prompt_hash"]
        == arms["candidate"].attributes["traceai.pair.prompt_hash"]
    )
    assert arms["candidate"].attributes["traceai.pair.same_answer"] is True
    assert arms["candidate"].attributes["traceai.pair.outcome"] == "paired"
    balance = gateway.balance()
    assert (balance.sampled, balance.paired, balance.difference) == (1, 1, 0)
    for stub, arm in ((baseline, "baseline"), (candidate, "candidate")):
        seen = stub.seen[-1]
        assert seen.body == json.dumps(chat(), separators=(",", ":")).encode() or seen.json() == chat()
        assert seen.header("x-route") == "support"
        assert seen.header("traceparent").split("-")[2] == f"{arms[arm].context.span_id:016x}"
    assert baseline.seen[-1].header("x-request-id") == candidate.seen[-1].header("x-request-id")


def test_a_client_that_hangs_up_cancels_the_servers_work(
    gateway: GatewayUnderTest, baseline: StubUpstream, candidate: StubUpstream
) -> None:
    """Both servers see their connection close, and the pair is booked as dropped."""
    baseline.behaviour.gap_s = candidate.behaviour.gap_s = 0.05
    baseline.behaviour.tokens = candidate.behaviour.tokens = 10_000
    with httpx.stream("POST", gateway.url + "/v1/chat/completions", json=chat()) as response:
        next(response.iter_raw())

    wait_until(lambda: bool(baseline.seen) and baseline.seen[0].cancelled, "the baseline's work is cancelled")
    wait_until(lambda: bool(candidate.seen) and candidate.seen[0].cancelled, "the candidate's work is cancelled")
    gateway.settled()
    assert gateway.balance().dropped == {"client_disconnected": 1}
    [server] = [span for span in gateway.spans(at_least=3) if span.kind.name == "SERVER"]
    assert server.attributes["error.type"] == "cancelled"


def test_a_client_that_hangs_up_after_the_last_event_was_answered(
    gateway: GatewayUnderTest, baseline: StubUpstream
) -> None:
    """Many clients close as soon as they have read ``[DONE]``: that is a pair as any other, and no error."""
    baseline.behaviour.fault = LINGER
    with httpx.stream("POST", gateway.url + "/v1/chat/completions", json=chat()) as response:
        assert "data: [DONE]" in response.iter_lines()

    spans = gateway.spans(at_least=3)  # the copy leaves when the gateway has noticed that the client has
    gateway.settled()
    balance = gateway.balance()
    assert (balance.paired, balance.dropped) == (1, {})
    assert not any("error.type" in span.attributes for span in spans)
    [baselines] = [span for span in spans if span.attributes.get("traceai.pair.arm") == "baseline"]
    assert baselines.attributes["gen_ai.response.finish_reasons"] == ("stop",)


def test_both_arms_times_are_measured(gateway: GatewayUnderTest, candidate: StubUpstream) -> None:
    """The GenAI conventions' client metrics, by arm and variant; errors are told apart, and callers add few series."""
    headers = {"x-traffic-cohort": "eu", "x-request-id": "r1"}
    httpx.post(gateway.url + "/v1/chat/completions", json=chat(), headers=headers)
    gateway.settled()
    candidate.behaviour.fault = "500"
    httpx.post(gateway.url + "/v1/chat/completions", json=chat(stream=False), headers=headers)
    gateway.settled()

    durations = gateway.measured("gen_ai.client.operation.duration")
    of_arms = {(p.attributes["traceai.pair.arm"], p.attributes.get("error.type")): p for p in durations}
    assert {arm: point.count for arm, point in of_arms.items()} == {
        ("baseline", None): 2,
        ("candidate", None): 1,
        ("candidate", "500"): 1,
    }
    assert dict(of_arms["candidate", None].attributes) == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "vllm",
        "gen_ai.request.model": "m",
        "model_variant": "m-int4",
        "quantization_format": "int4",
        "route": "support",
        "traffic_cohort": "eu",
        "traceai.pair.arm": "candidate",
    }
    first = gateway.measured("gen_ai.client.operation.time_to_first_chunk")
    assert {point.attributes["traceai.pair.arm"]: point.count for point in first} == {"baseline": 1, "candidate": 1}
    assert all(point.sum > 0 for point in (*durations, *first))


def test_a_wall_clock_that_is_set_back_makes_no_answer_end_before_it_began(
    gateway: GatewayUnderTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Time is set while requests are under way; how long they took is taken by a clock that is not."""
    moments = itertools.count(time.time_ns(), -1_000_000_000)
    monkeypatch.setattr(proxy, "time", SimpleNamespace(time_ns=moments.__next__, perf_counter_ns=time.perf_counter_ns))

    httpx.post(gateway.url + "/v1/chat/completions", json=chat())

    gateway.settled()
    [server] = [span for span in gateway.spans(at_least=3) if span.kind.name == "SERVER"]
    assert server.end_time > server.start_time


def test_a_whole_answer_has_no_first_token(gateway: GatewayUnderTest, tmp_path: Path) -> None:
    """It comes when it is done: its first byte is no first token, and no time between tokens can be told."""
    for number, stream in enumerate((True, False, False)):
        asked = chat(stream=stream) | ({"stream_options": {"include_usage": True}} if stream else {})
        httpx.post(gateway.url + "/v1/chat/completions", json=asked, headers={"x-request-id": f"r{number}"})
        gateway.settled()
    exporter = SpanStoreExporter(tmp_path)
    exporter.export(gateway.spans(at_least=9))
    exporter.shutdown()
    comparison = compare(open_source(tmp_path), parse_policy("version: 1\nmeasures: {latency.p50: {margin: 0.1}}\n"))

    seen = {name: comparison.cell((), f"{name}.p50").evidence.pairs for name in ("latency", "time_to_first_token")}
    assert seen == {"latency": 3, "time_to_first_token": 1}
    assert comparison.cell((), "inter_token.p50").evidence.pairs <= 1


DIALECTS = {
    "chat": ("/v1/chat/completions", chat()),
    "chat, whole": ("/v1/chat/completions", chat(stream=False)),
    "tools": ("/v1/chat/completions", chat(tools=TOOLS)),
    "completions": ("/v1/completions", {"model": "m", "prompt": "hi", "stream": True}),
    "completions, whole": ("/v1/completions", {"model": "m", "prompt": "hi"}),
    "responses": ("/v1/responses", {"model": "m", "input": "hi", "stream": True}),
    "responses, whole": ("/v1/responses", {"model": "m", "input": "hi"}),
    "messages": ("/v1/messages", {**chat(), "max_tokens": 5}),
    "messages, whole": ("/v1/messages", {**chat(stream=False), "max_tokens": 5}),
    "embeddings": ("/v1/embeddings", {"model": "m", "input": "hi"}),
}


@pytest.mark.parametrize("dialect", DIALECTS)
def test_every_dialect_is_passed_on_and_paired(gateway: GatewayUnderTest, baseline: StubUpstream, dialect: str) -> None:
    """Byte-equal answers, and both arms are read: why they ended, tokens where the server counts them, tools."""
    path, body = DIALECTS[dialect]
    direct = httpx.post(baseline.url + path, json=body)

    through = httpx.post(gateway.url + path, json=body)

    assert through.content == direct.content
    assert through.headers["x-stub"] == "1"
    gateway.settled()
    assert gateway.balance().paired == 1
    for span in gateway.spans(at_least=3):
        if span.kind.name == "CLIENT" and dialect != "embeddings":
            assert span.attributes["gen_ai.response.finish_reasons"]
            if "whole" in dialect:
                assert span.attributes["gen_ai.usage.input_tokens"] == 5
            if dialect == "tools":
                assert span.attributes["traceai.response.tool_names"] == ("look_up",)


def test_a_different_answer_is_told_from_the_same(
    gateway: GatewayUnderTest, baseline: StubUpstream, candidate: StubUpstream
) -> None:
    """The candidate's span says whether its answer is the baseline's, and after how many words it is another."""
    candidate.behaviour.variant = "x"

    httpx.post(gateway.url + "/v1/chat/completions", json=chat())

    gateway.settled()
    [copy] = [span.attributes for span in gateway.spans(3) if "traceai.pair.outcome" in span.attributes]
    assert copy["traceai.pair.same_answer"] is False
    assert copy["traceai.pair.first_divergence"] >= 0


def test_an_answers_tokens_have_a_price(baseline: StubUpstream, candidate: StubUpstream) -> None:
    """An arm's span has the cost of its tokens where its server has a price, and none where nobody told one."""
    priced = config(baseline, candidate)
    priced["servers"]["int4"]["price"] = {"input_per_million": 2.0, "output_per_million": 10.0}
    candidate.behaviour.tokens = 7
    with GatewayUnderTest(priced) as gateway:
        httpx.post(gateway.url + "/v1/chat/completions", json=chat(stream=False))
        gateway.settled()
        spans = [span.attributes for span in gateway.spans(3)]

    cost = {span.get("traceai.pair.arm"): span.get("traceai.cost.usd") for span in spans}
    assert cost == {None: None, "baseline": None, "candidate": pytest.approx(5 * 2e-6 + 7 * 10e-6)}


def test_the_noise_floor_repeats_requests_on_the_baseline(baseline: StubUpstream, candidate: StubUpstream) -> None:
    """A share of the mirrored requests has a third arm, with books of its own."""
    with GatewayUnderTest(config(baseline, candidate, noise_floor=1.0)) as gateway:
        httpx.post(gateway.url + "/v1/chat/completions", json=chat(), headers={"x-request-id": "r1"})
        gateway.settled()
        arms = {span.attributes.get("traceai.pair.arm") for span in gateway.spans(at_least=4)}
        repeated, mirrored = gateway.balance("baseline_repeat"), gateway.balance("candidate")
    assert arms == {None, "baseline", "candidate", "baseline_repeat"}
    assert (repeated.sampled, repeated.paired, mirrored.paired) == (1, 1, 1)
    assert (len(baseline.seen), len(candidate.seen)) == (2, 1)
    # The original may still run there when the same id comes again.
    assert [seen.header("x-request-id") for seen in (*baseline.seen, *candidate.seen)] == ["r1", "r1-repeat", "r1"]


def test_copies_lose_what_does_something_beside_answering(
    gateway: GatewayUnderTest, baseline: StubUpstream, candidate: StubUpstream
) -> None:
    """Fields and headers on the lists are stripped from copies, and from copies only; all else is the same bytes."""
    body = '{"model":"m","messages":[{"role":"user","content":"1.0e0 \\u00e9"}],"store":true,"temperature":1.50}'

    httpx.post(gateway.url + "/v1/chat/completions", content=body, headers={"cookie": "a=b"})

    gateway.settled()
    assert baseline.seen[0].body == body.encode()
    assert candidate.seen[0].body == body.replace('"store":true,', "").encode()
    assert (baseline.seen[0].header("cookie"), candidate.seen[0].header("cookie")) == ("a=b", None)


@pytest.mark.parametrize("given", [{}, {"store": False}, {"store": True}])
def test_no_server_keeps_the_response_to_a_copy(
    gateway: GatewayUnderTest, candidate: StubUpstream, given: dict[str, Any]
) -> None:
    """Of the responses API, that is to be said: what its caller forbade the baseline, the candidate must not do."""
    httpx.post(gateway.url + "/v1/responses", json={"model": "m", "input": "hi", **given})
    gateway.settled()
    assert candidate.seen[0].json() == {"model": "m", "input": "hi", "store": False}


def test_headers_are_stripped_from_copies_in_whatever_case_they_are_written(
    baseline: StubUpstream, candidate: StubUpstream
) -> None:
    """A secret that an operator named must not reach the candidate."""
    settings = {**config(baseline, candidate), "mirror": {"strip_headers": ["Authorization", "X-Tenant"]}}
    headers = {"authorization": "Bearer secret", "x-tenant": "acme"}
    with GatewayUnderTest(settings) as gateway:
        httpx.post(gateway.url + "/v1/chat/completions", json=chat(), headers=headers)
        gateway.settled()
    got = [[seen[0].header(name) for name in headers] for seen in (baseline.seen, candidate.seen)]
    assert got == [["Bearer secret", "acme"], [None, None]]


def test_a_copy_that_is_not_the_same_question_is_flagged(baseline: StubUpstream, candidate: StubUpstream) -> None:
    """Where something that decides over the answer is stripped, or said to be: the span names it."""
    settings = {**config(baseline, candidate), "mirror": {"strip_fields": ["temperature", "store"]}}
    with GatewayUnderTest(settings) as gateway:
        httpx.post(gateway.url + "/v1/chat/completions", json=chat(store=True))
        gateway.settled()
        flagged = [s.attributes.get("traceai.pair.differing_fields") for s in gateway.spans(at_least=3)]
    assert [fields for fields in flagged if fields] == [("temperature",)]


def test_copies_that_wait_too_long_are_dropped(baseline: StubUpstream, candidate: StubUpstream) -> None:
    """A candidate that does not keep up gets what is recent; the rest is counted, with its reason."""
    candidate.behaviour.fault = "hang"
    limits = {"concurrency": 1, "queue": 10, "timeout_s": 2.0, "queue_timeout_s": 0.05}
    with GatewayUnderTest({**config(baseline, candidate), "mirror": limits}) as gateway:
        for _ in range(4):
            httpx.post(gateway.url + "/v1/chat/completions", json=chat())
        gateway.settled()
        balance = gateway.balance()
    assert balance.sampled == 4
    assert balance.candidate_error + balance.dropped["queue_timeout"] == 4


def test_a_user_who_hung_up_keeps_no_place_in_the_queue(baseline: StubUpstream, candidate: StubUpstream) -> None:
    """His copy is dropped while it waits, and the next one waits in its place."""
    candidate.behaviour.fault = "hang"
    url, limits = "/v1/chat/completions", {"concurrency": 1, "queue": 1}
    with GatewayUnderTest({**config(baseline, candidate), "mirror": limits}) as gateway:
        httpx.post(gateway.url + url, json=chat())
        baseline.behaviour.gap_s = 0.5
        with httpx.stream("POST", gateway.url + url, json=chat()) as answer:
            pieces = answer.iter_raw()
            next(pieces)
            wait_until(lambda: gateway.runtime.mirror.queued == 1, "the copy waits")
        wait_until(lambda: gateway.balance().dropped == {"client_disconnected": 1}, "the user has hung up")
        baseline.behaviour.gap_s = 0.0
        httpx.post(gateway.url + url, json=chat())
        assert gateway.runtime.mirror.queued == 1
        assert gateway.balance().dropped == {"client_disconnected": 1}


@pytest.mark.internal_errors_expected
def test_a_failure_of_ours_has_its_place_in_the_books(
    gateway: GatewayUnderTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing stays in flight for ever."""

    def broken(*_: Any) -> None:
        raise RuntimeError("broken")

    monkeypatch.setattr("traceai_vllm.gateway.copies._cannot_be_copied", broken)
    assert httpx.post(gateway.url + "/v1/chat/completions", json=chat()).status_code == 200
    gateway.settled()
    assert gateway.balance().dropped == {"internal_error": 1}


@pytest.mark.parametrize(
    ("more", "outcome"),
    [
        ({"id": ["x"], "choices": [{"index": 0, "message": {"content": "hi"}}]}, "paired"),
        ({"choices": [{"index": i, "message": {"content": "hi"}} for i in (0, "1")]}, "primary_error"),
        ({"choices": [{"index": 0, "message": {"tool_calls": [{"index": i} for i in (0, "1")]}}]}, "primary_error"),
    ],
)
def test_answers_of_the_wrong_shape_have_their_spans(
    baseline: StubUpstream, candidate: StubUpstream, more: dict[str, Any], outcome: str
) -> None:
    """All of them, whatever types a server puts where ids and numbers belong."""
    body = json.dumps({"model": "m", **more}).encode()
    head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(body)
    baseline.behaviour.raw = candidate.behaviour.raw = head + body
    with GatewayUnderTest(config(baseline, candidate)) as gateway:
        assert httpx.post(gateway.url + "/v1/chat/completions", json=chat(False)).content == body
        gateway.settled()
        outcomes = [span.attributes.get("traceai.pair.outcome") for span in gateway.spans(at_least=3)]
    assert sorted(map(str, outcomes)) == ["None", "None", outcome]


@pytest.mark.parametrize("stream", [True, False])
def test_a_copy_that_was_cut_off_before_the_user_had_his_answer_is_no_error(
    baseline: StubUpstream, candidate: StubUpstream, stream: bool
) -> None:
    """The baseline itself would not have held the mirror's limit: neither arm's copy is to be blamed for it."""
    baseline.behaviour.gap_s = candidate.behaviour.gap_s = 0.05
    settings = {**config(baseline, candidate, noise_floor=1.0), "mirror": {"timeout_s": 0.1}}
    with GatewayUnderTest(settings) as gateway:
        httpx.post(gateway.url + "/v1/chat/completions", json=chat(stream))
        gateway.settled()
        balances = [gateway.balance(target) for target in ("candidate", "baseline_repeat")]
        outcomes = [span.attributes.get("traceai.pair.outcome") for span in gateway.spans(at_least=4)]
    assert [balance.dropped for balance in balances] == [{"time_limit": 1}] * 2
    assert sorted(map(str, outcomes)) == ["None", "None", "dropped", "dropped"]


@pytest.mark.parametrize(
    ("path", "body", "reason"),
    [
        ("/v1/responses", {"model": "m", "input": "x", "tools": [{"type": "web_search"}]}, "server_tools"),
        ("/v1/responses", {"model": "m", "input": "x", "tools": [{"type": ["function"]}]}, "server_tools"),
        ("/v1/responses", {"model": "m", "input": "x", "background": True}, "background"),
        ("/v1/responses", {"model": "m", "input": "x", "previous_response_id": "resp_1"}, "server_state"),
        ("/v1/responses", {"model": "m", "input": "x", "conversation": {"id": "conv_1"}}, "server_state"),
    ],
)
def test_what_one_server_alone_is_to_do_is_not_asked_of_another(
    gateway: GatewayUnderTest, candidate: StubUpstream, path: str, body: dict[str, Any], reason: str
) -> None:
    """Requests that make the server itself act, or go on from what it has kept, are not mirrored; the books say why."""
    assert httpx.post(gateway.url + path, json=body).status_code == 200

    gateway.settled()
    assert gateway.balance().dropped == {reason: 1}
    assert candidate.seen == []


def test_hop_by_hop_headers_end_at_the_gateway(gateway: GatewayUnderTest, baseline: StubUpstream) -> None:
    """In both directions; others, the caller's key among them, pass."""
    headers = {
        "connection": "keep-alive, x-mine",
        "x-mine": "1",
        "te": "trailers",
        "proxy-authorization": "secret",
        "authorization": "Bearer k",
        "x-else": "é".encode(),
        "host": "users.example",
    }
    answer = httpx.post(gateway.url + "/v1/chat/completions", json=chat(), headers=headers)

    seen = dict(baseline.seen[0].headers)
    assert not seen.keys() & {"connection", "x-mine", "te", "proxy-authorization"}
    assert (seen["authorization"], seen["x-else"]) == ("Bearer k", "é".encode().decode("latin-1"))
    assert seen["host"] == baseline.url.removeprefix("http://")
    assert "connection" not in answer.headers


def test_a_body_of_16_mib_passes_and_a_longer_one_does_not(gateway: GatewayUnderTest, baseline: StubUpstream) -> None:
    """To the byte."""
    empty = json.dumps(chat(stream=False, pad="")).encode()
    limit = 16 * 1024 * 1024
    body = json.dumps(chat(stream=False, pad="x" * (limit - len(empty)))).encode()

    assert len(body) == limit
    assert httpx.post(gateway.url + "/v1/chat/completions", content=body, timeout=30).status_code == 200
    assert len(baseline.seen[-1].body) == limit
    refused = httpx.post(gateway.url + "/v1/chat/completions", content=body + b" ", timeout=30)
    assert (refused.status_code, refused.json()["error"]["type"]) == (413, "request_too_large")


@pytest.mark.parametrize("body", [b"[" * 100_000, b'{"a":' * 100_000, b"\xff\xfe", b"[]", b'"x"', b'{"model":1}', b""])
def test_a_body_that_cannot_be_read_is_the_servers_business(
    gateway: GatewayUnderTest, baseline: StubUpstream, body: bytes
) -> None:
    """Nested too deeply, or no JSON at all: passed on as it is, never mirrored blindly, and the gateway lives on."""
    baseline.behaviour.fault = "500"  # the stub would not survive reading it

    answer = httpx.post(gateway.url + "/v1/chat/completions", content=body)

    assert answer.status_code == 500
    assert baseline.seen[-1].body == body
    baseline.behaviour.fault = None
    assert httpx.post(gateway.url + "/v1/chat/completions", json=chat()).status_code == 200


def test_a_model_name_of_megabytes_is_cut_on_spans(gateway: GatewayUnderTest, baseline: StubUpstream) -> None:
    """They wait in the exporter's queue; the servers get it as it is."""
    name = "m" * 1_000_000
    assert httpx.post(gateway.url + "/v1/chat/completions", json=chat(model=name)).status_code == 200
    gateway.settled()
    assert sum(len(span.to_json()) for span in gateway.spans(at_least=3)) < 20_000
    assert baseline.seen[0].json()["model"] == name


@pytest.mark.parametrize("wrong", [{"stop": 5}, {"temperature": 10**400}, {"seed": 2**64 - 1}])
def test_a_parameter_that_no_span_can_hold_is_left_out(gateway: GatewayUnderTest, wrong: dict[str, Any]) -> None:
    """The span is there with all the others; whether the server takes it is its own business."""
    httpx.post(gateway.url + "/v1/chat/completions", json=chat(top_p=0.5, **wrong))

    gateway.settled()
    arms = [span.attributes for span in gateway.spans(at_least=3) if span.kind.name == "CLIENT"]
    assert [attributes["gen_ai.request.top_p"] for attributes in arms] == [0.5, 0.5]
    assert not any("stop" in key or attributes[key] in wrong.values() for attributes in arms for key in attributes)


def test_models_and_health_are_the_baselines(gateway: GatewayUnderTest, baseline: StubUpstream) -> None:
    """Passed on, without spans and without copies; other paths are not served."""
    assert httpx.get(gateway.url + "/v1/models").json()["data"][0]["id"] == "stub"
    assert httpx.get(gateway.url + "/health").status_code == 200
    assert httpx.get(gateway.url + "/metrics").status_code == 404
    assert httpx.post(gateway.url + "/v1/load_lora_adapter", json={}).status_code == 404
    assert gateway.spans() == []


@pytest.mark.parametrize(
    "head",
    [
        b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n",
        b"HTTP/1.1 999 Odd\r\ncontent-length: 2\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nx-a: b\x01c\r\ncontent-length: 2\r\n\r\n{}",
    ],
)
def test_what_cannot_be_passed_on_is_a_bad_gateway(
    gateway: GatewayUnderTest, baseline: StubUpstream, head: bytes
) -> None:
    """An answer that HTTP has no place for is an error that says so, and is no pair."""
    baseline.behaviour.raw = head
    answer = httpx.post(gateway.url + "/v1/chat/completions", json=chat())
    assert (answer.status_code, answer.json()["error"]["type"]) == (502, "upstream_error")
    gateway.settled()
    assert gateway.balance().primary_error == 1


def test_what_a_server_sends_unasked_is_nobodys_answer() -> None:
    """A second answer waits on the connection, where the next request would find it: another user's."""
    answer = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n"
    go_on, unasked = threading.Event(), threading.Event()

    class Talkative(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            while self.rfile.readline().strip():
                pass
            self.wfile.write(answer + b"asked")
            go_on.wait()
            self.wfile.write(answer + b"other")
            unasked.set()
            self.rfile.readline()

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Talkative) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever).start()
        url = f"http://127.0.0.1:{server.server_address[1]}"
        with GatewayUnderTest({"servers": {"a": {"url": url}}, "routes": [{"name": "r", "baseline": "a"}]}) as gateway:
            first = httpx.get(gateway.url + "/v1/models").text
            go_on.set()
            unasked.wait()
            second = httpx.get(gateway.url + "/v1/models").text
        server.shutdown()
    assert (first, second) == ("asked", "asked")


@pytest.mark.parametrize("status", [b"304 Not Modified", b"204 No Content"])
def test_an_answer_without_a_body_keeps_the_connection(
    gateway: GatewayUnderTest, baseline: StubUpstream, status: bytes
) -> None:
    """Also where the server tells the length of the body that it did not send."""
    baseline.behaviour.raw = b"HTTP/1.1 " + status + b'\r\netag: "1"\r\ncontent-length: 55\r\n\r\n'
    with httpx.Client() as client:
        answers = [client.get(gateway.url + "/v1/models") for _ in range(2)]
        ports = {answer.extensions["network_stream"].get_extra_info("client_addr") for answer in answers}
    assert [(answer.headers["etag"], answer.content) for answer in answers] == [('"1"', b"")] * 2
    assert len(ports) == 1


def test_a_server_with_a_key_of_its_own_never_gets_the_users(
    baseline: StubUpstream, candidate: StubUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A key from a file ends with its line; also when the key has gone from the environment, the user's stays here."""
    monkeypatch.setenv("SERVER_KEY", "servers-own\n")
    settings = config(baseline, candidate)
    settings["servers"]["int4"]["api_key_env"] = "SERVER_KEY"
    with GatewayUnderTest(settings) as gateway:
        for _ in range(2):
            headers = {"authorization": "Bearer users-own", "x-api-key": "users-own"}
            httpx.post(gateway.url + "/v1/chat/completions", json=chat(), headers=headers)
            gateway.settled()
            monkeypatch.delenv("SERVER_KEY", raising=False)
    assert [seen.header("authorization") for seen in baseline.seen] == ["Bearer users-own"] * 2
    assert [seen.header("authorization") for seen in candidate.seen] == ["Bearer servers-own", None]
    assert {seen.header("x-api-key") for seen in candidate.seen} == {None}


def test_keys_are_the_gateways_when_it_has_some(
    baseline: StubUpstream, candidate: StubUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a key of the gateway's nothing passes; callers' keys stay here, and servers get their own."""
    monkeypatch.setenv("GATEWAY_KEYS", "one, two")
    monkeypatch.setenv("SERVER_KEY", "servers-own")
    settings = {**config(baseline, candidate), "keys_env": "GATEWAY_KEYS"}
    settings["servers"]["bf16"]["api_key_env"] = "SERVER_KEY"
    with GatewayUnderTest(settings) as gateway:
        url = gateway.url + "/v1/chat/completions"
        for headers in ({}, {"authorization": "Bearer wrong"}, {"authorization": "one"}, {"x-api-key": ""}):
            assert httpx.post(url, json=chat(), headers=headers).status_code == 401
        for headers in ({"authorization": "Bearer two"}, {"x-api-key": "one"}):
            assert httpx.post(url, json=chat(), headers=headers).status_code == 200
        gateway.settled()
    assert {seen.header("authorization") for seen in baseline.seen} == {"Bearer servers-own"}
    assert {seen.header("authorization") for seen in candidate.seen} == {None}
    assert {seen.header("x-api-key") for seen in (*baseline.seen, *candidate.seen)} == {None}
