"""What a request's parameters become on its record."""

from __future__ import annotations

from types import SimpleNamespace

from traceai_vllm.engine import extract
from traceai_vllm.record import UNKNOWN_VARIANT, RequestRecord


def test_a_top_k_beyond_64_bits_is_a_number_that_can_be_exported() -> None:
    """vLLM's server lets any whole number through to its engine, which refuses it; OTLP has no integer for it."""
    params = SimpleNamespace(
        max_tokens=1,
        temperature=0,
        top_p=1,
        top_k=10**30,
        frequency_penalty=0,
        presence_penalty=0,
        seed=None,
        stop=None,
        n=1,
    )
    record = RequestRecord(None, UNKNOWN_VARIANT, "chat", 0, 1)
    extract.read_params(record, params)
    assert isinstance(record.top_k, float)
    assert record.top_k == 1e30
