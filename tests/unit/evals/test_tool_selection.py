"""ToolSelectionAccuracy: against an expected call, a baseline's call, or the tool definitions alone."""

import copy
import itertools
import json
import types

import pytest
from hypothesis import given
from hypothesis import strategies as st

from traceai_vllm.evals import EvaluationError, MissingInput, ToolSelectionAccuracy
from traceai_vllm.evals.tool_calls import read_tool_calls

WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "parameters": {
            "type": "object",
            "properties": {
                "city": {"type": "string"},
                "days": {"type": "integer"},
                "unit": {"type": "string", "enum": ["celsius", "fahrenheit"], "default": "celsius"},
                "zoom": {"type": "number"},
            },
            "required": ["city"],
        },
    },
}
NEWS = {"name": "get_news", "parameters": {"type": "dict", "properties": {"topic": {"type": "string"}}}}
TOOLS = [WEATHER, NEWS]
RIGHT = {"name": "get_weather", "arguments": {"city": "Oslo", "days": 3}}


def evaluate(**inputs):
    return ToolSelectionAccuracy().evaluate(tools=TOOLS, **inputs)


def call(name="get_weather", **arguments):
    return {"name": name, "arguments": arguments}


@pytest.mark.parametrize(
    ("made", "label", "named"),
    [
        (call(city="Oslo", days=3), "correct", "1 of 1"),
        (call(city="oslo ", days=3), "correct", "1 of 1"),
        (call(city="Oslo", days=3, unit="celsius"), "correct", "1 of 1"),
        (call(city="Oslo", days=5), "wrong_value", "days is 5, expected 3"),
        (call(city="Oslo", days="3"), "wrong_type", 'days is "3"'),
        (call(city="Oslo", days=3.0), "wrong_type", "days is 3.0"),
        (call(city="Oslo"), "missing_argument", "days"),
        (call(days=3), "missing_argument", "city"),
        (call(city="Oslo", days=3, hour=4), "unexpected_argument", "hour"),
        (call(city="Oslo", days=3, unit="fahrenheit"), "unexpected_argument", "unit"),
        (call("get_news", topic="Oslo"), "wrong_tool", "get_news"),
        (call("get_wether", city="Oslo", days=3), "unknown_tool", "get_wether"),
        ({"name": "get_weather", "arguments": '{"city": "Oslo", "da'}, "unreadable_call", "truncated"),
    ],
)
def test_each_fault_is_named(made, label, named):
    result = evaluate(response=[made], expected=[RIGHT])
    assert result.label == label
    assert named in result.explanation
    assert result.passed is (label == "correct")
    assert result.score == (1.0 if label == "correct" else 0.0)


def test_no_call_when_none_is_due():
    assert evaluate(response="It rains in Oslo.", expected=[]).label == "no_call"
    needless = evaluate(response=[RIGHT], expected=[])
    assert (needless.label, needless.score) == ("needless_call", 0.0)
    missing = evaluate(response="It rains in Oslo.", expected=[RIGHT])
    assert (missing.label, missing.score) == ("missing_call", 0.0)


def test_parallel_calls_in_any_order():
    wanted = [call(city="Oslo", days=1), call(city="Rome", days=1), call("get_news", topic="rain")]
    for order in itertools.permutations(wanted):
        assert evaluate(response=list(order), expected=wanted).passed
    two = evaluate(response=wanted[:2], expected=wanted)
    assert two.score == pytest.approx(2 / 3)
    assert two.counts["right"] == 2
    assert evaluate(response=[*wanted, wanted[0]], expected=wanted).label == "extra_call"


def test_a_call_that_fits_two_is_given_to_the_one_that_needs_it():
    wanted = [{"get_weather": {"city": ["Oslo", "Rome"]}}, {"get_weather": {"city": ["Oslo"]}}]
    assert evaluate(response=[call(city="Oslo"), call(city="Rome")], expected=wanted).passed


def test_accepted_values_and_arguments_that_may_be_left_out():
    wanted = [{"get_weather": {"city": ["Oslo", "Oslo, Norway"], "days": [3, ""]}}]
    assert evaluate(response=[call(city="Oslo Norway")], expected=wanted).passed
    assert evaluate(response=[call(city="Oslo", days=3)], expected=wanted).passed
    assert not evaluate(response=[call(city="Oslo", days=2)], expected=wanted).passed


def test_harmless_spellings_stop_where_a_number_changes():
    wanted = [call(city="2024-01-05", zoom=2.0)]
    assert evaluate(response=[call(city="2024/01/05", zoom=2)], expected=wanted).passed
    for one, other in [("1.5", "15"), ("-5", "5"), ("10.5 km", "105 km"), ("1,000", "100")]:
        assert not evaluate(response=[call(city=one)], expected=[call(city=other)]).passed
    assert evaluate(response=[call(city="1,000")], expected=[call(city="1000")]).passed
    assert not evaluate(response=[call(city=True)], expected=[call(city=1)]).passed


def test_agreement_with_a_baseline():
    same = evaluate(response=[call(city="oslo", days=3)], baseline={"role": "assistant", "tool_calls": [RIGHT]})
    assert same.passed
    assert same.details["against"] == "baseline"
    silent = evaluate(response="I cannot look that up.", baseline=[RIGHT])
    assert silent.label == "missing_call"
    assert evaluate(response="Rain.", baseline="It rains.").label == "no_call"


@pytest.mark.parametrize(
    ("made", "label"),
    [
        (call(city="Oslo"), "correct"),
        (call(), "missing_argument"),
        (call(city=5), "wrong_type"),
        (call(city="Oslo", unit="kelvin"), "wrong_value"),
        (call(city="Oslo", hour=4), "unexpected_argument"),
        (call("rm", path="/"), "unknown_tool"),
        (call("get_news", topic="x"), "correct"),
    ],
)
def test_validity_against_the_definitions_alone(made, label):
    assert evaluate(response=[made]).label == label


FORMS = {
    "openai": [
        {"id": "1", "type": "function", "function": {"name": "get_weather", "arguments": '{"city": "Oslo", "days": 3}'}}
    ],
    "completion": {
        "choices": [{"message": {"role": "assistant", "content": None, "tool_calls": [{"function": RIGHT}]}}]
    },
    "responses": {"output": [{"type": "reasoning"}, {"type": "function_call", **RIGHT}]},
    "anthropic": {
        "role": "assistant",
        "content": [
            {"type": "text", "text": "Hm"},
            {"type": "tool_use", "name": "get_weather", "input": RIGHT["arguments"]},
        ],
    },
    "object": types.SimpleNamespace(tool_calls=[types.SimpleNamespace(function=types.SimpleNamespace(**RIGHT))]),
    "bfcl": [{"get_weather": RIGHT["arguments"]}],
    "json": json.dumps(RIGHT),
    "json list": json.dumps([{"name": "get_weather", "parameters": RIGHT["arguments"]}]),
    "fenced": f"```json\n{json.dumps(RIGHT)}\n```",
    "hermes": f"I look it up.\n<tool_call>\n{json.dumps(RIGHT)}\n</tool_call>",
    "hermes unclosed": f"<tool_call>{json.dumps(RIGHT)}",
    "llama": '<function=get_weather>{"city": "Oslo", "days": 3}</function>',
    "llama json": f"<|python_tag|>{json.dumps(RIGHT)}",
    "qwen coder": "<tool_call>\n<function=get_weather>\n<parameter=city>\nOslo\n"
    "</parameter>\n<parameter=days>\n3\n</parameter>\n</function>\n</tool_call>",
    "mistral": f"[TOOL_CALLS] [{json.dumps(RIGHT)}]",
    "mistral new": '[TOOL_CALLS]get_weather[ARGS]{"city": "Oslo", "days": 3}',
    "granite": f"<|tool_call|>[{json.dumps(RIGHT)}]",
    "phi": f"functools[{json.dumps(RIGHT)}]",
    "kimi": "<|tool_calls_section_begin|><|tool_call_begin|>functions.get_weather:0"
    '<|tool_call_argument_begin|>{"city": "Oslo", "days": 3}<|tool_call_end|><|tool_calls_section_end|>',
    "pythonic": '[get_weather(city="Oslo", days=3)]',
}


@pytest.mark.parametrize("form", FORMS)
def test_every_usual_form_of_a_call_is_read(form):
    result = evaluate(response=FORMS[form], expected=[RIGHT])
    assert result.passed, result.explanation


@pytest.mark.parametrize(
    "text", ["", "It rains.", "f(x) = 3 is a function", '{"temperature": 3}', "[1, 2]", "print", '{"name": "Ada"}']
)
def test_an_ordinary_answer_makes_no_call(text):
    assert read_tool_calls(text) == []


@pytest.mark.parametrize(
    "text",
    [
        '<tool_call>{"name": "get_weather", "arg',
        "<|python_tag|>{",
        '{"name": "get_weather", "arguments": {"city"',
        "<tool_call>" * 50,
    ],
)
def test_a_broken_call_is_a_call_that_cannot_be_read(text):
    assert evaluate(response=text, expected=[RIGHT]).label == "unreadable_call"


def test_hostile_text_is_refused_at_once():
    assert evaluate(response="[" * 500_000, expected=[RIGHT]).label == "unreadable_call"


def test_what_cannot_be_judged_raises():
    with pytest.raises(MissingInput):
        ToolSelectionAccuracy().evaluate(response=[RIGHT])
    with pytest.raises(EvaluationError):
        evaluate(response=[RIGHT], expected="get_weather")


values = st.recursive(
    st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
calls = st.lists(
    st.builds(
        lambda n, a: {"name": n, "arguments": a}, st.text(min_size=1), st.dictionaries(st.text(), values, max_size=3)
    ),
    max_size=4,
)


@given(calls, st.randoms())
def test_any_calls_agree_with_themselves_in_any_order(made, seed):
    shuffled = copy.deepcopy(made)
    seed.shuffle(shuffled)
    assert ToolSelectionAccuracy().evaluate(response=shuffled, baseline=made).score == 1.0


@given(st.text() | values)
def test_anything_has_a_result(answer):
    assert 0.0 <= evaluate(response=answer, expected=[RIGHT]).score <= 1.0
