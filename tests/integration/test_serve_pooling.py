"""A pooling server: embeddings, scores, reranking, classification; and callers that are not trusted."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.integration.test_content import CANARY
from tests.support.api_server import SERVED_NAME, ApiServer, Call


@pytest.fixture(scope="module")
def server(one_layer_model: str) -> Iterator[ApiServer]:
    flags = ("--runner", "pooling", "--convert", "embed")
    with ApiServer.vllm(one_layer_model, *flags, TRACEAI_VLLM_ENABLED="1", TRACEAI_VLLM_TRUST_CALLERS="0") as server:
        yield server


@pytest.mark.parametrize(
    ("path", "body", "operation"),
    [
        ("/v1/embeddings", {"input": ["a", "b"]}, "embeddings"),
        ("/pooling", {"input": "a", "task": "embed"}, "embeddings"),
        ("/score", {"queries": "a", "documents": ["b", "c"]}, "score"),
        ("/v1/rerank", {"query": "a", "documents": ["b", "c"]}, "rerank"),
    ],
)
def test_each_endpoint_says_what_it_does(server: ApiServer, path: str, body: dict[str, Any], operation: str) -> None:
    """The trace is one of its own: what an untrusted caller says of trace and tags is not believed."""
    call = Call()
    before = len(server.receiver.spans())
    answer = httpx.post(
        server.base_url + path,
        json={"model": SERVED_NAME, **body},
        headers=call.headers(x_route="made-up", baggage="agent_step=x"),
        timeout=60,
    )
    assert answer.status_code == 200, answer.text
    new = server.wait_for(lambda spans: [s for s in spans[before:] if s.name == f"POST {path}"])
    (span,) = [s for s in new[before:] if s.name == f"POST {path}"]
    children = [s for s in new if s.parent_span_id == span.span_id]
    assert span.parent_span_id is None
    assert span.trace_id != call.trace_id
    assert children
    for engine in children:
        assert engine.attributes["gen_ai.operation.name"] == operation
        assert not {"route", "agent_step"} & {*engine.attributes}


def test_nothing_of_a_text_leaves_with_its_vector_or_score(server: ApiServer) -> None:
    """A canary in every field, in requests that are answered and in requests that are refused."""
    bodies: list[tuple[str, dict[str, Any]]] = [
        ("/v1/embeddings", {"input": [CANARY, "b"], "user": CANARY}),
        ("/v1/embeddings", {"messages": [{"role": "user", "content": CANARY}]}),
        ("/v1/embeddings", {"input": f"{CANARY} " * 2000}),
        ("/pooling", {"input": CANARY, "task": "embed"}),
        ("/pooling", {"input": CANARY, "task": CANARY}),
        ("/score", {"queries": CANARY, "documents": [CANARY, CANARY]}),
        ("/v1/rerank", {"query": CANARY, "documents": [CANARY, {"text": CANARY}]}),
    ]
    before = len(server.receiver.spans())
    answers = [
        httpx.post(server.base_url + path, json={"model": SERVED_NAME, **body}, timeout=60) for path, body in bodies
    ]
    assert {200, 400} <= {answer.status_code for answer in answers}
    server.wait_for(lambda spans: sum(span.kind == "SERVER" for span in spans[before:]) >= len(bodies))
    assert sum(span.kind == "SERVER" for span in server.receiver.spans()[before:]) == len(bodies)
    assert [request for request in server.exported() if CANARY.encode() in request] == []
