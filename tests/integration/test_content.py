"""Content capture on real vLLM: off unless asked for, and then in the GenAI conventions' form, redacted and capped."""

from __future__ import annotations

import json
from typing import Any

import pytest

import traceai_vllm
from tests.integration.test_offline import params
from traceai_vllm.content import ContentOptions
from traceai_vllm.testing import capture

CONTENT = (
    "gen_ai.input.messages",
    "gen_ai.output.messages",
    "gen_ai.system_instructions",
    "gen_ai.tool.definitions",
    "traceai.context",
)
WEATHER = {
    "type": "function",
    "function": {"name": "weather", "description": "Weather of a city", "parameters": {"type": "object"}},
}
CONVERSATION = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": [{"type": "text", "text": "Paris has 2 million inhabitants.", "traceai": "context"}]},
    {"role": "user", "content": "How warm is it there?"},
    {
        "role": "assistant",
        "content": "",
        "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "weather", "arguments": '{"at": "Paris"}'}}],
    },
    {"role": "tool", "tool_call_id": "c1", "content": "21 degrees"},
]


def content_of(span: Any) -> dict[str, Any]:
    return {key: json.loads(span.attributes[key]) for key in CONTENT if key in span.attributes}


def text(role: str, content: str) -> dict[str, Any]:
    return {"role": role, "parts": [{"type": "text", "content": content}]}


def test_a_chat_is_on_its_span(llm: Any) -> None:
    """Messages of every role, tools, tool calls, marked and tagged context, and the answer: as JSON."""
    with capture(capture_content="span_only") as captured, traceai_vllm.tags(context=["France is in Europe."]):
        [output] = llm.chat(CONVERSATION, params(), tools=[WEATHER], use_tqdm=False)

    [request] = captured.requests
    answer = {**text("assistant", output.outputs[0].text), "finish_reason": "length"}
    assert content_of(request) == {
        "gen_ai.input.messages": [
            text("system", "Be brief."),
            text("user", "Paris has 2 million inhabitants."),
            text("user", "How warm is it there?"),
            {
                "role": "assistant",
                "parts": [
                    {"type": "text", "content": ""},
                    {"type": "tool_call", "id": "c1", "name": "weather", "arguments": {"at": "Paris"}},
                ],
            },
            {"role": "tool", "parts": [{"type": "tool_call_response", "id": "c1", "response": "21 degrees"}]},
        ],
        "gen_ai.output.messages": [answer],
        "gen_ai.tool.definitions": [
            {
                "type": "function",
                "name": "weather",
                "description": "Weather of a city",
                "parameters": {"type": "object"},
            }
        ],
        "traceai.context": [
            {"source": "message", "content": "Paris has 2 million inhabitants."},
            {"source": "tags", "content": "France is in Europe."},
        ],
    }
    assert captured.logs == []
    [batch] = [span for span in captured.spans if span not in captured.requests]
    assert content_of(batch) == {}


def test_each_request_of_a_call_has_its_own_conversation(llm: Any) -> None:
    """One call with many conversations: the i-th request says the i-th, and answers it."""
    conversations = [[{"role": "user", "content": f"question {i}"}] for i in range(8)]
    with capture(capture_content=True) as captured:
        outputs = llm.chat(conversations, params(max_tokens=3), use_tqdm=False)
        enqueued = llm.enqueue_chat(conversations[:2], params(max_tokens=3), use_tqdm=False)
        conversations[0].append({"role": "user", "content": "too late"})
        llm.wait_for_completion(use_tqdm=False)

    assert len(enqueued) == 2
    said = {
        span.attributes["gen_ai.response.id"]: (
            content_of(span)["gen_ai.input.messages"],
            content_of(span)["gen_ai.output.messages"][0]["parts"][0]["content"],
        )
        for span in captured.requests
    }
    for i, output in enumerate(outputs):
        assert said[output.request_id] == ([text("user", f"question {i}")], output.outputs[0].text)
    assert [request[0] for request in said.values()][8:] == [[text("user", f"question {i}")] for i in range(2)]
