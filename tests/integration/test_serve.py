"""`opentelemetry-instrument vllm serve ...`: what clients sent is what a receiver stored.

One server, with its engine in a process of its own, as users start it.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import psutil
import pytest

from tests.support.api_server import BIN, SERVED_NAME, ApiServer, Call

MESSAGES: Any = [{"role": "user", "content": "How long is the waiting period?"}]
CLIENT = Path(__file__).parents[2] / "examples" / "serve" / "client.py"
FIRST_CHUNK = "gen_ai.response.time_to_first_chunk"
SCHEMA = {
    "type": "object",
    "properties": {"days": {"type": "boolean"}},
    "required": ["days"],
    "additionalProperties": False,
}


@pytest.fixture(scope="module")
def server(one_layer_model: str) -> Iterator[ApiServer]:
    by = (str(BIN / "opentelemetry-instrument"),)
    flags = ("--enable-auto-tool-choice", "--tool-call-parser", "hermes")
    with ApiServer.vllm(one_layer_model, *flags, by=by) as server:
        yield server


def post(server: ApiServer, path: str, call: Call, **body: Any) -> httpx.Response:
    return httpx.post(server.base_url + path, json={"model": SERVED_NAME, **body}, headers=call.headers(), timeout=60)


def chat(server: ApiServer, call: Call, headers: dict[str, str] | None = None, **options: Any) -> Any:
    return server.client().chat.completions.create(
        model=SERVED_NAME,
        messages=MESSAGES,
        extra_headers=call.headers(**(headers or {})),
        **{"max_tokens": 4, **options},
    )


def test_a_chat_joins_the_callers_trace_with_its_tags_and_tokens(server: ApiServer) -> None:
    """Caller, SERVER span, engine span: and the tags that header, body and baggage gave, in this order."""
    call = Call()
    answer = chat(
        server,
        call,
        headers={"x_route": "support", "baggage": "prompt_version=v1,agent_step=plan,secret=x"},
        metadata={"route": "body", "prompt_version": "v3", "user": "u-1"},
    )
    span, engine = server.pair(call)
    assert (span.name, span.attributes["http.status_code"]) == ("POST /v1/chat/completions", 200)
    assert engine.name == f"chat {SERVED_NAME}"
    expected = {
        "gen_ai.operation.name": "chat",
        "gen_ai.response.id": answer.id,
        "gen_ai.usage.input_tokens": answer.usage.prompt_tokens,
        "gen_ai.usage.output_tokens": answer.usage.completion_tokens,
        "gen_ai.response.finish_reasons": [answer.choices[0].finish_reason],
        "gen_ai.request.stream": False,
        "quantization_format": "bf16",
        "route": "support",
        "prompt_version": "v3",
        "agent_step": "plan",
    }
    assert {key: engine.attributes.get(key) for key in expected} == expected
    assert not {"traffic_cohort", "user", "secret"} & {*engine.attributes, *span.attributes}


def test_a_stream_is_one_server_span_until_its_last_byte(server: ApiServer) -> None:
    """No span per chunk; the SERVER span ends after the engine's; the first chunk is on it."""
    call = Call()
    chunks = list(chat(server, call, stream=True, max_tokens=20, stream_options={"include_usage": True}))
    span, engine = server.pair(call)
    assert engine.attributes["gen_ai.request.stream"] is True
    assert engine.attributes["gen_ai.usage.output_tokens"] == chunks[-1].usage.completion_tokens
    assert span.end_time_unix_nano >= engine.end_time_unix_nano
    first = span.attributes[FIRST_CHUNK]
    assert engine.attributes["gen_ai.latency.time_to_first_token"] <= first
    assert first < (span.end_time_unix_nano - span.start_time_unix_nano) / 1e9


def test_completions_with_several_answers_and_logprobs(server: ApiServer) -> None:
    call = Call()
    answer = server.client().completions.create(
        model=SERVED_NAME, prompt="Once", n=3, logprobs=2, max_tokens=5, extra_headers=call.headers()
    )
    _, engine = server.pair(call)
    assert engine.attributes["gen_ai.operation.name"] == "text_completion"
    assert engine.attributes["gen_ai.request.choice.count"] == len(answer.choices) == 3
    assert engine.attributes["gen_ai.usage.output_tokens"] == answer.usage.completion_tokens
    assert len(engine.attributes["gen_ai.response.finish_reasons"]) == 3


def test_a_batch_of_prompts_is_one_server_span_with_an_engine_span_for_each(server: ApiServer) -> None:
    call = Call()
    prompts = ["One", "Two", "Three"]
    server.client().completions.create(model=SERVED_NAME, prompt=prompts, max_tokens=2, extra_headers=call.headers())
    span, *engine = server.trace(call, 4)
    assert span.kind == "SERVER"
    assert [child.parent_span_id for child in engine] == [span.span_id] * 3


@pytest.mark.parametrize("stream", [False, True])
def test_responses_and_their_metadata(server: ApiServer, stream: bool) -> None:
    """A streamed response calls the engine after its handler has returned: its operation and tags are there too."""
    call = Call()
    response = server.client().responses.create(
        model=SERVED_NAME,
        input="Hello",
        max_output_tokens=4,
        stream=stream,
        metadata={"agent_step": "synthesis"},
        extra_headers=call.headers(),
    )
    if stream:
        list(response)
    _, engine = server.pair(call)
    assert (engine.attributes["gen_ai.operation.name"], engine.attributes["agent_step"]) == ("chat", "synthesis")


@pytest.mark.parametrize("stream", [False, True])
def test_anthropic_messages(server: ApiServer, stream: bool) -> None:
    call = Call()
    answer = post(server, "/v1/messages", call, messages=MESSAGES, max_tokens=4, stream=stream)
    assert answer.status_code == 200, answer.text
    span, engine = server.pair(call)
    assert (span.name, engine.attributes["gen_ai.operation.name"]) == ("POST /v1/messages", "chat")


def test_structured_output_and_tools(server: ApiServer) -> None:
    call = Call()
    answer = chat(
        server,
        call,
        max_tokens=40,
        response_format={"type": "json_schema", "json_schema": {"name": "answer", "schema": SCHEMA}},
    )
    assert json.loads(answer.choices[0].message.content).keys() == {"days"}
    assert server.pair(call)[1].attributes["gen_ai.output.type"] == "json"

    call = Call()
    answer = chat(
        server,
        call,
        max_tokens=40,
        tools=[{"type": "function", "function": {"name": "lookup", "parameters": SCHEMA}}],
        tool_choice={"type": "function", "function": {"name": "lookup"}},
    )
    assert answer.choices[0].message.tool_calls[0].function.name == "lookup"
    _, engine = server.pair(call)
    assert engine.attributes["gen_ai.usage.output_tokens"] == answer.usage.completion_tokens


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/v1/chat/completions", {"model": "nobody", "messages": MESSAGES}, 404),
        ("/v1/chat/completions", {"messages": MESSAGES, "max_tokens": -1}, 400),
        ("/v1/chat/completions", {"messages": "nonsense"}, 400),
        ("/v1/completions", {"prompt": "word " * 5000}, 400),
        ("/v1/nowhere", {}, 404),
    ],
)
def test_a_request_that_is_refused_before_the_engine_has_a_server_span_alone(
    server: ApiServer, path: str, body: dict[str, Any], status: int
) -> None:
    call, after = Call(), Call()
    assert post(server, path, call, **body).status_code == status
    chat(server, after)
    server.pair(after)  # exported later than all of the refused request
    (span,) = server.trace(call, 1)
    assert (span.attributes["http.status_code"], span.status) == (status, "UNSET")


def test_a_client_that_leaves_in_mid_stream(server: ApiServer) -> None:
    """Both spans end, as cancelled, and the engine's says how far it came."""
    call = Call()
    stream = chat(server, call, stream=True, max_tokens=900, extra_body={"ignore_eos": True})
    next(iter(stream))
    stream.close()
    span, engine = server.pair(call)
    assert (engine.status, engine.attributes["error.type"]) == ("ERROR", "cancelled")
    assert engine.attributes["gen_ai.response.finish_reasons"] == ["abort"]
    assert 0 < engine.attributes["gen_ai.usage.output_tokens"] < 900
    assert (span.status, span.attributes["error.type"]) == ("ERROR", "cancelled")
    assert span.attributes[FIRST_CHUNK] > 0


def engine_core(server: ApiServer) -> psutil.Process:
    found = re.search(r"\(EngineCore pid=(\d+)\)", server.log.read_text(errors="replace"))
    assert found
    return psutil.Process(int(found[1]))


def test_a_client_that_leaves_before_the_answer(server: ApiServer) -> None:
    """The engine stands still meanwhile, so that there is no answer."""
    call, engine_process = Call(), engine_core(server)
    engine_process.suspend()
    try:
        with pytest.raises(openai.APITimeoutError):
            chat(server, call, timeout=1)
        span, engine = server.pair(call)
    finally:
        engine_process.resume()
    assert engine.attributes["error.type"] == span.attributes["error.type"] == "cancelled"


def test_32_requests_at_once_keep_their_own_tags_and_traces(server: ApiServer) -> None:
    calls = [Call() for _ in range(32)]

    async def ask(client: Any, number: int) -> Any:
        stream = number % 2 == 0
        answer = await client.chat.completions.create(
            model=SERVED_NAME,
            messages=[{"role": "user", "content": "word " * (number + 1)}],
            max_tokens=number + 1,
            extra_body={"ignore_eos": True},
            stream=stream,
            metadata={"prompt_version": f"v{number}"},
            extra_headers=calls[number].headers(x_agent_step=f"step-{number}"),
        )
        if stream:
            async for _ in answer:
                pass

    async def all_at_once() -> None:
        async with server.async_client() as client:
            await asyncio.gather(*(ask(client, number) for number in range(32)))

    asyncio.run(all_at_once())
    for number, call in enumerate(calls):
        _, engine = server.pair(call)
        assert engine.attributes["agent_step"] == f"step-{number}"
        assert engine.attributes["prompt_version"] == f"v{number}"
        assert engine.attributes["gen_ai.usage.output_tokens"] == number + 1
        assert engine.attributes["gen_ai.request.stream"] == (number % 2 == 0)


def test_health_checks_and_metrics_have_no_span(server: ApiServer) -> None:
    calls = [Call() for _ in range(4)]
    for call, path in zip(calls, ("/health", "/ping", "/metrics", "/version"), strict=True):
        assert httpx.get(server.base_url + path, headers=call.headers(), follow_redirects=True).status_code == 200
    after = Call()
    chat(server, after)
    server.pair(after)
    assert [server.trace(call, 0) for call in calls] == [[], [], [], []]


def test_every_request_is_measured_once(server: ApiServer) -> None:
    """A cohort of its own: seven requests, seven durations."""
    for _ in range(7):
        chat(server, Call(), headers={"x_traffic_cohort": "seven"})
    with server.receiver._received:
        name = "gen_ai.server.request.duration"
        server.receiver._received.wait_for(lambda: server.measured(name, "traffic_cohort").get("seven") == 7, 15)
    assert server.measured("gen_ai.server.request.duration", "traffic_cohort")["seven"] == 7


def test_the_example_client_is_one_trace_with_the_server(server: ApiServer) -> None:
    """Its own span, the SERVER span and the engine's, with the tags that it sent in a header and in the body."""
    command = [sys.executable, str(CLIENT), "--base-url", server.base_url + "/v1", "--model", SERVED_NAME]
    environment = {**os.environ, "OTEL_EXPORTER_OTLP_ENDPOINT": server.receiver.http_endpoint}
    output = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=60).stdout
    call = Call()
    call.trace_id = output.split()[-1]
    client, http, engine = server.trace(call, 3)
    assert (client.name, http.parent_span_id, engine.parent_span_id) == (
        "answer a customer",
        client.span_id,
        http.span_id,
    )
    sent = {"route": "support", "prompt_version": "v3", "agent_step": "synthesis"}
    assert {name: engine.attributes.get(name) for name in sent} == sent


def test_the_engine_dies(server: ApiServer) -> None:
    """The last test of this server: requests in flight end with the engine's error."""
    call, engine_process = Call(), engine_core(server)
    stream = chat(server, call, stream=True, n=32, max_tokens=900, extra_body={"ignore_eos": True})
    next(iter(stream))
    engine_process.kill()
    with pytest.raises((openai.APIError, httpx.HTTPError)):
        list(stream)
    spans = server.trace(call, 2)
    engine = next(span for span in spans if span.scope == "traceai_vllm")
    assert (engine.status, engine.attributes["error.type"]) == ("ERROR", "EngineDeadError")
