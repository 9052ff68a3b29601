"""Content and scores of both arms, kept off the users' path, and what they do to a candidate that answers users."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from opentelemetry.trace import NoOpTracerProvider
from starlette.testclient import TestClient

from tests.support.gateway import GatewayUnderTest, wait_until
from tests.support.stub_upstream import StubUpstream
from traceai_vllm.gateway import GatewayConfig, create_admin_app, create_app
from traceai_vllm.store import connect

CHAT = {
    "model": "m",
    "messages": [{"role": "system", "content": "be kind"}, {"role": "user", "content": "mail ann@example.org"}],
    "response_format": {"type": "json_object"},
}
CANARY = "ann@example.org"


@pytest.fixture
def stub() -> Iterator[StubUpstream]:
    with StubUpstream() as stub:
        yield stub


def config(stub: StubUpstream, mode: str, **telemetry: Any) -> dict[str, Any]:
    return {
        "servers": {"one": {"url": stub.url}, "two": {"url": stub.url}},
        "routes": [{"name": "r", "baseline": "one", "candidate": "two", "mode": mode}],
        "telemetry": telemetry,
        "guard": {"min_answers": 3},
    }


def rows(store: Path, query: str) -> list[Any]:
    with connect(store) as connection:
        return connection.execute(query).fetchall()


@pytest.mark.parametrize(("content", "on_span"), [("SPAN_ONLY", True), ("SCORE_ONLY", False)])
def test_both_arms_are_scored_and_kept(stub: StubUpstream, tmp_path: Path, content: str, on_span: bool) -> None:
    """With content on spans, redacted, or seen by evaluators alone; users' answers have long been sent."""
    settings = config(stub, "mirror", content=content, evaluators=["JSONValidation"], store=str(tmp_path))
    with GatewayUnderTest(settings) as gateway:
        httpx.post(gateway.url + "/v1/chat/completions", json=CHAT)
        gateway.settled()
        gateway.provider.force_flush()
        spans = gateway.spans(at_least=3)
    gateway.provider.shutdown()
    key = "gen_ai.evaluation.JSONValidation"
    query = f"""SELECT attributes->>'traceai.pair.arm', attributes->>'{key}.score', attributes->>'{key}.passed'
        FROM spans WHERE kind = 'CLIENT' ORDER BY 1"""
    assert rows(tmp_path, query) == [("baseline", "0.0", "false"), ("candidate", "0.0", "false")]
    for span in spans:
        if span.kind.name == "CLIENT":
            assert ("gen_ai.output.messages" in span.attributes) is on_span
        if "gen_ai.input.messages" in (span.attributes or {}):
            asked = json.loads(span.attributes["gen_ai.input.messages"])
            assert [message["role"] for message in asked] == ["system", "user"]
    assert CANARY not in "".join(span.to_json() for span in spans)


@pytest.mark.parametrize("evaluators", [[], ["JSONValidation"]])
def test_operators_see_what_the_store_lost(stub: StubUpstream, tmp_path: Path, evaluators: list[str]) -> None:
    """A full disk, or a directory that is no longer one: the books say `paired`, and `compare` would find no pair."""
    store = tmp_path / "spans"
    settings = config(stub, "mirror", evaluators=evaluators, store=str(store))
    with GatewayUnderTest(settings) as gateway:
        for _ in range(2):
            httpx.post(gateway.url + "/v1/chat/completions", json=CHAT)
            gateway.settled()
            gateway.provider.force_flush()
            if store.is_dir():
                shutil.rmtree(store)
                store.write_text("in the way")
        with TestClient(create_admin_app(gateway.runtime)) as operators:
            status, metrics = operators.get("/status").json(), operators.get("/metrics").text
    gateway.provider.shutdown()
    assert (status["store"]["written"], status["store"]["failed"]) == (3, 3)
    assert 'traceai_gateway_store_spans_total{outcome="failed"} 3' in metrics
    points = {point.attributes["outcome"]: point.value for point in gateway.measured("traceai.gateway.store.spans")}
    assert points == {"written": 3, "failed": 3, "removed": 0}


def test_without_being_asked_for_content_is_nowhere(stub: StubUpstream) -> None:
    """The default."""
    with GatewayUnderTest(config(stub, "mirror")) as gateway:
        httpx.post(gateway.url + "/v1/chat/completions", json={**CHAT, "stop": ["a word of the user's"]})
        gateway.settled()
        recorded = "".join(span.to_json() for span in gateway.spans(at_least=3))
    assert "be kind" not in recorded
    assert "a word of the user's" not in recorded


def test_answers_that_fail_their_evaluation_take_the_candidate_back(stub: StubUpstream) -> None:
    """What users asked for was JSON, and the candidate writes something else."""
    with GatewayUnderTest(config(stub, "candidate", evaluators=["JSONValidation"])) as gateway:
        for _ in range(4):
            httpx.post(gateway.url + "/v1/chat/completions", json=CHAT)
        wait_until(lambda: bool(gateway.runtime.rollout.rollbacks), "the guard acts")
        assert gateway.runtime.rollout.rollbacks["r"].signal == "failed_evaluations"
    gateway.provider.shutdown()


def test_users_who_hang_up_do_not_take_the_candidate_back(stub: StubUpstream) -> None:
    """The half of an answer that they got fails its evaluation, and says nothing of the whole."""
    stub.behaviour.tokens, stub.behaviour.gap_s = 10_000, 0.01
    with GatewayUnderTest(config(stub, "candidate", evaluators=["JSONValidation"])) as gateway:
        for _ in range(4):
            with httpx.stream("POST", gateway.url + "/v1/chat/completions", json={**CHAT, "stream": True}) as response:
                next(response.iter_raw())
        gateway.spans(at_least=8)
        gateway.provider.force_flush()
        stub.behaviour.tokens, stub.behaviour.gap_s = 8, 0.0
        httpx.post(gateway.url + "/v1/chat/completions", json=CHAT)
        assert gateway.runtime.rollout.rollbacks == {}
    gateway.provider.shutdown()


def test_what_the_baseline_does_is_known_to_the_guard(stub: StubUpstream) -> None:
    """Its errors, and how its answers are scored: what a candidate will be compared with."""
    with GatewayUnderTest(config(stub, "mirror", evaluators=["JSONValidation"])) as gateway:
        known = gateway.runtime.rollout.of_the_baseline
        for _ in range(3):
            httpx.post(gateway.url + "/v1/chat/completions", json=CHAT)
        wait_until(lambda: known("r", "failed_evaluations") == (3, 3), "its evaluations are counted")
        stub.behaviour.fault = "500"
        httpx.post(gateway.url + "/v1/chat/completions", json=CHAT)
        stub.behaviour.fault = "400"  # the user's own fault
        httpx.post(gateway.url + "/v1/chat/completions", json=CHAT)
        wait_until(lambda: known("r", "errors") == (4, 1), "its errors are counted")
    gateway.provider.shutdown()


def test_an_evaluator_that_is_not_known_is_named(stub: StubUpstream) -> None:
    """With those that are."""
    settings = GatewayConfig.model_validate(config(stub, "mirror", evaluators=["Nonsense"]))
    with pytest.raises(ValueError, match=r"there is no evaluator 'Nonsense'; there are .*JSONValidation"):
        create_app(settings, tracer_provider=NoOpTracerProvider())
