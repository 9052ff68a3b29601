"""What evaluators are given: from the record of a request in this process, or from the attributes of a span.

Messages have the JSON form of OpenTelemetry's GenAI conventions.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from traceai_vllm.evals.slices import SlicedRequest
from traceai_vllm.telemetry import semconv

if TYPE_CHECKING:
    from collections.abc import Mapping

    from traceai_vllm.record import RequestRecord

    Inputs = dict[str, Any]

_SLICES_TAG = semconv.TAG_PREFIX + "slices"


@dataclass(frozen=True, slots=True)
class Said:
    """What was said in one request: messages, tool definitions and context in their JSON form."""

    input: list[Any] = field(default_factory=list)
    output: list[Any] = field(default_factory=list)
    tools: list[Any] = field(default_factory=list)
    context: list[Any] = field(default_factory=list)
    schema: Any = None


NOTHING = Said()


def said_in_record(record: RequestRecord) -> Said:
    """Return what was said in a request that ended in this process; nothing when its content was not captured."""
    content = None if record.content is None else record.content.read()
    if content is None:
        return NOTHING
    return Said(
        content.input_messages,
        content.output_messages,
        content.tool_definitions,
        content.context,
        content.output_schema,
    )


def said_in_attributes(attributes: Mapping[str, Any]) -> Said:
    """Return what was said in the request of a span that carries its content as JSON; nothing that cannot be read."""
    return Said(
        _json_list(attributes.get(semconv.INPUT_MESSAGES)),
        _json_list(attributes.get(semconv.OUTPUT_MESSAGES)),
        _json_list(attributes.get(semconv.TOOL_DEFINITIONS)),
        _json_list(attributes.get(semconv.RETRIEVED_CONTEXT)),
    )


def sliced_request(said: Said, attributes: Mapping[str, Any]) -> SlicedRequest:
    """Return what the slices of a request are told from: what its users wrote, and its span's attributes."""
    written = [_text(message) for message in reversed(said.input) if message.get("role") == "user"]
    tokens = attributes.get(semconv.USAGE_INPUT_TOKENS)
    tag = attributes.get(_SLICES_TAG)
    return SlicedRequest(
        text="\n\n".join(written) or None,
        input_tokens=tokens if isinstance(tokens, int) else None,
        offers_tools=bool(said.tools),
        route=attributes.get(semconv.ROUTE),
        overrides=tag if isinstance(tag, str) else None,
    )


def inputs_of_record(record: RequestRecord, attributes: Mapping[str, Any]) -> Inputs:
    """Return the inputs of a request that ended in this process; empty when its content was not captured.

    Args:
        record: the request.
        attributes: those of its span.
    """
    return evaluator_inputs(said_in_record(record), attributes)


def inputs_of_attributes(attributes: Mapping[str, Any]) -> Inputs:
    """Return the inputs of a span that carries its content as JSON; empty when it has none that can be read."""
    return evaluator_inputs(said_in_attributes(attributes), attributes)


def evaluator_inputs(said: Said, attributes: Mapping[str, Any]) -> Inputs:
    """Return the inputs of evaluators; empty without an answer.

    Args:
        said: what was said in the request.
        attributes: those of its span.
    """
    if not said.output:
        return {}
    answer = said.output[0]  # of several answers (n > 1) the first is evaluated
    text, calls = _text(answer), _tool_calls(answer)
    inputs: Inputs = {
        # What calls a tool says nothing that could be grounded.
        "response": None if calls and not text else text,
        "message": {"role": "assistant", "content": text, "tool_calls": calls},
        "context": [_document(entry) for entry in said.context] or None,
        "question": next((_text(m) for m in reversed(said.input) if m.get("role") == "user"), None),
        "tools": said.tools or None,
        "finish_reason": answer.get("finish_reason"),
        "route": attributes.get(semconv.ROUTE),
    }
    if attributes.get(semconv.OUTPUT_TYPE) == "json" and not calls:
        inputs["schema"] = _schema(said.schema)
    return inputs


def _schema(schema: Any) -> Any:
    # JSON was asked for: any JSON, unless the schema itself is known. vLLM takes it as a dictionary or as text.
    if not isinstance(schema, str):
        return schema or {}
    try:
        return json.loads(schema)
    except ValueError:
        return {}


def _text(message: Mapping[str, Any]) -> str:
    texts = [part.get("content") for part in message.get("parts", ()) if part.get("type") == "text"]
    return "\n".join(text for text in texts if isinstance(text, str))


def _tool_calls(message: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [
        {
            "id": part.get("id"),
            "type": "function",
            "function": {"name": part.get("name"), "arguments": part.get("arguments")},
        }
        for part in message.get("parts", ())
        if part.get("type") == "tool_call"
    ]


def _document(entry: Any) -> str:
    content = entry.get("content") if isinstance(entry, dict) else entry
    return content if isinstance(content, str) else json.dumps(content, ensure_ascii=False)


def _json_list(text: Any) -> list[Any]:
    # Content that was cut is no JSON any more; then there is nothing to evaluate.
    try:
        value = json.loads(text)
    except (TypeError, ValueError):
        return []
    return [entry for entry in value if isinstance(entry, dict)] if isinstance(value, list) else []
