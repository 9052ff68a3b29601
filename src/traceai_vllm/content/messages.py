"""From what callers send to the messages of OpenTelemetry's GenAI conventions: pure functions, no vLLM needed.

Callers speak three dialects: OpenAI chat completions (``LLM.chat`` too), OpenAI responses, and Anthropic messages.
Their parts have different type names, so one function reads them all. What has no counterpart in the conventions is
left out; pictures and sounds are named, never copied.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

Message = dict[str, Any]
Part = dict[str, Any]

MARK = "traceai"
"""Key that marks a part of a message as retrieved context: ``{"type": "text", "text": "…", "traceai": "context"}``."""
CONTEXT = "context"

# Type of a part with a text to the conventions' type, and where the text stands.
_TEXTS = {
    "text": ("text", "text"),
    "input_text": ("text", "text"),
    "output_text": ("text", "text"),
    "refusal": ("text", "refusal"),
    "thinking": ("reasoning", "thinking"),
}
# Where retrieved documents have their text; LangChain's have page_content.
_DOCUMENT_TEXTS = ("text", "content", "contents", "doc", "page_content")
_MEDIA = {
    "image_url": "image",
    "input_image": "image",
    "image": "image",
    "image_pil": "image",
    "image_embeds": "image",
    "audio_url": "audio",
    "input_audio": "audio",
    "audio_embeds": "audio",
    "video_url": "video",
    "file": "document",
    "input_file": "document",
    "document": "document",
}


def text_message(role: str, text: str) -> Message:
    """Return a message of one text."""
    return {"role": role, "parts": [{"type": "text", "content": text}]}


def input_messages(messages: Any) -> list[Message]:
    """Return the messages of a conversation, oldest first.

    Args:
        messages: a string, or a list of messages (chat completions, Anthropic) or of items (responses), each a
            dictionary or an object with such attributes. Anything that is not a list is read once only by vLLM, and is
            not touched.
    """
    if isinstance(messages, str):
        return [text_message("user", messages)]
    return [_message(message) for message in _items(messages)]


def system_instructions(instructions: Any) -> list[Part]:
    """Return the parts of instructions that were sent apart from the conversation."""
    return _parts(instructions)


def tool_definitions(tools: Any) -> list[dict[str, Any]]:
    """Return the definitions of tools, of any dialect."""
    return [_tool(tool) for tool in _items(tools)]


def tool_choice(choice: Any, tools: Any) -> Any:
    """Return a request's choice of tools as JSON; None without tools, where vLLM fills in a choice of its own."""
    return plain(choice) if _items(tools) else None


def context_documents(documents: Any, source: str) -> list[dict[str, Any]]:
    """Return retrieved context as a list of ``{"source": …, "content": …}``, with ``id`` and ``title`` when given.

    Args:
        documents: a text, or a list of texts, of dictionaries such as vLLM's ``documents`` field takes, or of documents
            of LangChain and LlamaIndex.
        source: where it was found: ``documents``, ``tags`` or ``message``.
    """
    if isinstance(documents, (str, Mapping)):
        documents = [documents]
    return [_document(document, source) for document in _items(documents)]


def marked_context(messages: Any) -> list[dict[str, Any]]:
    """Return the texts of the message parts that are marked as retrieved context."""
    found = []
    for message in _items(messages):
        for part in _items(_get(message, "content")):
            if _get(part, MARK) == CONTEXT and isinstance(_get(part, "text"), str):
                found.append({"source": "message", "content": _get(part, "text")})
    return found


def output_message(text: str | None, finish_reason: str, reasoning: str | None = None, tool_calls: Any = ()) -> Message:
    """Return the message of one answer.

    Args:
        text: what is shown to the user; None or empty when there is only reasoning or only tool calls.
        finish_reason: why it ended, in vLLM's words.
        reasoning: what the model thought, when it was told apart.
        tool_calls: the calls, as ``(id, name, arguments)``.
    """
    parts: list[Part] = []
    if reasoning:
        parts.append({"type": "reasoning", "content": reasoning})
    if text:
        parts.append({"type": "text", "content": text})
    parts += [_tool_call(call_id, name, arguments) for call_id, name, arguments in tool_calls]
    if tool_calls and finish_reason == "stop":
        finish_reason = "tool_call"
    return {"role": "assistant", "parts": parts, "finish_reason": finish_reason}


def _message(message: Any) -> Message:
    kind = _get(message, "type")
    build = _ITEMS.get(kind) if isinstance(kind, str) else None  # a caller may write anything there
    if build is not None:
        return build(message)
    role = str(_get(message, "role") or "user")
    content = _get(message, "content")
    parts = _reasoning(message)
    if role == "tool" or (role == "function" and isinstance(content, str)):
        parts.append(_tool_response(_get(message, "tool_call_id"), content))
    else:
        parts += _parts(content)
    parts += [_openai_call(call) for call in _items(_get(message, "tool_calls"))]
    made: Message = {"role": role, "parts": parts}
    name = _get(message, "name")
    if isinstance(name, str):
        made["name"] = name
    return made


def _reasoning(message: Any) -> list[Part]:
    thought = _get(message, "reasoning") or _get(message, "reasoning_content")
    return [{"type": "reasoning", "content": thought}] if isinstance(thought, str) else []


def _function_call(item: Any) -> Message:
    call = _tool_call(_get(item, "call_id"), _get(item, "name"), _get(item, "arguments"))
    return {"role": "assistant", "parts": [call]}


def _function_output(item: Any) -> Message:
    return {"role": "tool", "parts": [_tool_response(_get(item, "call_id"), _get(item, "output"))]}


def _reasoning_item(item: Any) -> Message:
    texts = [_get(part, "text") for part in (*_items(_get(item, "summary")), *_items(_get(item, "content")))]
    return {"role": "assistant", "parts": [{"type": "reasoning", "content": t} for t in texts if isinstance(t, str)]}


# Items of the responses API that are no messages.
_ITEMS = {"function_call": _function_call, "function_call_output": _function_output, "reasoning": _reasoning_item}


def _parts(content: Any) -> list[Part]:
    if content is None:
        return []
    if isinstance(content, str):
        return [{"type": "text", "content": content}]
    return [_part(part) for part in _items(content)]


def _part(part: Any) -> Part:
    if isinstance(part, str):
        return {"type": "text", "content": part}
    kind = _kind(_get(part, "type") or "text")
    if kind in _MEDIA:
        return _media(part, kind)
    if kind == "tool_use":
        return _tool_call(_get(part, "id"), _get(part, "name"), _get(part, "input"))
    if kind == "tool_result":
        return _tool_response(_get(part, "tool_use_id"), _get(part, "content"))
    made, key = _TEXTS.get(kind, (kind, ""))
    text = _get(part, key)
    return {"type": made, "content": text} if isinstance(text, str) else {"type": kind}


def _kind(given: Any) -> str:
    # A caller may write anything there.
    return given if isinstance(given, str) and given.isidentifier() and len(given) <= 32 else "unknown"


def _media(part: Any, kind: str) -> Part:
    given = _get(part, kind)
    if given is None:
        given = _get(part, "source")  # Anthropic
    url = given if isinstance(given, str) else _get(given, "url")
    mime_type = _get(given, "media_type")
    if isinstance(url, str) and not url.startswith("data:"):
        return _without_none({"type": "uri", "modality": _MEDIA[kind], "mime_type": mime_type, "uri": url})
    if isinstance(url, str):
        mime_type = url[len("data:") :].partition(",")[0].partition(";")[0] or None
    return _without_none({"type": "blob", "modality": _MEDIA[kind], "mime_type": mime_type, "content": ""})


def _openai_call(call: Any) -> Part:
    function = _get(call, "function")
    return _tool_call(_get(call, "id"), _get(function, "name"), _get(function, "arguments"))


def _tool_call(call_id: Any, name: Any, arguments: Any) -> Part:
    part = {"type": "tool_call", "id": call_id, "name": str(name or ""), "arguments": _parsed(arguments)}
    return _without_none(part)


def _tool_response(call_id: Any, response: Any) -> Part:
    if isinstance(response, (list, tuple)):
        response = [_part(part) for part in response]
    return _without_none({"type": "tool_call_response", "id": call_id, "response": plain(response)})


def _tool(tool: Any) -> dict[str, Any]:
    # OpenAI chat: {"type": "function", "function": {…}}; responses: flat; Anthropic: no type, `input_schema`.
    function = _get(tool, "function") or tool
    schema = _get(function, "parameters")
    return _without_none(
        {
            "type": _kind(_get(tool, "type") or "function"),
            "name": str(_get(function, "name") or ""),
            "description": _get(function, "description"),
            "parameters": plain(_get(function, "input_schema") if schema is None else schema),
        }
    )


def _document(document: Any, source: str) -> dict[str, Any]:
    if isinstance(document, str):
        return {"source": source, "content": document}
    text = next((_get(document, key) for key in _DOCUMENT_TEXTS if _get(document, key)), None)
    if not isinstance(text, str):
        text = json.dumps(plain(document), ensure_ascii=False)
    named = {key: str(_get(document, key)) for key in ("id", "title") if _get(document, key) is not None}
    return {"source": source, **named, "content": text}


def plain(value: Any, depth: int = 32) -> Any:
    """Return a copy of a value that is made of JSON's types alone; what else it holds becomes text."""
    if value is None or isinstance(value, (str, bool, int, float)):
        return value
    if depth == 0:
        return "…"
    if isinstance(value, Mapping):
        return {str(key): plain(item, depth - 1) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item, depth - 1) for item in value]
    dump = getattr(value, "model_dump", None)  # pydantic
    if callable(dump):
        return plain(dump(exclude_none=True), depth - 1)
    return f"<{type(value).__name__}>"


def _parsed(arguments: Any) -> Any:
    """Return a call's arguments as the object that they are; text that is no JSON stays text."""
    if not isinstance(arguments, str):
        return plain(arguments)
    try:
        return plain(json.loads(arguments))
    except (ValueError, RecursionError):
        return arguments


def _items(values: Any) -> list[Any]:
    # An iterator belongs to vLLM: pydantic makes some that can be read once.
    return list(values) if isinstance(values, (list, tuple)) else []


def _get(value: Any, name: str) -> Any:
    return value.get(name) if isinstance(value, Mapping) else getattr(value, name, None)


def _without_none(part: Part) -> Part:
    return {key: value for key, value in part.items() if value is not None}
