"""docs/policy.md: every key is in it, and what it shows can be used."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from pydantic import BaseModel

from traceai_vllm.gateway.decision import Action
from traceai_vllm.release import parse_policy
from traceai_vllm.release.measures import FEEDBACK, OPERATIONS, QUANTILES
from traceai_vllm.release.policy import (
    DEFAULT_RULES,
    Condition,
    Evidence,
    Gain,
    Guard,
    Limits,
    Override,
    Policy,
    Price,
    Rule,
    Scope,
)

TEXT = (Path(__file__).resolve().parents[3] / "docs" / "policy.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"^```yaml\n(.*?)^```", TEXT, re.M | re.S)


@pytest.mark.parametrize("model", [Policy, Guard, Scope, Override, Gain, Evidence, Limits, Price, Rule])
def test_every_key_is_documented(model: type[BaseModel]) -> None:
    """A key that nobody can read of is a key that nobody uses."""
    assert not [key for key in model.model_fields if f"`{key}`" not in TEXT]


def test_every_measure_condition_and_action_is_documented() -> None:
    """Times are there as `latency.pNN`."""
    names = {f"{name.rpartition('.')[0]}.pNN" if name in QUANTILES else name for name in (*OPERATIONS, *FEEDBACK)}
    names |= {condition.value for condition in Condition}

    assert not [name for name in names if f"`{name}`" not in TEXT]
    assert not [action.value for action in Action if action.value not in TEXT]


@pytest.mark.parametrize("example", [text for text in EXAMPLES if text.startswith("version")])
def test_examples_can_be_used(example: str) -> None:
    """They are copied."""
    parse_policy(example)


def test_the_usual_rules_are_the_documented_ones() -> None:
    """What holds where a policy has no rules."""
    [rules] = [text for text in EXAMPLES if text.startswith("rules:")]

    assert parse_policy("version: 1\nmeasures: {errors: {margin: 0}}\n" + rules).rules == DEFAULT_RULES
