"""A user's own FastAPI application on `AsyncLLMEngine`, with one line of ours: the example of the documentation."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.support.api_server import ApiServer, Call

APP = Path(__file__).parents[2] / "examples" / "serve" / "app.py"


@pytest.fixture(scope="module")
def server(one_layer_model: str) -> Iterator[ApiServer]:
    with ApiServer.command([sys.executable, str(APP), "--model", one_layer_model]) as server:
        yield server


def test_a_streamed_answer_is_a_server_span_with_the_engines_span_under_it(server: ApiServer) -> None:
    """The tags of the application's own code win over the caller's; what it does not say, the caller does."""
    call = Call()
    with httpx.stream(
        "POST",
        server.base_url + "/answer",
        json={"question": "How long?", "max_tokens": 5},
        headers=call.headers(x_route="made-up", x_agent_step="synthesis"),
        timeout=60,
    ) as response:
        text = "".join(response.iter_text())
    span, engine = server.pair(call)
    assert text
    assert (span.name, engine.name) == ("POST /answer", "text_completion faq-bot")
    assert (engine.attributes["route"], engine.attributes["agent_step"]) == ("faq", "synthesis")
    assert engine.attributes["gen_ai.usage.output_tokens"] == 5


def test_a_client_that_leaves_ends_both_spans(server: ApiServer) -> None:
    call = Call()
    with httpx.stream(
        "POST",
        server.base_url + "/answer",
        json={"question": "How long?", "max_tokens": 900},
        headers=call.headers(),
        timeout=60,
    ) as response:
        next(response.iter_raw())
    span, engine = server.pair(call)
    assert span.attributes["error.type"] == engine.attributes["error.type"] == "cancelled"


def test_a_refused_body_never_reaches_the_engine(server: ApiServer) -> None:
    call = Call()
    assert httpx.post(server.base_url + "/answer", json={}, headers=call.headers()).status_code == 422
    (span,) = server.trace(call, 1)
    assert span.attributes["http.status_code"] == 422
