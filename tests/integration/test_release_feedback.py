"""Feedback that users give at the gateway reaches the release decision, by whoever answered them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
from opentelemetry.sdk.trace.export import SimpleSpanProcessor

from tests.support.gateway import GatewayUnderTest
from tests.support.stub_upstream import StubUpstream
from traceai_vllm.release import Comparison, Judgement, compare, open_source, parse_policy
from traceai_vllm.store import SpanStoreExporter

ANSWERS = 40
POLICY = "version: 1\nmeasures: {thumbs_down: {margin: 0.2}}\nguard: [all]\nlimits: {untagged: 1.0}\n"


def served(tmp_path: Path, mode: dict[str, Any]) -> tuple[Comparison, set[str]]:
    """Ask the gateway, and tell it, twice, what users think of each answer."""
    with StubUpstream(variant="-b") as baseline, StubUpstream(variant="-c") as candidate:
        settings = {
            "servers": {"one": {"url": baseline.url}, "two": {"url": candidate.url}},
            "routes": [{"name": "r", "baseline": "one", "candidate": "two", **mode}],
            "feedback": {"without_keys": True},
        }
        with GatewayUnderTest(settings) as gateway:
            gateway.provider.add_span_processor(SimpleSpanProcessor(SpanStoreExporter(tmp_path)))
            with httpx.Client(base_url=gateway.url) as client:
                arms = {_ask(client, candidate, number) for number in range(ANSWERS)}
            gateway.settled()
        gateway.provider.shutdown()
    return compare(open_source(tmp_path), parse_policy(POLICY)), arms


def _ask(client: httpx.Client, candidate: StubUpstream, number: int) -> str:
    asked = {"model": "m", "messages": [{"role": "user", "content": f"question {number}"}]}
    before = len(candidate.seen)
    answer = client.post("/v1/chat/completions", json=asked, headers={"x-session-id": str(number)})
    arm = "candidate" if len(candidate.seen) > before else "baseline"
    said = {"trace_id": answer.headers["x-trace-id"], "kind": "thumbs_down" if arm == "candidate" else "thumbs_up"}
    assert client.post("/v1/feedback", json=said).status_code == 202
    assert client.post("/v1/feedback", json=said).status_code == 200
    return arm


def test_a_canary_that_its_users_dislike_is_named(tmp_path: Path) -> None:
    """Thumbs down on all of the candidate's answers, none on the baseline's."""
    comparison, arms = served(tmp_path, {"mode": "canary", "share": 0.5, "sampling_rate": 0.0})

    assert arms == {"baseline", "candidate"}
    cell = comparison.cell((), "thumbs_down")
    assert cell is not None
    assert (cell.baseline, cell.candidate, cell.paired) == (0.0, 1.0, False)
    assert cell.verdict == "regressed"
    assert comparison.books.feedback["about no answer here"] == 0
    assert Judgement(comparison).action.value != "promote"
