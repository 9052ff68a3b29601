"""What evaluators are given: from the record of a request in this process, or from the attributes of a span.

Messages have the JSON form of OpenTelemetry's GenAI conventions.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from traceai_vllm.content import messages
from traceai_vllm.evals.slices import SlicedRequest
from traceai_vllm.evals.tool_definitions import read_tools
from traceai_vllm.evals.tool_text import after_thought, calls_in_text
from traceai_vllm.telemetry import semconv

if TYPE_CHECKING:
    from collections.abc import Mapping

    from traceai_vllm.record import RequestRecord

    Inputs = dict[str, Any]

_SLICES_TAG = semconv.TAG_PREFIX + "slices"
# In the conventions' words, OpenAI's and Anthropic's.
_TEXTS = frozenset({"text", "output_text", "input_text"})
_CALLS = frozenset({"tool_call", "function_call", "tool_use"})
# What `traceai_vllm.content.limits` writes where it cuts.
_CUT = re.compile(r"…\[\d+ (?:more left out, \d+ characters|characters left out)\]")


@dataclass(frozen=True, slots=True)
class Said:
    """What was said in one request: messages, tool definitions and context in their JSON form.

    Attributes:
        input: the conversation.
        output: the answers.
        tools: the tools that were offered.
        context: the retrieved context.
        schema: the JSON schema that the answer is to meet, a dictionary or its text.
        expected: the tool calls that are right; None when nobody said so.
        tool_choice: whether a tool was to be called, or which; None when the request did not say.
    """

    input: list[Any] = field(default_factory=list)
    output: list[Any] = field(default_factory=list)
    tools: list[Any] = field(default_factory=list)
    context: list[Any] = field(default_factory=list)
    schema: Any = None
    expected: Any = None
    tool_choice: Any = None


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
        content.expected_calls,
        content.tool_choice,
    )


def said_in_attributes(attributes: Mapping[str, Any]) -> Said:
    """Return what was said in the request of a span that carries its content as JSON; nothing that cannot be read."""
    return Said(
        _json_list(attributes.get(semconv.INPUT_MESSAGES)),
        _whole_list(attributes, semconv.OUTPUT_MESSAGES),
        _whole_list(attributes, semconv.TOOL_DEFINITIONS),
        _whole_list(attributes, semconv.RETRIEVED_CONTEXT),
        _json(attributes.get(semconv.OUTPUT_SCHEMA)),
        _json(attributes.get(semconv.EXPECTED_CALLS)),
        _json(attributes.get(semconv.TOOL_CHOICE)),
    )


def with_given(said: Said, given: Mapping[str, Any]) -> Said:
    """Return what was said, with what ``tags(...)`` gave to evaluators; its word on a schema is the last.

    Args:
        said: what was said in the request.
        given: by its name in ``tags``.
    """
    expected = given.get("expected")
    return replace(
        said,
        tools=said.tools or messages.tool_definitions(given.get("tools")),
        context=said.context or messages.context_documents(given.get("context"), "tags"),
        schema=given.get("schema", said.schema),
        expected=said.expected if expected is None else expected,
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
    text, calls = _without_thought(_text(answer)), _tool_calls(answer)
    inputs: Inputs = {
        # What calls a tool says nothing that could be grounded.
        "response": None if calls and not text else text,
        "message": {"role": "assistant", "content": text, "tool_calls": calls},
        "context": [_document(entry) for entry in said.context] or None,
        "question": next((_text(m) for m in reversed(said.input) if m.get("role") == "user"), None),
        "tools": said.tools or None,
        "expected": said.expected,
        "tool_choice": said.tool_choice,
        "finish_reason": answer.get("finish_reason") or next(iter(_finish_reasons(attributes)), None),
        "route": attributes.get(semconv.ROUTE),
    }
    wants_json = said.schema is not None or attributes.get(semconv.OUTPUT_TYPE) == "json"
    if wants_json and not calls:
        inputs["schema"] = _schema(said.schema)
    return inputs


def without_written_calls(inputs: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return inputs as of parsed calls where an answer's text is calls of the tools that were offered.

    So it is offline, and in a server without a tool parser. Those who read tool calls have the text in the message.
    """
    text, tools = inputs.get("response"), inputs.get("tools")
    if not text or not tools:
        return inputs
    known = read_tools(tools)
    if not any(call.name in known for call in calls_in_text(text)):
        return inputs
    return {name: value for name, value in inputs.items() if name not in {"response", "schema"}}


def _finish_reasons(attributes: Mapping[str, Any]) -> Any:
    reasons = attributes.get(semconv.RESPONSE_FINISH_REASONS)
    return reasons if isinstance(reasons, (list, tuple)) else ()


def _schema(schema: Any) -> Any:
    # JSON was asked for: any JSON, unless the schema itself is known. vLLM takes it as a dictionary or as text.
    if not isinstance(schema, str):
        return schema or {}
    try:
        return json.loads(schema)
    except (ValueError, RecursionError):
        return {}


def _text(message: Mapping[str, Any]) -> str:
    texts = [part.get("content", part.get("text")) for part in _parts(message) if part.get("type") in _TEXTS]
    return "\n".join(text for text in texts if isinstance(text, str))


def _without_thought(text: str) -> str:
    answer = after_thought(text)
    return "" if answer.lstrip().startswith("<think>") else answer  # one that the token limit cut off


def _tool_calls(message: Mapping[str, Any]) -> list[dict[str, Any]]:
    calls = [
        {
            "id": part.get("id"),
            "type": "function",
            "function": {"name": part.get("name"), "arguments": part.get("arguments", part.get("input"))},
        }
        for part in _parts(message)
        if part.get("type") in _CALLS
    ]
    return calls or [call for call in message.get("tool_calls") or () if isinstance(call, dict)]


def _parts(message: Mapping[str, Any]) -> list[dict[str, Any]]:
    # Some instrumentations write messages as the APIs have them: a `content`, which is a text or a list.
    parts = message.get("parts", message.get("content"))
    if isinstance(parts, str):
        return [{"type": "text", "content": parts}]
    return [part for part in parts if isinstance(part, dict)] if isinstance(parts, list) else []


def _document(entry: Any) -> str:
    content = entry.get("content") if isinstance(entry, dict) else entry
    return content if isinstance(content, str) else json.dumps(content, ensure_ascii=False)


def _json(text: Any) -> Any:
    """The value of an attribute; None when it has none, or was cut by a backend and is no JSON any more."""
    try:
        return json.loads(text)
    except (TypeError, ValueError, RecursionError):
        return None


def _json_list(text: Any) -> list[Any]:
    value = _json(text)
    return [entry for entry in value if isinstance(entry, dict)] if isinstance(value, list) else []


def _whole_list(attributes: Mapping[str, Any], key: str) -> list[Any]:
    # Of an answer that was cut, and by a context that was, nothing can be said.
    text = attributes.get(key)
    if attributes.get(semconv.CONTENT_LEFT_OUT) and isinstance(text, str) and _CUT.search(text):
        return []
    return _json_list(text)
