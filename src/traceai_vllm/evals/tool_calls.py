"""Read tool calls: as vLLM parsed them, as the APIs carry them, or raw as models write them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from traceai_vllm.evals.json_text import read_json

#: What holds the name and the arguments of one call.
HOLDERS = ("function", "functionCall", "function_call")  # OpenAI's; Gemini's in JSON, and in its SDK
_CALLS = frozenset({"function_call", "tool_use", "tool_call", "function"})  # types of a message's parts
_ARGUMENTS = ("arguments", "parameters", "args", "input", "input_parameters")


@dataclass(frozen=True, slots=True)
class ToolCall:
    """One call that a model made.

    Attributes:
        name: the tool's name; empty where it cannot be read.
        arguments: by name; empty where they cannot be read.
        problem: why the call cannot be read, or empty.
        untyped: the arguments came as bare text, so that their types are the schema's to say.
    """

    name: str
    arguments: Mapping[str, Any]
    problem: str = ""
    untyped: bool = False


def read_tool_calls(answer: Any) -> list[ToolCall]:
    """Return the tool calls of an answer, in order; none where it makes none.

    Args:
        answer: a list of calls, one call, a message (the GenAI conventions' too) or a whole completion, as mappings or
            as objects of the OpenAI SDK, vLLM or pydantic; or the text that the model wrote, in one of the usual forms
            (Hermes, Llama, Mistral, Qwen, DeepSeek, GLM, GPT-OSS, MiniMax, Kimi, Granite, Gemma, Cohere, InternLM, Phi,
            LFM2, Apertus, Pythonic, or plain JSON);
            what stands before ``</think>`` is no part of the answer.
    """
    answer = plain(answer)
    if answer is None:
        return []
    if isinstance(answer, str):
        from traceai_vllm.evals.tool_text import calls_in_text

        return calls_in_text(answer)
    if isinstance(answer, Mapping):
        return _of_mapping(answer)
    if isinstance(answer, Sequence):
        return [call for item in answer for call in _of_item(plain(item))]
    return [ToolCall("", {}, f"{type(answer).__name__} is no answer with tool calls")]


def plain(value: Any) -> Any:
    """Return a pydantic model, dataclass or plain object as a mapping; anything else as it is."""
    if value is None or isinstance(value, (str, Mapping, list, tuple, int, float)):
        return value
    if hasattr(value, "model_dump"):
        return value.model_dump()
    fields = getattr(value, "__dict__", None)
    return fields if fields else value


def call_from(item: Mapping[str, Any]) -> ToolCall | None:
    """Return the call in a mapping of one of the usual shapes, or None if it has none of them."""
    for holder in HOLDERS:
        inner = plain(item.get(holder))
        if isinstance(inner, Mapping) and "name" in inner:
            return call_from(inner)
    inner = plain(item.get("function"))
    if "name" not in item and isinstance(item.get("tool_name"), str):  # Cohere
        item = {**item, "name": item["tool_name"]}
    if isinstance(item.get("name"), str):
        key = next((key for key in _ARGUMENTS if key in item), None)
        return _call(item["name"], {} if key is None else item[key])
    if isinstance(inner, str):  # {"function": "name", "arguments": {...}}
        return call_from({**{k: v for k, v in item.items() if k != "function"}, "name": inner})
    if len(item) == 1:  # {"name": {argument: value}}, as BFCL writes them
        ((name, arguments),) = item.items()
        if isinstance(arguments, Mapping):
            return ToolCall(name, arguments)
    return None


def _of_mapping(answer: Mapping[str, Any]) -> list[ToolCall]:
    holder = _holder(answer)
    if holder is not None:
        return read_tool_calls(holder)
    for key in ("output", "content", "parts"):  # Responses API, Anthropic and chat messages, GenAI conventions
        if key in answer and not (set(_ARGUMENTS) & set(answer)):
            return _of_content(plain(answer[key]))
    return [] if "role" in answer else _of_item(answer)


def _holder(answer: Mapping[str, Any]) -> Any:
    """What holds the calls: the first choice of a completion, the message of a choice, the calls of a message."""
    choices = answer.get("choices")
    if isinstance(choices, Sequence) and choices:
        return choices[0]
    candidates = answer.get("candidates")  # Gemini
    if isinstance(candidates, Sequence) and candidates:
        content = plain(plain(candidates[0]).get("content"))
        return content if isinstance(content, Mapping) else []
    if answer.get("message") is not None:
        return answer["message"]
    if answer.get("tool_calls"):
        return list(answer["tool_calls"])
    return next(([answer[key]] for key in HOLDERS if key != "function" and answer.get(key)), None)


def _of_content(content: Any) -> list[ToolCall]:
    if content is None:
        return []
    if isinstance(content, str):
        return read_tool_calls(content)
    parts = [plain(part) for part in content]
    return [
        call
        for part in parts
        if isinstance(part, Mapping) and (part.get("type") in _CALLS or any(map(part.get, HOLDERS)))
        for call in _of_item(part)
    ]


def _of_item(item: Any) -> list[ToolCall]:
    if isinstance(item, Mapping):
        if not item:
            return []
        if "role" in item:  # a message, in a list of them
            return _of_mapping(item)
        found = call_from(item)
        return [found or ToolCall("", {}, "a call without a name")]
    return [ToolCall("", {}, f"{type(item).__name__} is no tool call")]


def _call(name: str, arguments: Any) -> ToolCall:
    arguments = plain(arguments)
    if arguments is None or arguments == "":
        return ToolCall(name, {})
    if isinstance(arguments, str):
        read = read_json(arguments)
        if read.problem:
            return ToolCall(name, {}, f"its arguments are {read.problem} JSON: {read.message}")
        arguments = read.value
    if not isinstance(arguments, Mapping):
        return ToolCall(name, {}, f"its arguments are a JSON {type(arguments).__name__} and not an object")
    return ToolCall(name, arguments)
