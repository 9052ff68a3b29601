"""From what callers send to the GenAI conventions' messages."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from traceai_vllm.content import messages

json_values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=12,
)


def text(role: str, content: str) -> dict[str, Any]:
    return {"role": role, "parts": [{"type": "text", "content": content}]}


def test_a_prompt_is_a_message_of_the_users() -> None:
    """A plain text has no roles: it is what the user says."""
    assert messages.input_messages("hello") == [text("user", "hello")]


def test_a_chat_keeps_roles_parts_and_tool_calls() -> None:
    """Every part of a chat completion's conversation has its counterpart."""
    made = messages.input_messages(
        [
            {"role": "system", "content": "Be brief."},
            {
                "role": "user",
                "name": "ann",
                "content": [
                    {"type": "text", "text": "What is this?"},
                    {"type": "image_url", "image_url": {"url": "https://example.org/a.png"}},
                    {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}},
                    {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}},
                ],
            },
            {
                "role": "assistant",
                "reasoning": "I had better look.",
                "content": None,
                "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "look", "arguments": '{"x": 1}'}}],
            },
            {"role": "tool", "tool_call_id": "c1", "content": [{"type": "text", "text": "a cat"}]},
        ]
    )
    assert made == [
        text("system", "Be brief."),
        {
            "role": "user",
            "name": "ann",
            "parts": [
                {"type": "text", "content": "What is this?"},
                {"type": "uri", "modality": "image", "uri": "https://example.org/a.png"},
                {"type": "blob", "modality": "image", "mime_type": "image/png", "content": ""},
                {"type": "blob", "modality": "audio", "content": ""},
            ],
        },
        {
            "role": "assistant",
            "parts": [
                {"type": "reasoning", "content": "I had better look."},
                {"type": "tool_call", "id": "c1", "name": "look", "arguments": {"x": 1}},
            ],
        },
        {
            "role": "tool",
            "parts": [{"type": "tool_call_response", "id": "c1", "response": [{"type": "text", "content": "a cat"}]}],
        },
    ]


def test_items_of_the_responses_api_are_messages() -> None:
    """Calls, their results and reasoning stand beside the messages there, partly as objects."""
    made = messages.input_messages(
        [
            {"role": "user", "content": [{"type": "input_text", "text": "hi"}]},
            SimpleNamespace(type="reasoning", summary=[], content=[SimpleNamespace(type="reasoning_text", text="hm")]),
            SimpleNamespace(type="function_call", call_id="c1", name="look", arguments="not json"),
            {"type": "function_call_output", "call_id": "c1", "output": "a cat"},
        ]
    )
    assert made == [
        text("user", "hi"),
        {"role": "assistant", "parts": [{"type": "reasoning", "content": "hm"}]},
        {"role": "assistant", "parts": [{"type": "tool_call", "id": "c1", "name": "look", "arguments": "not json"}]},
        {"role": "tool", "parts": [{"type": "tool_call_response", "id": "c1", "response": "a cat"}]},
    ]


def test_anthropic_messages_are_messages() -> None:
    """Blocks of tool use and of results, as objects with many empty fields."""
    use = SimpleNamespace(type="tool_use", id="c1", name="look", input={"x": 1}, text=None)
    result = SimpleNamespace(type="tool_result", tool_use_id="c1", content="a cat", text=None)
    picture = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"}}
    made = messages.input_messages(
        [
            SimpleNamespace(role="assistant", content=[{"type": "thinking", "thinking": "hm"}, use]),
            SimpleNamespace(role="user", content=[result, picture]),
        ]
    )
    assert [message["parts"] for message in made] == [
        [
            {"type": "reasoning", "content": "hm"},
            {"type": "tool_call", "id": "c1", "name": "look", "arguments": {"x": 1}},
        ],
        [
            {"type": "tool_call_response", "id": "c1", "response": "a cat"},
            {"type": "blob", "modality": "image", "mime_type": "image/png", "content": ""},
        ],
    ]


@pytest.mark.parametrize(
    "tool",
    [
        {"type": "function", "function": {"name": "f", "description": "d", "parameters": {"type": "object"}}},
        {"type": "function", "name": "f", "description": "d", "parameters": {"type": "object"}},
        SimpleNamespace(name="f", description="d", input_schema={"type": "object"}),
    ],
)
def test_a_tool_is_the_same_in_every_dialect(tool: Any) -> None:
    """Chat completions, responses, Anthropic."""
    assert messages.tool_definitions([tool]) == [
        {"type": "function", "name": "f", "description": "d", "parameters": {"type": "object"}}
    ]


def test_retrieved_context_is_found_in_documents_tags_and_marked_parts() -> None:
    """A text, texts, dictionaries of several forms, and the parts with the mark."""
    assert messages.context_documents("a", "tags") == [{"source": "tags", "content": "a"}]
    assert messages.context_documents([{"title": "T", "text": "a"}, {"data": 1}, "b"], "documents") == [
        {"source": "documents", "title": "T", "content": "a"},
        {"source": "documents", "content": '{"data": 1}'},
        {"source": "documents", "content": "b"},
    ]
    marked = {"type": "text", "text": "a", "traceai": "context"}
    conversation = [
        {"role": "user", "content": [marked, {"type": "text", "text": "b"}]},
        {"role": "user", "content": "c"},
    ]
    assert messages.marked_context(conversation) == [{"source": "message", "content": "a"}]


def test_an_iterator_is_left_to_vllm() -> None:
    """Some of pydantic's lists can be read once only, and vLLM has to."""
    parts = iter([{"type": "text", "text": "hi"}])
    assert messages.input_messages([{"role": "user", "content": parts}]) == [{"role": "user", "parts": []}]
    assert list(parts) == [{"type": "text", "text": "hi"}]


def test_an_answer_has_reasoning_text_and_calls() -> None:
    """An answer that calls tools ended because of that."""
    made = messages.output_message("sure", "stop", "hm", [(None, "look", '{"x": 1}')])
    assert made == {
        "role": "assistant",
        "parts": [
            {"type": "reasoning", "content": "hm"},
            {"type": "text", "content": "sure"},
            {"type": "tool_call", "name": "look", "arguments": {"x": 1}},
        ],
        "finish_reason": "tool_call",
    }
    assert messages.output_message("", "length") == {"role": "assistant", "parts": [], "finish_reason": "length"}


def test_the_form_is_the_one_of_opentelemetrys_own_package() -> None:
    """What opentelemetry-util-genai writes for the same parts is the same, but for what is not known."""
    types = pytest.importorskip("opentelemetry.util.genai.types")

    def part(kind_name: str, **fields: Any) -> Any:
        kind = getattr(types, f"{kind_name}Part", None) or getattr(types, kind_name)  # without "Part" before 1.0
        return kind(**fields)

    theirs = [
        part("Text", content="a"),
        part("Reasoning", content="b"),
        part("ToolCallRequest", arguments={"x": 1}, name="look", id="c1"),
        part("ToolCallResponse", response="r", id="c1"),
        part("Uri", mime_type=None, modality="image", uri="https://example.org/a.png"),
    ]
    [made] = messages.input_messages(
        [
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "a"},
                    {"type": "thinking", "thinking": "b"},
                    {"type": "tool_use", "id": "c1", "name": "look", "input": {"x": 1}},
                    {"type": "tool_result", "tool_use_id": "c1", "content": "r"},
                    {"type": "image_url", "image_url": "https://example.org/a.png"},
                ],
            }
        ]
    )
    assert made["parts"] == [{k: v for k, v in vars(part).items() if v is not None} for part in theirs]


@given(json_values)
def test_whatever_callers_send_is_read(value: Any) -> None:
    """Nothing that JSON can hold makes the functions fail, and what they return is JSON again."""
    for made in (
        messages.input_messages(value),
        messages.input_messages([{"role": value, "content": value, "tool_calls": value}]),
        messages.input_messages([{"type": value, "role": "user", "content": value}]),
        messages.input_messages(
            [{"role": "user", "content": [{"type": value, "image_url": value, "text": value}, value]}]
        ),
        messages.tool_definitions([value]),
        messages.context_documents(value, "tags"),
        messages.system_instructions(value),
        messages.marked_context(value),
    ):
        assert made == messages.plain(made)
