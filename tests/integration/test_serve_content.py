"""Content of requests to a real `vllm serve`: every API's messages, tools and answers with capture, nothing without."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.integration.test_content import CANARY, stored, text
from tests.support.api_server import SERVED_NAME, ApiServer, Call

FLAGS = ("--enable-auto-tool-choice", "--tool-call-parser", "hermes")
TOOL = {"name": "weather", "description": "Weather of a city", "parameters": {"type": "object"}}
INPUT, OUTPUT = "gen_ai.input.messages", "gen_ai.output.messages"
CALL_REGEX = r'<tool_call>\n\{"name": "weather", "arguments": \{"at": "(Paris|Rome)"\}\}\n</tool_call>'


@pytest.fixture(scope="module")
def server(one_layer_model: str) -> Iterator[ApiServer]:
    capture = {"OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT": "SPAN_AND_EVENT"}
    with ApiServer.vllm(one_layer_model, *FLAGS, TRACEAI_VLLM_ENABLED="1", **capture) as server:
        yield server


def post(server: ApiServer, path: str, call: Call, **body: Any) -> httpx.Response:
    return httpx.post(server.base_url + path, json={"model": SERVED_NAME, **body}, headers=call.headers(), timeout=60)


def said(server: ApiServer, call: Call) -> dict[str, Any]:
    """Return the engine span's content."""
    _, engine = server.pair(call)
    names = (
        INPUT,
        OUTPUT,
        "gen_ai.system_instructions",
        "gen_ai.tool.definitions",
        "traceai.tool_choice",
        "traceai.context",
    )
    return {name: json.loads(engine.attributes[name]) for name in names if name in engine.attributes}


def answer_of(content: dict[str, Any]) -> str:
    [message] = content[OUTPUT]
    return "".join(part["content"] for part in message["parts"])


def test_a_chat_with_documents_marked_context_and_tools(server: ApiServer) -> None:
    """The request as it was sent; the answer's tool call as one, as the client gets it."""
    call = Call()
    marked = {"type": "text", "text": "Paris is big.", "traceai": "context"}
    answer = server.client().chat.completions.create(
        model=SERVED_NAME,
        messages=[{"role": "system", "content": "Be brief."}, {"role": "user", "content": [marked]}],
        tools=[{"type": "function", "function": TOOL}],
        tool_choice="auto",
        max_tokens=60,
        extra_body={"documents": [{"title": "T", "text": "Rome is old."}], "structured_outputs": {"regex": CALL_REGEX}},
        extra_headers=call.headers(),
    )
    [made] = answer.choices[0].message.tool_calls
    content = said(server, call)
    assert content[INPUT] == [text("system", "Be brief."), text("user", "Paris is big.")]
    assert content["gen_ai.tool.definitions"] == [{"type": "function", **TOOL}]
    assert content["traceai.tool_choice"] == "auto"
    assert content["traceai.context"] == [
        {"source": "documents", "title": "T", "content": "Rome is old."},
        {"source": "message", "content": "Paris is big."},
    ]
    [message] = content[OUTPUT]
    assert message["finish_reason"] == "tool_call"
    [part] = message["parts"]
    assert (part["type"], part["name"]) == ("tool_call", made.function.name)
    assert part["arguments"] == json.loads(made.function.arguments)


def test_a_streamed_chat_has_its_whole_answer(server: ApiServer) -> None:
    call = Call()
    chunks = server.client().chat.completions.create(
        model=SERVED_NAME,
        messages=[{"role": "user", "content": "Hello"}],
        max_tokens=20,
        stream=True,
        extra_headers=call.headers(),
    )
    streamed = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    assert answer_of(said(server, call)) == streamed != ""


@pytest.mark.parametrize("stream", [False, True])
def test_responses_have_instructions_apart(server: ApiServer, stream: bool) -> None:
    """Also a streamed one, which calls the engine when its handler has returned."""
    call = Call()
    body = {"input": "Hello", "instructions": "Be brief.", "max_output_tokens": 8, "stream": stream}
    assert post(server, "/v1/responses", call, **body).status_code == 200
    content = said(server, call)
    assert content[INPUT] == [text("user", "Hello")]
    assert content["gen_ai.system_instructions"] == [{"type": "text", "content": "Be brief."}]
    assert answer_of(content)


def test_anthropic_messages_are_as_their_caller_sent_them(server: ApiServer) -> None:
    call = Call()
    messages = [{"role": "user", "content": [{"type": "text", "text": "Hello"}]}]
    answer = post(server, "/v1/messages", call, messages=messages, system="Be brief.", max_tokens=8).json()
    content = said(server, call)
    assert content[INPUT] == [text("user", "Hello")]
    assert content["gen_ai.system_instructions"] == [{"type": "text", "content": "Be brief."}]
    assert answer_of(content) == answer["content"][0]["text"]


def test_each_prompt_of_a_batch_has_its_own_text(server: ApiServer) -> None:
    call = Call()
    answer = server.client().completions.create(
        model=SERVED_NAME, prompt=["One", "Two"], max_tokens=8, extra_headers=call.headers()
    )
    _, *engine = server.trace(call, 3)
    found = [span.attributes for span in engine]
    assert {attributes["gen_ai.response.id"] for attributes in found} == {answer.id}
    asked = [json.loads(attributes[INPUT])[0]["parts"][0]["content"] for attributes in found]
    assert sorted(asked) == ["One", "Two"]
    said = ["".join(part["content"] for part in json.loads(each[OUTPUT])[0]["parts"]) for each in found]
    assert sorted(said) == sorted(choice.text for choice in answer.choices)


def test_events_arrive_with_the_same_content(server: ApiServer) -> None:
    """The Logs API's records, in the trace of the request, with structured values."""
    call = Call()
    assert (
        post(server, "/v1/chat/completions", call, messages=[{"role": "user", "content": "event"}]).status_code == 200
    )
    server.pair(call)

    def records() -> list[Any]:
        return [
            record
            for request in server.receiver._logs
            for resource in request.resource_logs
            for scope in resource.scope_logs
            for record in scope.log_records
            if record.trace_id.hex() == call.trace_id
        ]

    with server.receiver._received:
        server.receiver._received.wait_for(records, 30)
        [record] = records()
    assert record.event_name == "gen_ai.client.inference.operation.details"
    [value] = [attribute.value for attribute in record.attributes if attribute.key == INPUT]
    message = {pair.key: pair.value for pair in value.array_value.values[0].kvlist_value.values}
    assert message["role"].string_value == "user"


def test_nothing_of_the_content_leaves_a_server_without_capture(one_layer_model: str, tmp_path: Path) -> None:
    """A canary in every field of a body that takes a caller's words, in requests that work and that are rejected."""
    store = tmp_path / "store"
    with ApiServer.vllm(one_layer_model, *FLAGS, TRACEAI_VLLM_ENABLED="1", TRACEAI_VLLM_STORE=str(store)) as server:
        calls = [(Call(), path, body) for path, body in bodies()]
        statuses = [post(server, path, call, **body).status_code for call, path, body in calls]
        in_url = Call()
        httpx.get(f"{server.base_url}/v1/models?user={CANARY}", headers=in_url.headers())
        server.trace(in_url, 1)
        for call, _, _ in calls:
            server.trace(call, 1)
        server.receiver.metric_names(at_least=1)
        ours = [line for line in server.log.read_text(errors="replace").splitlines() if "traceai" in line]
    assert {200, 400} <= set(statuses), statuses
    assert len(server.receiver.spans()) > len(calls)
    assert [request for request in server.exported() if CANARY.encode() in request] == []
    assert stored(store)
    assert CANARY not in stored(store)
    assert not any(CANARY in line for line in ours)


def bodies() -> list[tuple[str, dict[str, Any]]]:
    """Return requests with a canary in every field."""
    tool = {"name": CANARY, "description": CANARY, "parameters": {"type": "object", "properties": {CANARY: {}}}}
    called = {"id": CANARY, "type": "function", "function": {"name": CANARY, "arguments": json.dumps({CANARY: CANARY})}}
    chat: dict[str, Any] = {
        "messages": [
            {"role": "system", "content": CANARY},
            {"role": "user", "name": CANARY, "content": [{"type": "text", "text": CANARY, "traceai": "context"}]},
            {"role": "assistant", "content": CANARY, "reasoning": CANARY, "tool_calls": [called]},
            {"role": "tool", "tool_call_id": CANARY, "content": CANARY},
        ],
        "tools": [{"type": "function", "function": tool}],
        "documents": [{"title": CANARY, "text": CANARY}],
        "metadata": {"user": CANARY, CANARY: CANARY},
        "user": CANARY,
        "stop": [CANARY],
        "bad_words": [CANARY],
        "chat_template_kwargs": {CANARY: CANARY},
        "cache_salt": CANARY,
        "max_tokens": 4,
    }
    schema = {"type": "object", "description": CANARY, "properties": {CANARY: {"type": "integer"}}}
    json_schema = {"type": "json_schema", "json_schema": {"name": CANARY, "schema": schema}}
    image = [{"type": "image_url", "image_url": {"url": f"https://{CANARY}.invalid/a.png"}}]
    function_call = {
        "type": "function_call",
        "call_id": CANARY,
        "name": CANARY,
        "arguments": json.dumps({CANARY: CANARY}),
    }
    return [
        ("/v1/chat/completions", chat),
        ("/v1/chat/completions", {**chat, "stream": True}),
        ("/v1/chat/completions", {"messages": chat["messages"][:2], "response_format": json_schema, "max_tokens": 4}),
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": image}]}),
        ("/v1/chat/completions", {**chat, "tool_choice": CANARY}),
        ("/v1/chat/completions", {**chat, "tool_choice": {"type": "function", "function": {"name": CANARY}}}),
        ("/v1/chat/completions", {"messages": [{"role": CANARY, "content": f"{CANARY} " * 2000}]}),
        ("/v1/chat/completions", {**chat, "chat_template": f"{{{{ raise_exception('{CANARY}') }}}}"}),
        ("/v1/completions", {"prompt": CANARY, "suffix": None, "user": CANARY, "stop": CANARY, "max_tokens": 4}),
        ("/v1/completions", {"prompt": CANARY, "structured_outputs": {"regex": f"({CANARY}"}}),
        ("/v1/responses", {"input": CANARY, "instructions": CANARY, "metadata": {"a": CANARY}, "max_output_tokens": 4}),
        (
            "/v1/responses",
            {"input": [function_call, {"type": "function_call_output", "call_id": CANARY, "output": CANARY}]},
        ),
        ("/v1/messages", {"messages": [{"role": "user", "content": CANARY}], "system": CANARY, "max_tokens": 4}),
        ("/v1/embeddings", {"input": CANARY}),
        ("/tokenize", {"prompt": CANARY}),
    ]
