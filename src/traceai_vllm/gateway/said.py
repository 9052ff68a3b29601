"""What was said in a request and its answer, in the form of the GenAI conventions: for spans and evaluators."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from traceai_vllm.content import messages
from traceai_vllm.content.content import Content

if TYPE_CHECKING:
    from traceai_vllm.content.content import ContentReader
    from traceai_vllm.content.messages import Message
    from traceai_vllm.gateway.answers import Answer, Choice
    from traceai_vllm.gateway.body import Body


class Said:
    """The content of one arm, read and redacted when it is first asked for.

    Args:
        body: the request.
        answer: the answer.
        reader: redacts.
    """

    __slots__ = ("_answer", "_body", "_content", "_read", "_reader")

    def __init__(self, body: Body, answer: Answer, reader: ContentReader) -> None:
        self._body = body
        self._answer = answer
        self._reader = reader
        self._content: Content | None = None
        self._read = False

    def read(self) -> Content | None:
        """Return the content, redacted and whole; None when it cannot be read."""
        if not self._read:
            self._content = self._reader.read(lambda: content_of(self._body, self._answer))
            self._read = True
        return self._content


def content_of(body: Body, answer: Answer) -> Content:
    """Return what a request and its answer say, in any of the dialects."""
    given = next((value for name in ("messages", "input", "prompt") if (value := body.get(name)) is not None), None)
    documents = body.get("documents")
    return Content(
        input_messages=messages.input_messages(given),
        output_messages=[_message(choice) for _, choice in sorted(answer.choices.items())],
        system_instructions=messages.system_instructions(body.get("instructions") or body.get("system")),
        tool_definitions=messages.tool_definitions(body.get("tools")),
        tool_choice=messages.tool_choice(body.get("tool_choice"), body.get("tools")),
        context=[*messages.context_documents(documents, "documents"), *messages.marked_context(given)],
        output_schema=json_format(body),
        stop_sequences=body.stop_strings(),
    )


def json_format(body: Body) -> Any:
    """Return the JSON that a request's answer is held to: a schema or a ``response_format``; None when to none."""
    text = body.get("text")  # of the responses API
    for given in (body.get("response_format"), text.get("format") if isinstance(text, dict) else None):
        if isinstance(given, dict) and str(given.get("type")).startswith("json"):
            return given  # {"type": "text"} holds the answer to nothing
    structured = body.get("structured_outputs")  # vLLM's own; `guided_json` before 0.11.1
    if not isinstance(structured, dict):
        return body.get("guided_json")
    return structured.get("json") or ({"type": "json_object"} if structured.get("json_object") else None)


def _message(choice: Choice) -> Message:
    calls = [(call.id, call.name, call.arguments) for _, call in sorted(choice.tool_calls.items())]
    return messages.output_message(choice.text, choice.finish_reason or "", choice.reasoning or None, calls)
