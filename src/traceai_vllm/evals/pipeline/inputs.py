"""What evaluators are given: from the record of a request in this process, or from the attributes of a span.

Messages have the JSON form of OpenTelemetry's GenAI conventions.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from traceai_vllm.telemetry import semconv

if TYPE_CHECKING:
    from collections.abc import Mapping

    from traceai_vllm.record import RequestRecord

    Inputs = dict[str, Any]


def inputs_of_record(record: RequestRecord, attributes: Mapping[str, Any]) -> Inputs:
    """Return the inputs of a request that ended in this process; empty when its content was not captured.

    Args:
        record: the request.
        attributes: those of its span.
    """
    content = None if record.content is None else record.content.read()
    if content is None:
        return {}
    return _inputs(
        attributes,
        {
            "input": content.input_messages,
            "output": content.output_messages,
            "tools": content.tool_definitions,
            "context": content.context,
        },
        content.output_schema,
    )


def inputs_of_attributes(attributes: Mapping[str, Any]) -> Inputs:
    """Return the inputs of a span that carries its content as JSON; empty when it has none that can be read."""
    return _inputs(
        attributes,
        {
            "input": _json_list(attributes.get(semconv.INPUT_MESSAGES)),
            "output": _json_list(attributes.get(semconv.OUTPUT_MESSAGES)),
            "tools": _json_list(attributes.get(semconv.TOOL_DEFINITIONS)),
            "context": _json_list(attributes.get(semconv.RETRIEVED_CONTEXT)),
        },
    )


def _inputs(attributes: Mapping[str, Any], content: dict[str, list[Any]], schema: Any = None) -> Inputs:
    if not content["output"]:
        return {}
    answer = content["output"][0]  # of several answers (n > 1) the first is evaluated
    text, calls = _text(answer), _tool_calls(answer)
    inputs: Inputs = {
        # What calls a tool says nothing that could be grounded.
        "response": None if calls and not text else text,
        "message": {"role": "assistant", "content": text, "tool_calls": calls},
        "context": [_document(entry) for entry in content["context"]] or None,
        "question": next((_text(m) for m in reversed(content["input"]) if m.get("role") == "user"), None),
        "tools": content["tools"] or None,
        "finish_reason": answer.get("finish_reason"),
        "route": attributes.get(semconv.ROUTE),
    }
    if attributes.get(semconv.OUTPUT_TYPE) == "json" and not calls:
        inputs["schema"] = _schema(schema)
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
