"""JSONValidation: what a client of the answer would run into, told apart and named."""

import json
import socket

import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from traceai_vllm.evals import EvaluationError, JSONValidation, MissingInput
from traceai_vllm.evals.json_schema import SchemaError
from traceai_vllm.evals.json_text import read_json

ORDER = {
    "type": "object",
    "properties": {
        "total": {"type": "integer"},
        "items": {"type": "array", "items": {"type": "object", "required": ["sku"]}},
    },
    "required": ["total"],
}

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@pytest.mark.parametrize(
    ("answer", "finish_reason", "label"),
    [
        ('{"total": 4}', "stop", "valid"),
        ('{"total": 4.5}', "stop", "schema_invalid"),
        ('{"total": "4"}', "stop", "schema_invalid"),
        ("{}", "stop", "schema_invalid"),
        ('{"total": 4', "length", "truncated"),
        ('{"total": 4', None, "truncated"),
        ('{"total": 4', "max_tokens", "truncated"),  # Anthropic's messages
        ("", "max_output_tokens", "truncated"),  # the Responses API
        ('{"total": 4, "items": [{"sku": "A-1\\', "length", "truncated"),
        ('{"total": tru', "length", "truncated"),
        ("", "length", "truncated"),
        ('{"total": 4', "stop", "malformed"),
        ("{total: 4}", "length", "malformed"),
        ('{"total": NaN}', "stop", "malformed"),
        ('{"total": 4} I hope this helps', "stop", "malformed"),
        ("", "stop", "malformed"),
        ('```json\n{"total": 4}\n```', "stop", "malformed"),
        ("[" * 5000 + "]" * 5000, "stop", "refused"),
        ('"' + "x" * 2_000_001 + '"', "stop", "refused"),
        ('{"total": ' + "9" * 5000 + "}", "stop", "refused"),
    ],
)
def test_each_way_to_be_wrong_has_its_label(answer, finish_reason, label):
    result = JSONValidation(ORDER).evaluate(response=answer, finish_reason=finish_reason)
    assert result.label == label
    assert result.passed is (label == "valid")
    assert result.score == (1.0 if label == "valid" else 0.0)


def test_the_path_of_the_fault_is_named():
    result = JSONValidation(ORDER).evaluate(response='{"total": 4, "items": [{"sku": 1}, {"price": 2}]}')
    assert "$.items[1]" in result.explanation
    assert '"sku"' in result.explanation
    assert result.details["violations"][0]["path"] == "$.items[1]"


def test_every_fault_counts():
    result = JSONValidation(ORDER).evaluate(response='{"items": [{}, {}, {}]}')
    assert result.counts["errors"] == 4


def test_a_number_rounded_into_the_wrong_type_is_caught():
    price = {"properties": {"cents": {"type": "integer"}, "rate": {"type": "number"}}}
    assert not JSONValidation(price).evaluate(response='{"cents": 1999.5}').passed
    assert JSONValidation(price).evaluate(response='{"cents": 1999.0}').passed, "JSON Schema calls 1999.0 an integer"
    strict = JSONValidation(price, strict_integers=True)
    assert "$.cents" in strict.evaluate(response='{"cents": 1999.0, "rate": 2.0}').explanation
    assert strict.evaluate(response='{"cents": 1999, "rate": 2.0}').passed


@pytest.mark.parametrize(
    ("response", "passed"),
    [
        ('{"days": 90.0}', False),
        ('{"days": 90}', True),
        ('{"days": null}', True),
        ('{"part": {"number": 7.0}}', False),
        ('{"rate": 12.0}', True),  # just within its bound
    ],
)
def test_an_optional_integer_is_one_too(response, passed):
    """As pydantic writes the schema of ``int | None``."""
    part = {"type": "object", "properties": {"number": {"type": "integer"}}}
    properties = {
        "days": {"anyOf": [{"type": "integer"}, {"type": "null"}]},
        "part": {"anyOf": [part, {"type": "null"}]},
        "rate": {"anyOf": [{"type": "number", "maximum": 12}, {"type": "null"}]},
    }
    strict = JSONValidation({"properties": properties}, strict_integers=True)
    assert strict.evaluate(response=response).passed is passed


def test_a_ref_never_reaches_the_network(monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("a connection was tried")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen()
    listener.settimeout(0.2)
    try:
        address = f"http://127.0.0.1:{listener.getsockname()[1]}/schema.json"
        for uri in (address, "file:///etc/hostname"):
            with pytest.raises(SchemaError, match="nothing is fetched"):
                JSONValidation({"$ref": uri}).evaluate(response="1")
        with pytest.raises(TimeoutError):
            listener.accept()
    finally:
        listener.close()


def test_a_ref_to_a_given_resource_is_followed():
    evaluator = JSONValidation({"$ref": "urn:money"}, resources={"urn:money": {"type": "integer"}})
    assert evaluator.evaluate(response="1").passed
    assert not evaluator.evaluate(response='"1"').passed


@pytest.mark.parametrize("schema", [{"type": 5}, "not json", "[]", 7, {"pattern": "("}])
def test_a_schema_that_is_none_says_nothing_about_the_answer(schema):
    with pytest.raises(SchemaError):
        JSONValidation().evaluate(response="{}", schema=schema)


def test_a_schema_too_deep_is_refused():
    schema: dict = {}
    for _ in range(5000):
        schema = {"not": schema}
    with pytest.raises(SchemaError):
        JSONValidation(schema).evaluate(response="1")


def doubling(keyword, levels, last):
    """A schema of which each level refers twice to the next."""
    twice = {f"a{n}": {keyword: [{"$ref": f"#/$defs/a{n + 1}"}] * 2} for n in range(levels)}
    return {"$ref": "#/$defs/a0", "$defs": {**twice, f"a{levels}": last}}


@pytest.mark.parametrize("keyword", ["allOf", "anyOf", "oneOf"])
def test_a_schema_that_doubles_at_each_level_is_refused_at_once(keyword):
    with pytest.raises(SchemaError, match="more than 200,000 steps"):
        JSONValidation(doubling(keyword, 40, {"type": "integer"})).evaluate(response='"x"')
    assert JSONValidation(doubling(keyword, 5, {"type": "integer"})).evaluate(response='"x"').label == "schema_invalid"


@pytest.mark.parametrize(
    "again",
    [
        {"$ref": "#"},
        {"$ref": "#/$defs/again"},
        {"$ref": "#again"},
        {"$ref": "https://example.org/all.json"},
        {"$ref": "all.json#/$defs/again"},
        {"$dynamicRef": "#again"},
    ],
)
def test_a_schema_that_doubles_with_the_depth_of_the_answer_is_refused_at_once(again):
    inner = {"allOf": [{"properties": {"a": again}}, {"properties": {"a": again}}]}
    schema = {
        "$id": "https://example.org/all.json",
        "$defs": {"again": {"$dynamicAnchor": "again", "$anchor": "again", **inner}},
        **inner,
    }
    with pytest.raises(SchemaError, match="more than 200,000 steps"):
        JSONValidation(schema).evaluate(response='{"a": ' * 40 + "1" + "}" * 40)
    assert JSONValidation(schema).evaluate(response='{"a": {"a": 1}}').passed


def test_many_schemas_on_many_values_are_refused_at_once():
    with pytest.raises(SchemaError, match="more than 200,000 steps"):
        JSONValidation({"items": {"allOf": [{"type": "string"}] * 3000}}).evaluate(response=json.dumps([1] * 3000))


def test_a_long_answer_and_a_schema_that_refers_to_itself_are_checked():
    tree = {"properties": {"left": {"$ref": "#"}, "right": {"$ref": "#"}, "value": {"type": "integer"}}}
    answer: dict = {"value": 1}
    for _ in range(10):
        answer = {"value": 1, "left": answer, "right": answer}
    assert JSONValidation(tree).evaluate(response=json.dumps(answer)).passed
    assert JSONValidation({"items": {"type": "integer"}}).evaluate(response=json.dumps([1] * 90_000)).passed


@pytest.mark.parametrize("schema", [{"$ref": "#"}, {"properties": {"a": {"$ref": "#"}}, "required": ["a"]}])
def test_a_schema_that_refers_to_itself_ends(schema):
    JSONValidation(schema).evaluate(response='{"a": {"a": {}}}')


def test_the_response_format_of_a_request_is_a_schema():
    strict = {"type": "json_schema", "json_schema": {"name": "order", "schema": ORDER}}
    assert not JSONValidation().evaluate(response="{}", schema=strict).passed
    assert JSONValidation().evaluate(response="{}", schema={"type": "json_object"}).passed
    assert not JSONValidation().evaluate(response="[]", schema={"type": "json_object"}).passed
    assert not JSONValidation().evaluate(response="[]", schema={"structured_outputs": {"json_object": True}}).passed


@pytest.mark.parametrize(
    "schema",
    [
        {"structured_outputs": {"json": ORDER}},
        {"json": json.dumps(ORDER)},
        {"guided_json": ORDER},
        {"text": {"format": {"type": "json_schema", "name": "order", "schema": ORDER}}},
        {"structured_outputs": {"json": ORDER, "disable_any_whitespace": True, "regex": None}},
        {"json": ORDER, "whitespace_pattern": " "},
        {"text": {"format": {"type": "json_schema", "name": "order", "schema": ORDER}, "verbosity": "low"}},
        {"response_format": {"type": "json_schema", "json_schema": {"name": "order", "schema": ORDER}}},
    ],
)
def test_what_a_request_calls_its_schema_is_one(schema):
    assert JSONValidation().evaluate(response="{}", schema=schema).label == "schema_invalid"


def test_a_schema_of_one_keyword_is_a_schema():
    assert not JSONValidation(formats=True).evaluate(response='"May"', schema={"format": "date"}).passed


def test_without_a_schema_only_the_form_is_checked():
    assert JSONValidation().evaluate(response="[1, 2]").passed
    assert not JSONValidation().evaluate(response="[1, 2").passed


def test_a_fence_can_be_allowed():
    fenced = 'Sure!\n```json\n{"total": 4}\n```'
    assert JSONValidation(unwrap_fences=True).evaluate(response=fenced[6:]).passed
    assert not JSONValidation(unwrap_fences=True).evaluate(response=fenced).passed
    assert JSONValidation(unwrap_fences=True).evaluate(response=fenced[6:].replace("\n", "\r\n")).passed


def test_json_in_a_fence_that_the_token_limit_cuts_is_truncated():
    result = JSONValidation(unwrap_fences=True).evaluate(response='```json\n{"total": 4', finish_reason="length")
    assert result.label == "truncated"


def test_a_pydantic_model_is_a_schema_and_its_object_a_value():
    class Order(pydantic.BaseModel):
        total: int

    assert "$.total" in JSONValidation(Order).evaluate(response='{"total": "4"}').explanation
    assert JSONValidation().evaluate(response=Order(total=4), schema=ORDER).passed


@pytest.mark.parametrize("value", [b"{}", {1, 2}, object()])
def test_what_is_no_json_value_has_no_score(value):
    with pytest.raises(EvaluationError, match="no JSON value"):
        JSONValidation(ORDER).evaluate(response=value)


def test_a_pattern_that_never_ends_says_nothing_about_the_answer():
    with pytest.raises(EvaluationError, match="cannot be matched in time"):
        JSONValidation({"pattern": r"^(a|a)*\1?(?=b)$"}).evaluate(response='"' + "a" * 40 + '"')


def test_an_exponent_that_no_number_may_have_is_refused():
    assert JSONValidation().evaluate(response='{"a": 1e99999999999999999999}').label == "refused"


def test_half_a_surrogate_pair_is_no_error_of_ours():
    assert not JSONValidation({"type": "string"}).evaluate(response='"\\ud800"').passed


def test_no_answer_is_no_score():
    with pytest.raises(MissingInput):
        JSONValidation().evaluate(response=None)


@given(json_values)
def test_any_json_value_is_valid_json(value):
    assert JSONValidation().evaluate(response=json.dumps(value)).passed


@given(st.dictionaries(st.text(min_size=1), json_values, min_size=1), st.data())
def test_any_beginning_of_an_object_is_truncated_and_never_malformed(value, data):
    text = json.dumps(value)
    cut = data.draw(st.integers(1, len(text) - 1))
    assert read_json(text[:cut]).problem == "truncated"


@given(st.text())
def test_any_text_has_a_result(text):
    result = JSONValidation({"type": "object"}).evaluate(response=text)
    assert result.label in {"valid", "schema_invalid", "truncated", "malformed", "refused"}


@pytest.mark.parametrize(
    ("text", "paths"),
    [
        ('{"a": 1, "a": 2}', ["$.a"]),
        ('{"x": [{}, {"fee": {"days": 90, "days": 180}}]}', ["$.x[1].fee.days"]),
        ('{"a": 1, "a": true}', ["$.a"]),
        ('{"a": 1, "b": 3, "a": 2, "b": 4}', ["$.a", "$.b"]),
        ('{"a": {"b": 1, "b": 2}, "a": 3}', ["$.a"]),
    ],
)
def test_one_name_with_two_values_is_named(text, paths):
    result = JSONValidation().evaluate(response=text)
    assert (result.label, result.score) == ("duplicate_name", 0.0)
    assert result.details["paths"] == paths
    assert all(path in result.explanation for path in paths)


def test_one_name_with_the_same_value_twice_loses_nothing():
    assert JSONValidation().evaluate(response='{"a": [1, {"b": 2}], "a": [1, {"b": 2}]}').label == "valid"
