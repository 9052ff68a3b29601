"""The decision file: what it may say, and who then answers."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from traceai_vllm.gateway.config import Mode
from traceai_vllm.gateway.decision import Decision, DecisionError, decision_schema, read_decision

ROOT = Path(__file__).resolve().parents[3]
HEAD = {"action": "promote", "policy_hash": "sha256:0", "made_at": "2026-11-23T12:00:00Z"}


def decided(route: dict[str, Any], name: str = "support") -> Decision:
    return Decision.model_validate({**HEAD, "routes": {name: route}})


@pytest.mark.parametrize(
    ("route", "mode"),
    [
        ({"action": "promote"}, Mode.CANDIDATE),
        ({"action": "promote", "share": 0.1}, Mode.CANARY),
        ({"action": "keep_mirroring"}, Mode.MIRROR),
        ({"action": "restrict_route", "only": {"slices": [{"traffic_cohort": "eu"}]}}, Mode.RESTRICTED),
        ({"action": "restrict_route", "only": {"slices": [{"name": "code"}]}}, Mode.RESTRICTED),
        ({"action": "restrict_route", "only": {"except_slices": ["multilingual"]}}, Mode.RESTRICTED),
        ({"action": "adjust_context_length", "only": {"max_prompt_tokens": 4096}}, Mode.RESTRICTED),
        ({"action": "fallback"}, Mode.BASELINE),
    ],
)
def test_each_action_says_who_answers(route: dict[str, Any], mode: Mode) -> None:
    """A named route has its own; others have what is said for `*`, or nothing."""
    serving = decided(route).serving("support")
    assert serving is not None
    assert serving.mode is mode
    assert decided(route).serving("other") is None
    everywhere = decided(route, "*").serving("other")
    assert everywhere is not None
    assert everywhere.mode is mode


@pytest.mark.parametrize(
    "route",
    [
        {"action": "restrict_route"},
        {"action": "restrict_route", "only": {}},
        {"action": "restrict_route", "only": {"intents": None}},
        {"action": "restrict_route", "only": {"except_slices": []}},
        {"action": "adjust_context_length", "only": {"intents": ["billing"]}},
        {"action": "fallback", "only": {"max_prompt_tokens": 5}},
        {"action": "keep_mirroring", "share": 0.5},
        {"action": "ship_it"},
        {"action": "promote", "unknown": 1},
    ],
)
def test_a_slip_of_the_pen_promotes_nothing(route: dict[str, Any], tmp_path: Path) -> None:
    """What does not fit together is refused as a whole, with the place."""
    path = tmp_path / "decision.json"
    path.write_text(json.dumps({**HEAD, "routes": {"support": route}}))
    with pytest.raises(DecisionError, match=r"routes\.support"):
        read_decision(path)


@pytest.mark.parametrize("missing", ["action", "policy_hash", "made_at", "routes"])
def test_what_it_rests_on_has_to_be_said(missing: str, tmp_path: Path) -> None:
    """A decision without its action, policy, time or routes is none."""
    content = {**HEAD, "routes": {}}
    del content[missing]
    path = tmp_path / "decision.json"
    path.write_text(json.dumps(content))
    with pytest.raises(DecisionError, match=missing):
        read_decision(path)


def test_what_is_no_file_of_a_decisions_size_is_refused_at_once(tmp_path: Path) -> None:
    """A pipe that nobody writes to would hold up every user, and so would hundreds of megabytes."""
    pipe, directory, huge = tmp_path / "pipe", tmp_path, tmp_path / "huge"
    os.mkfifo(pipe)
    huge.write_text(json.dumps({**HEAD, "routes": {}, "x": "a" * 5_000_000}))
    for path, why in ((pipe, "no regular file"), (directory, "directory"), (huge, "more than 4,194,304 bytes")):
        with pytest.raises(DecisionError, match=why):
            read_decision(path)


def test_the_published_schema_is_the_models() -> None:
    """`docs/decision.schema.json` is what `traceai-vllm gateway --decision-schema` prints."""
    assert (ROOT / "docs" / "decision.schema.json").read_text() == decision_schema()
