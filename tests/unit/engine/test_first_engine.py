"""vLLM before 0.11 can run its first engine (V0), which has none of the hook points."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from traceai_vllm.engine import first_engine, patches
from traceai_vllm.testing import capture


class LLMEngine:
    def __init__(self, config: str, *, log_stats: bool) -> None:
        self.seen = (config, log_stats)


def test_its_user_is_told_that_it_is_not_traced(caplog: pytest.LogCaptureFixture, monkeypatch: Any) -> None:
    """One sentence with the way out, when the engine is made; the engine is made as always."""
    monkeypatch.setattr(LLMEngine, "__init__", first_engine.init(LLMEngine.__init__))

    assert LLMEngine("config", log_stats=False).seen == ("config", False)
    assert caplog.messages == []

    with capture():
        assert LLMEngine("config", log_stats=True).seen == ("config", True)
    (message,) = caplog.messages
    assert "VLLM_USE_V1=1" in message


def test_the_same_name_for_the_later_engine_is_left_alone() -> None:
    """From 0.11 on `vllm.engine.llm_engine.LLMEngine` is the V1 engine."""
    later = SimpleNamespace(LLMEngine=type("LLMEngine", (), {"__module__": "vllm.v1.engine.llm_engine"}))
    first = SimpleNamespace(LLMEngine=type("LLMEngine", (), {"__module__": "vllm.engine.llm_engine"}))

    assert not patches._is_first_engine(later)
    assert patches._is_first_engine(first)
