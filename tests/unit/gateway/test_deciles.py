"""The decile of a prompt's length: whether long prompts are dropped more often than short ones."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from traceai_vllm.gateway.deciles import Deciles


@given(st.permutations(range(1000)))
def test_each_tenth_of_the_recent_lengths_is_a_decile(lengths: list[int]) -> None:
    """Unknown before there are 100; then the same number of prompts in each, the longest in the tenth."""
    decile = Deciles()
    assert {decile(length) for length in lengths[:99]} == {""}
    for length in lengths[99:]:
        decile(length)
    found = {length: decile(length) for length in (0, 499, 500, 999)}
    assert found == {0: "1", 499: "5", 500: "6", 999: "10"}


def test_prompts_of_one_length_are_in_one_decile() -> None:
    """Nothing tells them apart."""
    decile = Deciles()
    assert Counter(decile(7) for _ in range(300)) == {"": 99, "10": 201}
