"""By how much a copy's answer differs from the user's: where, and in what the models would have said next."""

from __future__ import annotations

import json
from math import log
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from traceai_vllm.gateway.divergence import divergence, next_token_divergence
from traceai_vllm.gateway.reading import read_answer

CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"


def chat(text: str, likeliest: list[dict[str, float]] | None = None) -> Any:
    """An answer as vLLM gives it; with logprobs each word is a token."""
    choice: dict[str, Any] = {"index": 0, "message": {"content": text}, "finish_reason": "stop"}
    if likeliest is not None:
        tokens = [
            {"token": word, "logprob": -0.1, "top_logprobs": [{"token": t, "logprob": log(p)} for t, p in top.items()]}
            for word, top in zip(text.split(), likeliest, strict=True)
        ]
        choice["logprobs"] = {"content": tokens}
    body = json.dumps({"id": "one", "choices": [choice]}).encode()
    return read_answer(CHAT, "application/json", "", [(0.0, body)])


def test_words_in_common_are_counted() -> None:
    """Up to the first that differs; an answer that stops early differs where it stops."""
    assert divergence(chat("the limit is 180 euros"), chat("the limit is 90 euros")) == {
        "traceai.pair.first_divergence": 3
    }
    assert divergence(chat("yes"), chat("yes indeed")) == {"traceai.pair.first_divergence": 1}
    assert divergence(chat("the same"), chat("the same")) == {}


def test_logprobs_tell_how_much_the_models_agree() -> None:
    """Also where the texts are the same: up to the first token that differs both had read the same."""
    one = chat("plan B now", [{"plan": 0.9}, {"B": 0.6, "C": 0.4}, {"now": 0.9}])
    other = chat("plan C then", [{"plan": 0.9}, {"C": 0.6, "B": 0.4}, {"then": 0.9}])

    found = divergence(one, other)

    assert found["traceai.pair.first_divergence"] == 1
    assert found["traceai.pair.top1_agreement"] == 0.5
    assert found["traceai.pair.kl_divergence"] == pytest.approx((0.6 * log(0.6 / 0.4) + 0.4 * log(0.4 / 0.6)) / 2)


def test_streams_and_completions_have_logprobs_too() -> None:
    """Token by token in a stream, and in the form of the older API."""
    parts = [
        {"index": 0, "delta": {"content": word}, "logprobs": {"content": [{"token": word, "top_logprobs": []}]}}
        for word in ("a", "b")
    ]
    stream = "".join(f"data: {json.dumps({'choices': [part]})}\n\n" for part in parts) + "data: [DONE]\n\n"
    streamed = read_answer(CHAT, "text/event-stream", "", [(0.0, stream.encode())])
    choice = {"index": 0, "text": "ac", "logprobs": {"tokens": ["a", "c"], "top_logprobs": [None, {"c": -0.1}]}}
    whole = read_answer(COMPLETIONS, "application/json", "", [(0.0, json.dumps({"choices": [choice]}).encode())])

    assert divergence(streamed, whole) == {"traceai.pair.first_divergence": 1}
    assert streamed.error is None


@pytest.mark.parametrize(
    "logprobs", [7, {"content": 7}, {"content": [None]}, {"content": [{"top_logprobs": [{}]}]}, []]
)
def test_logprobs_that_cannot_be_read_are_no_error(logprobs: Any) -> None:
    """The user's answer is as good without them."""
    choice = {"index": 0, "message": {"content": "fine"}, "finish_reason": "stop", "logprobs": logprobs}

    answer = read_answer(CHAT, "application/json", "", [(0.0, json.dumps({"choices": [choice]}).encode())])

    assert answer.error is None
    assert answer.choices[0].text == "fine"


@given(st.integers(2, 30), st.integers(1, 10), st.integers(0, 2**32 - 1))
def test_the_divergence_of_a_few_tokens_is_never_more_than_that_of_all(size: int, kept: int, seed: int) -> None:
    """The likeliest tokens of each model bound the true divergence from below; a model does not differ from itself."""
    random = np.random.default_rng(seed)
    one, other = random.dirichlet(np.ones(size), 2)
    truth = float(np.sum(one * np.log(one / other)))

    def likeliest(model: Any) -> dict[str, float]:
        return {str(place): float(np.log(model[place])) for place in np.argsort(-model)[:kept]}

    assert 0 <= next_token_divergence(likeliest(one), likeliest(other)) <= truth + 1e-9
    assert next_token_divergence(likeliest(one), likeliest(one)) == pytest.approx(0, abs=1e-9)
