"""The gateway on real sockets: what users get, what servers get, what is recorded of both."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.support.gateway import GatewayUnderTest, wait_until
from tests.support.stub_upstream import StubUpstream

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
def baseline() -> Iterator[StubUpstream]:
    with StubUpstream() as stub:
        yield stub


@pytest.fixture
def candidate() -> Iterator[StubUpstream]:
    with StubUpstream() as stub:
        yield stub


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
