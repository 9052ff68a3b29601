"""What callers may do to the gateway: feedback on answers, and requests that mean no good."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.support.gateway import GatewayUnderTest
from tests.support.stub_upstream import StubUpstream

CHAT = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
KEY = {"authorization": "Bearer app"}


@pytest.fixture
def baseline() -> Iterator[StubUpstream]:
    with StubUpstream() as stub:
        yield stub


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
        (KEY, {"kind": "thumbs_up", "response_id": "r", "more": 1}, 400),
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
