"""A restriction by cohort slices: told from the request, before it is answered."""

from __future__ import annotations

import json
from typing import Any

import pytest

from traceai_vllm.gateway import cohorts
from traceai_vllm.gateway.body import Body
from traceai_vllm.gateway.call import Call
from traceai_vllm.gateway.config import Mode, Restriction, Route, Serving
from traceai_vllm.gateway.options import SliceOptions
from traceai_vllm.gateway.routing import candidate_answers

SPANISH = "¿Cuál es el período de espera para mi reclamación dental, por favor?"
PLAIN = "what is the waiting period for dental claims, please?"
CODE = "Write a Python function that sorts a list."
PICTURE = [{"type": "image_url", "image_url": {"url": "https://example.org/a.png"}}]
TOOLS = [{"type": "function", "function": {"name": "look_up"}}]
USUAL = SliceOptions()
ROUTE = Route(name="support", baseline="one", candidate="two", intent="billing")


def chat(text: str, **more: Any) -> dict[str, Any]:
    return {"messages": [{"role": "system", "content": CODE}, {"role": "user", "content": text}], **more}


def call(body: dict[str, Any]) -> Call:
    raw = json.dumps(body).encode()
    return Call("r1", "POST", "/v1/chat/completions", "/v1/chat/completions", [], Body(raw), ROUTE)


def lets_through(
    only: dict[str, Any], body: dict[str, Any], tokens: float = 10.0, slices: SliceOptions = USUAL
) -> bool:
    serving = Serving(mode=Mode.RESTRICTED, only=Restriction.model_validate(only))
    return candidate_answers(serving, call(body), "salt", lambda length: tokens, slices)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (chat(PLAIN), set()),
        (chat(SPANISH), {"multilingual"}),
        (chat(CODE), {"code"}),
        (chat(PLAIN, tools=TOOLS), {"tool_calling"}),
        ({"input": SPANISH}, {"multilingual"}),
        ({"prompt": CODE}, {"code"}),
        ({"input": [{"role": "user", "content": [{"type": "input_text", "text": CODE}]}]}, {"code"}),
        ({"input": [1, 2, 3]}, set()),
        ({}, set()),
    ],
)
def test_slices_are_told_from_what_the_user_wrote(body: dict[str, Any], expected: set[str]) -> None:
    """In every dialect; what the application wrote for the system says nothing."""
    assert cohorts.slices_of_call(call(body), 10.0, USUAL) == expected


def test_a_long_prompt_is_long_by_the_estimate() -> None:
    """The gateway has no tokenizer."""
    assert cohorts.slices_of_call(call(chat(PLAIN)), 5000.0, USUAL) == {"long_context"}


@pytest.mark.parametrize(
    ("only", "body", "expected"),
    [
        ({"slices": [{"name": "code"}]}, chat(CODE), True),
        ({"slices": [{"name": "code"}]}, chat(PLAIN), False),
        ({"slices": [{"name": "code", "intent": "billing"}]}, chat(CODE), True),
        ({"slices": [{"name": "code", "intent": "other"}]}, chat(CODE), False),
        ({"slices": [{"name": "code"}, {"name": "tool_calling"}]}, chat(PLAIN, tools=TOOLS), True),
        ({"except_slices": ["multilingual"]}, chat(PLAIN), True),
        ({"except_slices": ["multilingual"]}, chat(SPANISH), False),
        ({"except_slices": ["multilingual"], "slices": [{"name": "tool_calling"}]}, chat(SPANISH, tools=TOOLS), False),
        ({"except_slices": ["code"]}, {"prompt": [1, 2, 3]}, False),
        ({"except_slices": ["code"]}, {"prompt": ["a list", CODE]}, False),
        ({"except_slices": ["multilingual"]}, {"messages": [{"role": "user", "content": PICTURE}]}, False),
        ({"except_slices": ["tool_calling"]}, {"prompt": [1, 2, 3]}, True),
        ({"slices": [{"name": "our_own"}]}, chat(PLAIN), False),
        ({"except_slices": ["our_own"]}, chat(PLAIN), False),
    ],
)
def test_a_restriction_by_slices_is_obeyed(only: dict[str, Any], body: dict[str, Any], expected: bool) -> None:
    """The candidate gets what is in an allowed slice and in no forbidden one; what cannot be told is the baseline's."""
    assert lets_through(only, body) is expected


@pytest.mark.parametrize(
    ("slices", "text", "expected"),
    [
        ({}, PLAIN, False),
        ({"regulated_words": ["legal advice"]}, PLAIN, True),
        ({"regulated_words": ["legal advice"]}, "I need legal advice about my claim, please.", False),
        ({"regulated_routes": ["claims"]}, PLAIN, True),
        ({"regulated_routes": ["support"]}, PLAIN, False),
    ],
)
def test_all_but_regulated_requests_is_obeyed(slices: dict[str, Any], text: str, expected: bool) -> None:
    """What is regulated only the application knows: where nobody said it, nothing goes to the candidate."""
    options = SliceOptions.model_validate(slices)
    assert lets_through({"except_slices": ["regulated"]}, chat(text), slices=options) is expected


def test_the_applications_languages_are_those_of_the_configuration() -> None:
    """A Spanish application: its usual requests go to the candidate, English ones do not."""
    options = SliceOptions(languages=("es",))
    assert lets_through({"except_slices": ["multilingual"]}, chat(SPANISH), slices=options)
    assert not lets_through({"except_slices": ["multilingual"]}, chat(PLAIN), slices=options)


def test_what_cannot_be_told_for_want_of_a_library_is_not_let_through(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the extra `evals` there is no language identification."""
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    cohorts.untold.cache_clear()
    assert not lets_through({"except_slices": ["multilingual"]}, chat(PLAIN))
    assert lets_through({"except_slices": ["code"]}, chat(PLAIN))
    cohorts.untold.cache_clear()


@pytest.mark.internal_errors_expected
def test_a_failure_of_ours_goes_to_the_baseline(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody's request fails for it."""

    def broken(*_: Any) -> None:
        raise RuntimeError("broken")

    monkeypatch.setattr("traceai_vllm.evals.slices.slices_of", broken)
    assert not lets_through({"except_slices": ["code"]}, chat(PLAIN))
    assert lets_through({"max_prompt_tokens": 100}, chat(PLAIN))
