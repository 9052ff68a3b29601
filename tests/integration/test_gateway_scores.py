"""Content and scores of both arms, kept off the users' path, and what they do to a candidate that answers users."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.gateway import GatewayUnderTest, wait_until
from tests.support.stub_upstream import StubUpstream
from traceai_vllm.gateway.options import Telemetry
from traceai_vllm.gateway.scoring import attach
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


def scored(gateway: GatewayUnderTest) -> None:
    attach(gateway.runtime, gateway.runtime.config.telemetry, gateway.provider)


def rows(store: Path, query: str) -> list[Any]:
    with connect(store) as connection:
        return connection.execute(query).fetchall()


@pytest.mark.parametrize(("content", "on_span"), [("SPAN_ONLY", True), ("SCORE_ONLY", False)])
def test_both_arms_are_scored_and_kept(stub: StubUpstream, tmp_path: Path, content: str, on_span: bool) -> None:
    """With content on spans, redacted, or seen by evaluators alone; users' answers have long been sent."""
    settings = config(stub, "mirror", content=content, evaluators=["JSONValidation"], store=str(tmp_path))
    with GatewayUnderTest(settings) as gateway:
        scored(gateway)
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


def test_without_being_asked_for_content_is_nowhere(stub: StubUpstream) -> None:
    """The default."""
    with GatewayUnderTest(config(stub, "mirror")) as gateway:
        httpx.post(gateway.url + "/v1/chat/completions", json=CHAT)
        gateway.settled()
        recorded = "".join(span.to_json() for span in gateway.spans(at_least=3))
    assert "be kind" not in recorded


def test_answers_that_fail_their_evaluation_take_the_candidate_back(stub: StubUpstream) -> None:
    """What users asked for was JSON, and the candidate writes something else."""
    with GatewayUnderTest(config(stub, "candidate", evaluators=["JSONValidation"])) as gateway:
        scored(gateway)
        for _ in range(4):
            httpx.post(gateway.url + "/v1/chat/completions", json=CHAT)
        wait_until(lambda: bool(gateway.runtime.rollout.rollbacks), "the guard acts")
        assert gateway.runtime.rollout.rollbacks["r"].signal == "failed_evaluations"
    gateway.provider.shutdown()


def test_an_evaluator_that_is_not_known_is_named() -> None:
    """With those that are."""
    with pytest.raises(ValueError, match=r"there is no evaluator 'Nonsense'; there are .*JSONValidation"):
        attach(None, Telemetry(evaluators=("Nonsense",)), None)  # type: ignore[arg-type]
