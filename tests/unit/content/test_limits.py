"""Fields are cut to a length, stay in form, and say what is missing."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from tests.unit.content.test_messages import json_values, text
from traceai_vllm.content.limits import limited, size_of

conversations = st.lists(
    st.builds(text, st.sampled_from(["system", "user", "assistant"]), st.text(max_size=400)), max_size=30
)


def test_what_fits_is_left_as_it_is() -> None:
    """Nothing is marked where nothing is missing."""
    field = [text("user", "a" * 50)]
    assert limited(field, 1000) == (field, 0)


def test_a_long_text_is_cut_with_a_mark() -> None:
    """The mark says by how much."""
    [message], left_out = limited([text("user", "a" * 5000)], 1000)
    content = message["parts"][0]["content"]
    assert content == "a" * (5000 - left_out) + f"…[{left_out} characters left out]"
    assert 4000 <= left_out < 4100


def test_an_empty_text_is_not_marked_where_the_room_is_used_up() -> None:
    """Nothing is missing of it: a mark would say that the user had sent something."""
    field = [text("user", "")] * 3
    assert limited(field, 161, newest_first=True) == (field, 0)


def test_half_a_surrogate_pair_does_not_cost_the_field() -> None:
    """Models cut `\\ud83d\\ude00` in two, in the arguments of tool calls; no exporter can encode one half."""
    half = json.loads('"caf\u00e9 \\ud83d"')
    called = {"type": "tool_call", "name": "say", "arguments": {half: [half]}}
    [message], _ = limited([{"role": "assistant", "parts": [called]}], 1000)
    assert message["parts"][0]["arguments"] == {"café ?": ["café ?"]}


def test_of_a_conversation_the_newest_messages_stay() -> None:
    """The answer is to the last one; a message in their place says how many there were before."""
    conversation = [text("user", f"{i} " + "a" * 298) for i in range(100)]
    kept, left_out = limited(conversation, 1500, newest_first=True)
    assert kept[-1] == conversation[-1]
    assert kept[0]["role"] == "user"
    assert "more left out" in kept[0]["parts"][0]["content"]
    assert left_out == size_of(conversation) - sum(size_of(m) for m in conversation if m in kept) - cut_part(kept)


def cut_part(kept: list[dict[str, Any]]) -> int:
    """Return how many characters of the cut message (and of roles) are still there."""
    [cut] = [m for m in kept if "characters left out]" in m["parts"][0]["content"] and "more" not in str(m)]
    return len(cut["parts"][0]["content"].partition("…")[0]) + len("usertext")


@given(conversations, st.integers(1, 2000))
def test_a_field_is_never_much_longer_than_its_limit(conversation: list[Any], limit: int) -> None:
    """Texts and the JSON round them stay within the limit and the room for marks; what is lost is counted."""
    kept, left_out = limited(conversation, limit, newest_first=True)
    assert len(json.dumps(kept, ensure_ascii=False)) <= 6 * limit + 500
    assert (left_out == 0) == (kept == conversation)
    assert all(message.keys() == {"role", "parts"} for message in kept)


@given(st.lists(json_values, max_size=6), st.integers(1, 200))
def test_any_structure_can_be_cut(values: list[Any], limit: int) -> None:
    """Arguments and schemas of tools are callers' own."""
    kept, _ = limited([{"type": "tool_call", "name": "f", "arguments": value} for value in values], limit)
    json.dumps(kept)


def test_only_our_own_words_are_for_nothing() -> None:
    """A caller's tool may have arguments called `type` or `source`, of any length."""
    call = {"type": "tool_call", "arguments": {"type": "a" * 5000, "source": "b" * 5000}}
    [cut], left_out = limited([call], 1000)
    assert cut["type"] == "tool_call"
    assert size_of(cut) < 1200
    assert left_out > 8900
