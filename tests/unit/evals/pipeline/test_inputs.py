"""What evaluators are given from a request that ended in this process, and from a span that carries its content."""

from __future__ import annotations

import json
from typing import Any

import pytest
from opentelemetry.context import Context

from traceai_vllm.content import Content
from traceai_vllm.content.content import ContentReader
from traceai_vllm.content.options import ContentMode, ContentOptions
from traceai_vllm.evals import Groundedness, JSONValidation, ToolSelectionAccuracy
from traceai_vllm.evals.calling import run_evaluator
from traceai_vllm.evals.pipeline.inputs import inputs_of_attributes, inputs_of_record
from traceai_vllm.evals.pipeline.runner import Runner
from traceai_vllm.evals.tool_calls import read_tool_calls
from traceai_vllm.record import UNKNOWN_VARIANT, RequestRecord
from traceai_vllm.telemetry import semconv
from traceai_vllm.telemetry.content import ContentExport

SCHEMA = {"type": "object", "properties": {"days": {"type": "integer"}}, "required": ["days"]}
JSON_WANTED = {semconv.OUTPUT_TYPE: "json", semconv.ROUTE: "claims"}


def answer(text: str) -> dict[str, Any]:
    return {"role": "assistant", "parts": [{"type": "text", "content": text}], "finish_reason": "stop"}


def record(content: Content) -> RequestRecord:
    class Captured:
        def read(self) -> Content:
            return content

    return RequestRecord(Context(), UNKNOWN_VARIANT, "chat", 1, 2, content=Captured())


@pytest.mark.parametrize("schema", [SCHEMA, json.dumps(SCHEMA)], ids=["dictionary", "text"])
def test_an_answer_is_checked_against_the_schema_that_it_was_held_to(schema: Any) -> None:
    """vLLM takes a schema in two forms; either way a number in the wrong type is found."""
    captured = Content(output_messages=[answer('{"days": 90.5}')], output_schema=schema)

    result = run_evaluator(JSONValidation(), inputs_of_record(record(captured), JSON_WANTED))

    assert (result.score, result.label) == (0.0, "schema_invalid")
    assert "days" in result.explanation


@pytest.mark.parametrize("schema", [None, "{cut off", ""])
def test_without_a_schema_that_can_be_read_any_json_is_valid(schema: Any) -> None:
    """That JSON was asked for is known from the span."""
    captured = Content(output_messages=[answer("[1, 2]")], output_schema=schema)

    assert run_evaluator(JSONValidation(), inputs_of_record(record(captured), JSON_WANTED)).score == 1.0


def test_an_answer_that_was_to_be_text_is_not_checked_as_json() -> None:
    """No schema, no score: a number of 0 for every chat answer would say nothing."""
    inputs = inputs_of_record(record(Content(output_messages=[answer("Hello")])), {})

    assert inputs["response"] == "Hello"
    assert "schema" not in inputs


@pytest.mark.parametrize(
    ("text", "judged"),
    [
        ("<think>\nNinety days? No.\n</think>\n\nIt is 14 days.", "It is 14 days."),
        ("Ninety days? No.</think>It is 14 days.", "It is 14 days."),  # the template has opened it
        ("<think>\nNinety days? Perh", ""),
        ("Write <think> to begin.", "Write <think> to begin."),
    ],
)
def test_what_a_model_thought_aloud_is_no_part_of_its_answer(text: str, judged: str) -> None:
    """Offline, vLLM leaves thoughts in the text; they are full of guesses that no context supports."""
    inputs = inputs_of_record(record(Content(output_messages=[answer(text)])), {})

    assert inputs["response"] == judged
    assert inputs["message"]["content"] == judged


TOOLS = [{"type": "function", "name": "search", "parameters": {"type": "object", "properties": {"q": {}}}}]


@pytest.mark.parametrize(
    "text",
    [
        '<tool_call>\n{"name": "search", "arguments": {"q": "refunds"}}\n</tool_call>',
        'I will look that up. <tool_call>\n{"name": "search", "arguments": {"q": "refunds"}}\n</tool_call>',
        '[search(q="refunds")]',
    ],
)
def test_calls_that_a_model_wrote_as_text_are_judged_as_calls_alone(text: str) -> None:
    """Offline, vLLM leaves calls in the text: they claim nothing, and are no answer in JSON."""
    evaluators = [Groundedness(), JSONValidation(), ToolSelectionAccuracy()]
    captured = Content(output_messages=[answer(text)], tool_definitions=TOOLS, context=["Refunds take 14 days."])

    outcomes = Runner(evaluators).run(inputs_of_record(record(captured), JSON_WANTED))

    assert [(outcome.name, outcome.result and outcome.result.label) for outcome in outcomes] == [
        ("ToolSelectionAccuracy", "correct")
    ]


def test_json_that_looks_like_a_call_of_no_offered_tool_is_an_answer() -> None:
    """An answer with a name and parameters is what the schema asked for."""
    captured = Content(output_messages=[answer('{"name": "Ann", "parameters": {}}')], tool_definitions=TOOLS)

    outcomes = Runner([JSONValidation()]).run(inputs_of_record(record(captured), JSON_WANTED))

    assert [outcome.name for outcome in outcomes] == ["JSONValidation"]


def test_a_span_with_content_gives_what_the_record_gave() -> None:
    """``traceai-vllm evaluate`` sees the same inputs as the server did."""
    captured = Content(
        input_messages=[{"role": "user", "parts": [{"type": "text", "content": "How long?"}]}],
        output_messages=[answer("After 90 days.")],
        context=[{"source": "tags", "content": "After 180 days."}],
        output_schema=SCHEMA,
        expected_calls=[],
    )
    attributes = {
        semconv.ROUTE: "claims",
        semconv.OUTPUT_SCHEMA: json.dumps(SCHEMA),
        semconv.EXPECTED_CALLS: "[]",
        semconv.INPUT_MESSAGES: json.dumps(captured.input_messages),
        semconv.OUTPUT_MESSAGES: json.dumps(captured.output_messages),
        semconv.RETRIEVED_CONTEXT: json.dumps(captured.context),
    }

    assert inputs_of_attributes(attributes) == inputs_of_record(record(captured), attributes)


@pytest.mark.parametrize("broken", ['[{"role": "assistant", "par', "null", '"text"', ""])
def test_content_that_was_cut_is_nothing_to_evaluate(broken: str) -> None:
    """A cut answer is not the answer."""
    assert inputs_of_attributes({semconv.OUTPUT_MESSAGES: broken}) == {}


def exported(content: Content, **options: Any) -> dict[str, Any]:
    """What of a request's content its span has, after redaction and cuts."""
    options = ContentOptions(mode=ContentMode.SPAN_ONLY, **options)
    read = ContentReader(options).read(lambda: content)
    assert read
    return ContentExport(options, None).span_attributes(record(read))


def test_what_was_cut_on_its_way_to_the_span_is_not_judged() -> None:
    """A JSON answer without its end is no broken answer, and a context without its end supports less than it did."""
    content = Content(
        output_messages=[answer('{"days": 90, "note": "' + "x" * 300 + '"}')],
        context=[{"source": "tags", "content": "y" * 300}],
        output_schema=SCHEMA,
    )
    whole, cut = exported(content, max_length=1_000), exported(content, max_length=200)

    assert run_evaluator(JSONValidation(), inputs_of_attributes(whole)).passed
    assert inputs_of_attributes(whole)["context"]
    assert cut[semconv.CONTENT_LEFT_OUT] > 0
    assert inputs_of_attributes(cut) == {}
    only_context = {**whole, semconv.RETRIEVED_CONTEXT: cut[semconv.RETRIEVED_CONTEXT], semconv.CONTENT_LEFT_OUT: 100}
    assert inputs_of_attributes(only_context)["context"] is None
    quoting = answer("They write …[12 characters left out].")
    assert inputs_of_attributes(exported(Content(output_messages=[quoting])))["response"], "nothing was cut here"


def test_a_schema_leaves_whole_and_with_nothing_to_hide_or_stays() -> None:
    """Cut or redacted it would be another schema; evaluators here have it all the same."""
    secret = {"type": "object", "description": "mail ann@example.org"}
    for schema, options in ((secret, {}), ({"enum": ["x" * 300]}, {"max_length": 200}), ({"a": object()}, {})):
        content = Content(output_messages=[answer("{}")], output_schema=schema)
        assert semconv.OUTPUT_SCHEMA not in exported(content, **options)
        assert content.output_schema is schema


def test_an_expected_call_reaches_the_evaluator() -> None:
    """From the tags of the request, an empty list too: no call is due."""
    called = {"role": "assistant", "parts": [{"type": "tool_call", "name": "wait", "arguments": {"days": 9}}]}
    for expected, label in (([{"name": "wait", "arguments": {"days": 8}}], "wrong_value"), ([], "needless_call")):
        inputs = inputs_of_record(record(Content(output_messages=[called], expected_calls=expected)), {})
        result = run_evaluator(ToolSelectionAccuracy(), {**inputs, "response": inputs["message"]})
        assert (result.label, result.details["against"]) == (label, "expected")


def test_a_call_that_the_request_asked_for_is_missed() -> None:
    """Or one that it did not allow: ``tool_choice`` reaches the evaluator, here and from the span."""
    called = {"role": "assistant", "parts": [{"type": "tool_call", "name": "search", "arguments": {"q": "B"}}]}
    one = {"type": "function", "function": {"name": "other"}}
    for choice, said, label in (
        ("required", answer("Plan B."), "missing_call"),
        ("none", called, "needless_call"),
        (one, called, "wrong_tool"),
        ("auto", called, "correct"),
    ):
        captured = Content(output_messages=[said], tool_definitions=TOOLS, tool_choice=choice)
        here, stored = inputs_of_record(record(captured), {}), inputs_of_attributes(exported(captured))
        for inputs in (here, stored):
            result = run_evaluator(ToolSelectionAccuracy(), {**inputs, "response": inputs["message"]})
            assert (result.label, result.details["against"]) == (label, "tools")


def test_a_schema_of_the_applications_own_needs_no_structured_output() -> None:
    """JSON that was asked for in the prompt alone."""
    captured = Content(output_messages=[answer("Ninety days.")], output_schema=SCHEMA)
    assert run_evaluator(JSONValidation(), inputs_of_record(record(captured), {})).label == "malformed"


OPENAI = {
    "role": "assistant",
    "content": "After 90 days.",
    "tool_calls": [{"id": "1", "type": "function", "function": {"name": "wait", "arguments": "{}"}}],
}


RESPONSES = {"role": "assistant", "content": [{"type": "output_text", "text": "After 90 days."}]}
ANTHROPIC = {
    "role": "assistant",
    "content": [
        {"type": "text", "text": "After 90 days."},
        {"type": "tool_use", "id": "1", "name": "wait", "input": {}},
    ],
}


@pytest.mark.parametrize(
    "message",
    [
        OPENAI,
        {**OPENAI, "content": [{"type": "text", "text": "After 90 days."}]},
        {**RESPONSES, "tool_calls": OPENAI["tool_calls"]},
        ANTHROPIC,
    ],
    ids=["text", "parts", "responses", "anthropic"],
)
def test_other_instrumentations_messages_are_read(message: dict[str, Any]) -> None:
    """Some write them as the APIs have them; read as empty, such an answer would have a score that it has not."""
    inputs = inputs_of_attributes(
        {semconv.OUTPUT_MESSAGES: json.dumps([message]), semconv.RESPONSE_FINISH_REASONS: ("length",)}
    )
    assert (inputs["response"], inputs["finish_reason"]) == ("After 90 days.", "length")
    assert [(call.name, call.arguments) for call in read_tool_calls(inputs["message"])] == [("wait", {})]


@pytest.mark.parametrize("parts", [None, "text", ["text", None], {"type": "text"}, [{"type": "text", "content": 5}]])
def test_messages_of_another_form_are_no_error(parts: Any) -> None:
    """Whatever another library put there."""
    inputs_of_attributes({semconv.OUTPUT_MESSAGES: json.dumps([{"role": "assistant", "parts": parts}])})
