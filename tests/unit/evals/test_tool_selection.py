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


def test_definitions_alone_do_not_say_whether_a_call_is_due():
    with pytest.raises(MissingInput, match="do not say whether"):
        evaluate(response="It rains in Oslo.")
    with pytest.raises(MissingInput):
        evaluate(response="It rains in Oslo.", tool_choice="auto")
    with pytest.raises(MissingInput):
        evaluate(response="It rains in Oslo.", tool_choice={"type": "allowed_tools", "mode": "auto", "tools": []})


NAMED = {"type": "function", "function": {"name": "get_weather"}}


@pytest.mark.parametrize(
    ("choice", "made", "label"),
    [
        ("required", "It rains in Oslo.", "missing_call"),
        ({"type": "any"}, "It rains in Oslo.", "missing_call"),
        (NAMED, "It rains in Oslo.", "missing_call"),
        ("required", [RIGHT], "correct"),
        (NAMED, [RIGHT], "correct"),
        (NAMED, [call("get_news", topic="rain")], "wrong_tool"),
        ({"type": "tool", "name": "get_weather"}, [call("get_news", topic="rain")], "wrong_tool"),
        ({"type": "function", "name": "get_weather"}, [RIGHT], "correct"),
        (
            {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "function", "name": "get_weather"}]},
            [RIGHT],
            "correct",
        ),
        (
            {"type": "allowed_tools", "allowed_tools": {"mode": "required", "tools": [NAMED]}},
            "It rains.",
            "missing_call",
        ),
        ({"type": "web_search_preview"}, [RIGHT], "correct"),
        ("none", [RIGHT], "needless_call"),
        ("none", "It rains in Oslo.", "no_call"),
    ],
)
def test_a_choice_of_tools_says_whether_a_call_is_due(choice, made, label):
    result = evaluate(response=made, tool_choice=choice)
    assert result.label == label
    assert result.passed is (label in {"correct", "no_call"})


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


def test_what_is_expected_is_shown_as_it_was_given():
    wanted = {"name": "book", "arguments": {"when": {"day": "Monday", "hours": [18, 20]}}}
    made = {"name": "book", "arguments": {"when": {"day": "Tuesday", "hours": [18, 20]}}}
    said = ToolSelectionAccuracy().evaluate(response=[made], expected=[wanted]).explanation
    assert 'expected {"day": "Monday", "hours": [18, 20]}' in said


def test_null_is_how_a_strict_tool_leaves_an_argument_out():
    """OpenAI's strict tools require every argument, and so the model writes null."""
    optional = {"type": ["integer", "null"]}, {"anyOf": [{"type": "string"}, {"type": "null"}]}
    properties = {"city": {"type": "string"}, "days": optional[0], "unit": optional[1]}
    tool = {
        "name": "get_weather",
        "parameters": {"type": "object", "properties": properties, "required": [*properties]},
    }

    def label(**arguments):
        made, expected = [call(city="Oslo", **arguments)], [call(city="Oslo")]
        return ToolSelectionAccuracy().evaluate(response=made, expected=expected, tools=[tool]).label

    assert label(days=None, unit=None) == "correct"
    assert label(days=3, unit=None) == "unexpected_argument"
    assert label(days=None) == "missing_argument"


def test_harmless_spellings_stop_where_a_number_changes():
    wanted = [call(city="2024-01-05", zoom=2.0)]
    assert evaluate(response=[call(city="2024/01/05", zoom=2)], expected=wanted).passed
    for one, other in [("1.5", "15"), ("-5", "5"), ("10.5 km", "105 km"), ("1,000", "100")]:
        assert not evaluate(response=[call(city=one)], expected=[call(city=other)]).passed
    assert evaluate(response=[call(city="1,000")], expected=[call(city="1000")]).passed
    assert not evaluate(response=[call(city=True)], expected=[call(city=1)]).passed
    for one, other in [("-5 C", "5 C"), ("1-23", "12-3"), ("01234", "1234"), ("1e400", "1e401"), ("1.2.34", "1.23.4")]:
        assert not evaluate(response=[call(city=one)], expected=[call(city=other)]).passed
    for one, other in [
        ("555-1234", "5551234"),
        ("3.5,-1.2", "3.5, -1.2"),
        ("New\u00a0York", "New York"),
        ("O\u2019Brien", "O'Brien"),
    ]:
        assert evaluate(response=[call(city=one)], expected=[call(city=other)]).passed
    assert evaluate(response=[call(city="Malmo\u0308")], expected=[call(city="Malm\u00f6")]).passed


def test_expected_calls_may_be_a_message_or_objects():
    message = {"role": "assistant", "content": None, "tool_calls": [{"id": "1", "type": "function", "function": RIGHT}]}
    for expected in (message, {"choices": [{"message": message}]}, types.SimpleNamespace(**message), RIGHT):
        assert evaluate(response=[RIGHT], expected=expected).passed
        assert not evaluate(response=[call("get_news", topic="x")], expected=expected).passed
    assert evaluate(response="None.", expected={"role": "assistant", "content": "None.", "tool_calls": []}).passed


@pytest.mark.parametrize("tools", [WEATHER, WEATHER["function"], json.dumps([WEATHER]), [WEATHER, {"type": "search"}]])
def test_tools_come_in_several_forms(tools):
    assert ToolSelectionAccuracy().evaluate(response=[RIGHT], tools=tools).passed


@pytest.mark.parametrize("tools", [{"get_weather": {}}, [len], "get_weather", ["get_weather"]])
def test_tools_that_cannot_be_read_are_no_wrong_call(tools):
    with pytest.raises(EvaluationError, match="tools are a list of definitions"):
        ToolSelectionAccuracy().evaluate(response=[RIGHT], tools=tools)


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
    "genai": {"role": "assistant", "parts": [{"type": "text", "content": "Hm"}, {"type": "tool_call", **RIGHT}]},
    "genai messages": [{"role": "assistant", "parts": [{"type": "tool_call", **RIGHT}], "finish_reason": "tool_call"}],
    "gemini": {
        "candidates": [
            {
                "content": {
                    "role": "model",
                    "parts": [{"text": "Hm"}, {"functionCall": {"name": "get_weather", "args": RIGHT["arguments"]}}],
                }
            }
        ]
    },
    "gemini content": {
        "role": "model",
        "parts": [{"function_call": {"name": "get_weather", "args": RIGHT["arguments"]}}],
    },
    "gemini sdk": [
        types.SimpleNamespace(function_call=types.SimpleNamespace(name="get_weather", args=RIGHT["arguments"]))
    ],
    "gemini raw": json.dumps({"functionCall": {"name": "get_weather", "args": RIGHT["arguments"]}}),
    "gemini raw list": json.dumps([{"function_call": {"name": "get_weather", "args": RIGHT["arguments"]}}]),
    "deepeval": [{"name": "get_weather", "input_parameters": RIGHT["arguments"], "output": None}],
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
    "llama 4": '<|python_start|>[get_weather(city="Oslo", days=3)]<|python_end|>',
    "lfm2": '<|tool_call_start|>[get_weather(city="Oslo", days=3)]<|tool_call_end|>',
    "lfm2 and goes on": 'Sure. <|tool_call_start|>[get_weather(city="Oslo", days=3)]<|tool_call_end|>I look it up.',
    "olmo": '<function_calls>get_weather(city="Oslo", days=3)</function_calls>',
    "deepseek v3": "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>get_weather\n```json\n"
    '{"city": "Oslo", "days": 3}\n```<｜tool▁call▁end｜><｜tool▁calls▁end｜>',
    "deepseek v3.1": "I look.<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>get_weather<｜tool▁sep｜>"
    '{"city": "Oslo", "days": 3}<｜tool▁call▁end｜><｜tool▁calls▁end｜>',
    "deepseek v3.2": '<｜DSML｜function_calls>\n<｜DSML｜invoke name="get_weather">\n<｜DSML｜parameter name="city" '
    'string="true">Oslo</｜DSML｜parameter>\n<｜DSML｜parameter name="days" string="false">3</｜DSML｜parameter>\n'
    "</｜DSML｜invoke>\n</｜DSML｜function_calls>",
    "minimax": '<minimax:tool_call>\n<invoke name="get_weather">\n<parameter name="city">Oslo</parameter>\n'
    '<parameter name="days">3</parameter>\n</invoke>\n</minimax:tool_call>',
    "minimax m1": f"<tool_calls>\n{json.dumps(RIGHT)}\n</tool_calls>",
    "jamba": f"<tool_calls>[{json.dumps(RIGHT)}]</tool_calls>",
    "glm": "<tool_call>get_weather\n<arg_key>city</arg_key>\n<arg_value>Oslo</arg_value>\n<arg_key>days</arg_key>\n"
    "<arg_value>3</arg_value>\n</tool_call>",
    "harmony": "<|channel|>analysis<|message|>They ask for Oslo.<|end|><|start|>assistant<|channel|>commentary "
    'to=functions.get_weather <|constrain|>json<|message|>{"city": "Oslo", "days": 3}<|call|>',
    "gemma": "<start_function_call>call:get_weather{city:<escape>Oslo<escape>,days:3}<end_function_call>",
    "gigachat": f"I look.<|message_sep|>\n\nfunction call<|role_sep|>\n{json.dumps(RIGHT)}<|message_sep|>",
    "gigachat new": f"I look.<|function_call|>{json.dumps(RIGHT)}",
    "gemma 4": 'I look. <|tool_call>call:get_weather{city:<|"|>Oslo<|"|>,days:3}<tool_call|>',
    "apertus": 'I look. <|tools_prefix|>[{"get_weather": {"city": "Oslo", "days": 3}}]<|tools_suffix|>',
    "internlm": f"<|action_start|><|plugin|>\n{json.dumps(RIGHT)}<|action_end|>",
    "cohere": '<|START_ACTION|>[{"tool_call_id": "0", "tool_name": "get_weather", "parameters": '
    '{"city": "Oslo", "days": 3}}]<|END_ACTION|>',
    "after a thought": f"<think>Or <tool_call>news</tool_call>?</think>\n<tool_call>{json.dumps(RIGHT)}</tool_call>",
}


@pytest.mark.parametrize("form", FORMS)
def test_every_usual_form_of_a_call_is_read(form):
    result = evaluate(response=FORMS[form], expected=[RIGHT])
    assert result.passed, result.explanation


def test_calls_in_python_may_have_the_words_of_json():
    text = "[f(all=true, none=null, inner={'a': [false]})]"
    arguments = {"all": True, "none": None, "inner": {"a": [False]}}
    assert evaluate(response=text, expected=[{"name": "f", "arguments": arguments}]).passed
    assert evaluate(response="[f(all=yes)]", expected=[{"name": "f", "arguments": {}}]).label == "unreadable_call"


@pytest.mark.parametrize(
    "text",
    [
        "<start_function_call>call:f{where:{note:<escape>to: a, b<escape>,all:true},ids:[<escape>p<escape>,2.5]}"
        "<end_function_call>",
        'function call<|role_sep|>\n{"name": "f", "arguments": '
        '{"where": {"note": "to: a, b", "all": true}, "ids": ["p", 2.5]}}',
    ],
)
def test_arguments_may_hold_others(text):
    arguments = {"where": {"note": "to: a, b", "all": True}, "ids": ["p", 2.5]}
    assert evaluate(response=text, expected=[{"name": "f", "arguments": arguments}]).passed
    cut = evaluate(response=text[:60], expected=[{"name": "f", "arguments": arguments}])
    assert not cut.passed


def test_gemmas_strings_may_have_what_parts_its_arguments():
    text = '<|tool_call>call:f{where:{note:<|"|>to: a, {"b"}<|"|>,all:true},ids:[<|"|>p<|"|>,2.5]}<tool_call|>'
    arguments = {"where": {"note": 'to: a, {"b"}', "all": True}, "ids": ["p", 2.5]}
    assert evaluate(response=text, expected=[{"name": "f", "arguments": arguments}]).passed


def test_several_calls_in_one_raw_text():
    other = {"name": "get_news", "arguments": {"topic": "rain"}}
    for mark in ("tool_call", "tool_calls"):
        lines = f"\n</{mark}>\n<{mark}>\n" if mark == "tool_call" else "\n"
        text = f"<{mark}>\n{json.dumps(RIGHT)}{lines}{json.dumps(other)}\n</{mark}>"
        assert evaluate(response=text, expected=[other, RIGHT]).passed
    # Llama 3, and OLMo 3.
    assert evaluate(response=f"{json.dumps(RIGHT)}; {json.dumps(other)}", expected=[RIGHT, other]).passed
    lines = 'get_weather(city="Oslo", days=3)\nget_news(topic="rain")'
    assert evaluate(response=f"<function_calls>{lines}</function_calls>", expected=[RIGHT, other]).passed
    cut = evaluate(response=f'{json.dumps(RIGHT)}; {{"name": "get_n', expected=[RIGHT, other])
    assert (cut.label, cut.counts["right"]) == ("unreadable_call", 1)
    cut = evaluate(response=f'<tool_calls>\n{json.dumps(RIGHT)}\n{{"name": "get_n', expected=[other, RIGHT])
    assert (cut.label, cut.counts["right"]) == ("unreadable_call", 1)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "It rains.",
        "f(x) = 3 is a function",
        '{"temperature": 3}',
        "[1, 2]",
        "print",
        '{"name": "Ada"}',
        "Paris (France)",
        "Yes (probably)",
        "print('hi')",
    ],
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
        '<|tool_call>call:get_weather{city:<|"|>Os',
    ],
)
def test_a_broken_call_is_a_call_that_cannot_be_read(text):
    assert evaluate(response=text, expected=[RIGHT]).label == "unreadable_call"


def test_hostile_text_is_refused_at_once():
    assert evaluate(response="[" * 500_000, expected=[RIGHT]).label == "unreadable_call"


@pytest.mark.parametrize(
    "text",
    [
        "[TOOL_CALLS]a" + " " * 50_000 + "x",
        "<|tool_call_begin|>" + " " * 50_000 + "x",
        "<start_function_call>call:f{" + " " * 50_000 + "x",
        "<invoke name=" + "a" * 50_000,
        '<invoke name="f"><parameter name=' + "a" * 50_000,
        "<tool_call>f" + "<arg_key>" * 10_000,
        "<function=" * 10_000,
        "```" + "\n" * 50_000 + "x",
    ],
)
def test_text_that_could_be_split_in_many_ways_is_read_in_one(text):
    """Each of these took minutes or more, and Python's lock with it, so that no time-out could help."""
    assert not evaluate(response=text, expected=[RIGHT]).passed


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        ({"anyOf": [{"type": "string"}, {"type": "null"}]}, "90210"),
        ({"type": ["string", "null"]}, "90210"),
        ({"enum": ["90210", "10001"]}, "90210"),
        ({"anyOf": [{"type": "string"}, {"type": "null"}]}, None),
        ({"type": ["integer", "null"]}, 90210),
    ],
)
def test_arguments_in_tags_have_the_type_that_the_schema_gives(schema, value):
    tool = {"name": "find", "parameters": {"type": "object", "properties": {"zip": schema}, "required": ["zip"]}}
    text = f"<tool_call>\n<function=find>\n<parameter=zip>\n{value}\n</parameter>\n</function>\n</tool_call>"
    expected = [{"name": "find", "arguments": {"zip": value}}]
    assert ToolSelectionAccuracy().evaluate(response=text, tools=[tool], expected=expected).passed
    assert ToolSelectionAccuracy().evaluate(response=text, tools=[tool]).passed


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
