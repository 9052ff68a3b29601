"""What evaluators are given from a request that ended in this process, and from a span that carries its content."""

from __future__ import annotations

import json
from typing import Any

import pytest
from opentelemetry.context import Context

from traceai_vllm.content import Content
from traceai_vllm.evals import JSONValidation
from traceai_vllm.evals.calling import run_evaluator
from traceai_vllm.evals.pipeline.inputs import inputs_of_attributes, inputs_of_record
from traceai_vllm.record import UNKNOWN_VARIANT, RequestRecord
from traceai_vllm.telemetry import semconv

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


def test_a_span_with_content_gives_what_the_record_gave() -> None:
    """``traceai-vllm evaluate`` sees the same inputs as the server did."""
    captured = Content(
        input_messages=[{"role": "user", "parts": [{"type": "text", "content": "How long?"}]}],
        output_messages=[answer("After 90 days.")],
        context=[{"source": "tags", "content": "After 180 days."}],
    )
    attributes = {
        semconv.ROUTE: "claims",
        semconv.INPUT_MESSAGES: json.dumps(captured.input_messages),
        semconv.OUTPUT_MESSAGES: json.dumps(captured.output_messages),
        semconv.RETRIEVED_CONTEXT: json.dumps(captured.context),
    }

    assert inputs_of_attributes(attributes) == inputs_of_record(record(captured), attributes)


@pytest.mark.parametrize("broken", ['[{"role": "assistant", "par', "null", '"text"', ""])
def test_content_that_was_cut_is_nothing_to_evaluate(broken: str) -> None:
    """A cut answer is not the answer."""
    assert inputs_of_attributes({semconv.OUTPUT_MESSAGES: broken}) == {}
