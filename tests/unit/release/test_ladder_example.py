"""The ladder's parts that need no engine: its prompts, its evaluator and its policy."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

import pytest

from traceai_vllm.release import load_policy

LADDER = Path(__file__).resolve().parents[3] / "examples" / "ladder"


@pytest.fixture
def modules(monkeypatch: pytest.MonkeyPatch) -> tuple[ModuleType, ModuleType]:
    """prompts.py and right_answer.py, as the example's own programs import them."""
    monkeypatch.syspath_prepend(str(LADDER))
    for name in ("prompts", "right_answer"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    import prompts
    import right_answer

    return prompts, right_answer


def test_prompts_are_told_apart_and_have_right_answers(modules: tuple[ModuleType, ModuleType]) -> None:
    """Pairs are made by id, and right answers are found by question."""
    asked = modules[0].load()

    assert len({prompt["id"] for prompt in asked}) == len(asked) == 251
    assert len({prompt["messages"][-1]["content"] for prompt in asked}) == len(asked)
    assert all(prompt["expected"] for prompt in asked)
    grounded = [prompt for prompt in asked if prompt["id"].startswith(("claims", "directory"))]
    assert all(text in prompt["context"][0] for prompt in grounded for text in prompt["expected"])


def test_the_evaluator_of_ones_own(modules: tuple[ModuleType, ModuleType]) -> None:
    """Half of what is right is half a score, in any case of letters."""
    evaluator = modules[1].RightAnswer({"q": ["180", "Days"]})

    assert evaluator.evaluate(response="after 180 DAYS", question="q")["score"] == 1.0
    assert evaluator.evaluate(response="180", question="q") == {"score": 0.5, "explanation": "missing: Days"}


def test_the_policy_can_be_used() -> None:
    """It is copied."""
    assert load_policy(LADDER / "policy.yaml").evidence.mode == "fixed"
