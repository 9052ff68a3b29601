"""What is read of answers; that streams give the same as whole documents, however they are cut."""

from __future__ import annotations

import gzip
import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.stub_upstream import Behaviour, document_of, stream_of
from traceai_vllm.gateway.answers import DIALECTS, Answer
from traceai_vllm.gateway.reading import read_answer

STREAM, JSON = "text/event-stream; charset=utf-8", "application/json"
BODY: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "hi"}], "prompt": "hi", "input": "hi"}
STREAMED = sorted(DIALECTS.keys() - {"/v1/embeddings"})


def streamed(path: str, **more: Any) -> bytes:
    return b"".join(stream_of(path, {**BODY, **more}, Behaviour(tokens=5)))


def read_stream(path: str, data: bytes, cuts: list[int]) -> Answer:
    places = [0, *sorted(place % (len(data) + 1) for place in cuts), len(data)]
    pieces = [data[start:stop] for start, stop in pairwise(places)]
    return read_answer(path, STREAM, "", [(float(number), piece) for number, piece in enumerate(pieces)])


@pytest.mark.parametrize("path", STREAMED)
@given(cuts=st.lists(st.integers(0, 100_000), max_size=30))
def test_a_stream_says_the_same_as_a_whole_answer_however_it_is_cut(path: str, cuts: list[int]) -> None:
    """All four dialects; times of content never go back."""
    whole = read_answer(path, JSON, "", [(0.0, document_of(path, BODY, Behaviour(tokens=5)))])

    stream = read_stream(path, streamed(path), cuts)

    assert stream.error is None
    assert stream.says() == whole.says()
    assert stream.content_times == sorted(stream.content_times)
    assert stream.id == whole.id


@given(end=st.integers(0, 100_000))
def test_a_stream_that_breaks_off_is_incomplete_and_keeps_what_came(end: int) -> None:
    """Wherever it breaks off before its end mark."""
    path = "/v1/chat/completions"
    data = streamed(path)
    mark = data.rindex(b"data: [DONE]")
    broken = read_answer(path, STREAM, "", [(0.0, data[: end % (mark + 1)])])
    assert broken.error == "incomplete_response"
    whole = read_stream(path, data, [])
    assert whole.choices[0].text.startswith(broken.choices[0].text if broken.choices else "")


def test_tool_calls_are_put_together() -> None:
    """From the pieces of a stream; arguments as the model wrote them."""
    tools = [{"type": "function", "function": {"name": "look_up"}}]
    answer = read_stream("/v1/chat/completions", streamed("/v1/chat/completions", tools=tools), [])
    [call] = answer.choices[0].tool_calls.values()
    assert (call.name, call.id, set(json.loads(call.arguments))) == ("look_up", "call_1", {"say"})
    assert answer.finish_reasons == ["tool_calls"]


def test_anthropic_tool_calls_are_the_same_streamed_and_whole() -> None:
    """The input comes as JSON pieces in a stream, as an object else."""
    block = {"type": "tool_use", "id": "t", "name": "look_up", "input": {"a": 1}}
    document = {"id": "m", "content": [block], "stop_reason": "tool_use"}
    events: list[dict[str, Any]] = [
        {"type": "content_block_start", "index": 0, "content_block": {**block, "input": {}}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "input_json_delta", "partial_json": '{"a"'}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "input_json_delta", "partial_json": ":1}"}},
        {"type": "message_delta", "delta": {"stop_reason": "tool_use"}, "usage": {"output_tokens": 3}},
        {"type": "message_stop"},
    ]
    data = "".join(f"data: {json.dumps(event)}\n\n" for event in events).encode()
    stream = read_stream("/v1/messages", data, [])
    assert stream.says() == read_answer("/v1/messages", JSON, "", [(0.0, json.dumps(document).encode())]).says()
    assert stream.output_tokens == 3


def test_usage_is_read_where_the_server_gives_it() -> None:
    """And stays unset where it does not."""
    path = "/v1/chat/completions"
    asked = read_stream(path, streamed(path, stream_options={"include_usage": True}), [])
    assert (asked.input_tokens, asked.output_tokens) == (5, 5)
    assert read_stream(path, streamed(path), []).output_tokens is None


def test_embeddings_are_compared_as_numbers() -> None:
    """Not as text: a batch of vectors would hold all users up, and 1 is 1.0."""
    one, same, other = (
        read_answer("/v1/embeddings", JSON, "", [(0.0, b'{"data":[{"embedding":[%b,0.5]}]}' % number)])
        for number in (b"1", b"1.0", b"1.5")
    )
    assert one.says() == same.says() != other.says()


def test_an_error_inside_a_stream_is_the_servers_error() -> None:
    """vLLM sends it as an event when the engine dies."""
    data = b'data: {"error":{"type":"EngineDeadError","message":"x"}}\n\ndata: [DONE]\n\n'
    assert read_stream("/v1/chat/completions", data, []).error == "EngineDeadError"


@pytest.mark.parametrize("path", sorted(DIALECTS))
@given(
    data=st.one_of(
        st.binary(max_size=60),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.text(max_size=5),
            lambda inner: (
                st.lists(inner, max_size=3)
                | st.dictionaries(
                    st.sampled_from(
                        [
                            "choices",
                            "delta",
                            "message",
                            "index",
                            "type",
                            "content",
                            "output",
                            "response",
                            "data",
                            "usage",
                            "error",
                        ]
                    ),
                    inner,
                    max_size=4,
                )
            ),
            max_leaves=8,
        ).map(lambda value: json.dumps(value).encode()),
    )
)
def test_garbage_is_an_error_and_never_an_exception(path: str, data: bytes) -> None:
    """Random bytes, and JSON of the wrong shape, streamed and whole."""
    read_answer(path, JSON, "", [(0.0, data)])
    read_answer(path, STREAM, "", [(0.0, b"data: " + data + b"\n\n")])


def test_a_compressed_answer_is_read_and_an_unknown_compression_is_said() -> None:
    """The user's bytes stay compressed; only the copy for the record is unpacked."""
    path = "/v1/chat/completions"
    data = document_of(path, BODY, Behaviour(tokens=2))
    packed = gzip.compress(data)
    answer = read_answer(path, JSON, "gzip", [(0.0, packed[:10]), (1.0, packed[10:])])
    assert answer.says() == read_answer(path, JSON, "", [(0.0, data)]).says()
    assert read_answer(path, JSON, "br", [(0.0, packed)]).error == "invalid_response"
