"""Tokens of prompts, estimated from their bytes."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from traceai_vllm.gateway.tokens import TokenEstimate


def test_prompts_count_as_long_until_enough_is_known() -> None:
    """Two bytes a token; then what the servers counted, the newest 200 answers."""
    estimate = TokenEstimate()
    for _ in range(19):
        estimate.learn(400, 100)
    assert estimate(1000) == 500
    estimate.learn(400, 100)
    assert estimate(1000) == 250
    for _ in range(200):
        estimate.learn(800, 100)
    assert estimate(1000) == 125


@given(st.lists(st.tuples(st.integers(0, 10**6), st.none() | st.integers(-1, 10**6)), max_size=300))
def test_whatever_servers_count_the_estimate_is_a_length(counts: list[tuple[int, int | None]]) -> None:
    """Missing and senseless counts are left out; the estimate never is negative, and grows with the prompt."""
    estimate = TokenEstimate()
    for prompt_bytes, tokens in counts:
        estimate.learn(prompt_bytes, tokens)
    assert 0 <= estimate(0) <= estimate(10) <= estimate(1000)
