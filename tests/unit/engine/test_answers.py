"""Answers that call tools, from their text: what the limit of tokens cut off stays a text, and is no error of ours."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from traceai_vllm.engine.answers import Answer, parsed

HANDLER = SimpleNamespace(parser_cls=None, tool_parser=lambda tokenizer: None, tokenizer=None)
REQUEST = SimpleNamespace(tools=[{"type": "function"}], tool_choice="required")


def test_required_calls_are_read() -> None:
    """vLLM holds such an answer to a JSON list of calls."""
    text = '[{"name": "track", "parameters": {"parcel": "PX-1"}}]'

    assert parsed(text, None, HANDLER, REQUEST).tool_calls == ((None, "track", {"parcel": "PX-1"}),)


@pytest.mark.parametrize("text", ['[{"name": "track", "para', "[", '[{"name": "track"}, {'])
def test_calls_that_are_cut_off_stay_a_text(text: str) -> None:
    """tests/conftest.py fails this test if that counts as an internal error."""
    assert parsed(text, None, HANDLER, REQUEST) == Answer(text)
