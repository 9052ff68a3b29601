"""Bodies: what is asked, and copies that are the same request."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from traceai_vllm.gateway.body import Body, differing_fields

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)
BODIES = st.dictionaries(
    st.sampled_from(["model", "messages", "prompt", "temperature", "stream", "store", "tools", "metadata", "x"]), VALUES
)


@given(BODIES)
def test_another_model_changes_the_model_and_nothing_else(content: dict[str, Any]) -> None:
    """Numbers, escapes and order inside the fields stay as they were written."""
    body = Body(json.dumps(content).encode())
    renamed = body.with_model("other")
    if content:
        assert json.loads(renamed.raw) == {**content, "model": "other"}
    assert differing_fields(body, renamed) == []
    assert renamed.prompt_hash() == body.prompt_hash()
    assert body.with_model(None) is body


@given(BODIES, st.sampled_from(["messages", "prompt", "temperature", "tools", "store"]))
def test_a_difference_that_counts_is_flagged(content: dict[str, Any], name: str) -> None:
    """What the model is given, and how it samples; not what is for the server alone."""
    body = Body(json.dumps(content).encode())
    stripped = body.without((name,))
    expected = [name] if name in content and name != "store" else []
    assert differing_fields(body, stripped) == expected
    assert (stripped.prompt_hash() != body.prompt_hash()) == (bool(expected) and name != "temperature")


@given(st.binary(max_size=50))
def test_any_bytes_are_a_body(raw: bytes) -> None:
    """What is no JSON object has no fields, and is passed on as it is."""
    body = Body(raw)
    assert body.with_model("m").raw == raw or body.fields
    assert body.stream in (True, False)
    assert body.runs_server_tools() in (True, False)


def test_a_prompt_of_embeddings_is_as_long_as_it_is() -> None:
    """It may not pass where a restriction limits the length of prompts."""
    assert Body(b'{"prompt_embeds": "%s"}' % (b"A" * 10_000)).prompt_bytes == 10_002


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, False),
        ({"tools": [{"type": "function", "function": {}}]}, False),
        ({"tools": [{"name": "anthropic", "input_schema": {}}]}, False),
        ({"tools": [{"type": "custom", "name": "x"}]}, False),
        ({"tools": [{"type": "function"}, {"type": "mcp", "server_url": "https://x"}]}, True),
        ({"tools": [{"type": "web_search_20250305", "name": "web_search"}]}, True),
        ({"tools": ["?"]}, True),
        ({"mcp_servers": [{"url": "https://x"}]}, True),
    ],
)
def test_tools_that_the_server_runs_are_known_by_their_type(fields: dict[str, Any], expected: bool) -> None:
    """Unknown kinds count as run by the server: a copy must not act."""
    assert Body(json.dumps(fields).encode()).runs_server_tools() is expected
