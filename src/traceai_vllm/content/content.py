"""The content of one request: read from vLLM's objects when somebody asks for it, redacted before anybody gets it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from traceai_vllm.content.messages import plain
from traceai_vllm.content.redaction import Redaction
from traceai_vllm.guard import report

if TYPE_CHECKING:
    from collections.abc import Callable

    from traceai_vllm.content.messages import Message, Part
    from traceai_vllm.content.options import ContentOptions


@dataclass(slots=True)
class Content:
    """What was said in one request, in the JSON form of the GenAI conventions, redacted and not cut.

    Attributes:
        input_messages: the conversation, oldest message first; a plain prompt is one message of the user's.
        output_messages: one for each answer, in the order of their indices.
        system_instructions: instructions that were sent apart from the conversation; parts of a message.
        tool_definitions: the tools that the model was offered.
        context: retrieved context, as ``{"source": "documents" | "tags" | "message", "content": …}``.
        stop_sequences: the stop strings, which are a caller's own words too.
        output_schema: the JSON schema that the answer is to meet, a dictionary or its text; None when there is none.
            It is not redacted, which could change what it means.
        tool_choice: whether a tool was to be called, or which, in the words of the request; None when it did not say.
            It is not redacted either.
        may_leave: which of those two redaction finds nothing in; the other is for evaluators here alone.
        expected_calls: the tool calls that are right; empty where none is, None where nobody said so.
        redactions: in how many places something was replaced.
    """

    input_messages: list[Message] = field(default_factory=list)
    output_messages: list[Message] = field(default_factory=list)
    system_instructions: list[Part] = field(default_factory=list)
    tool_definitions: list[dict[str, Any]] = field(default_factory=list)
    context: list[dict[str, Any]] = field(default_factory=list)
    stop_sequences: list[str] = field(default_factory=list)
    output_schema: Any = None
    tool_choice: Any = None
    may_leave: frozenset[str] = frozenset()
    expected_calls: list[Any] | None = None
    redactions: int = 0


FIELDS = ("input_messages", "output_messages", "system_instructions", "tool_definitions", "context", "stop_sequences")
_WHOLE_FIELDS = ("output_schema", "tool_choice")
_DEEPEST_SCHEMA = 128


class ContentReader:
    """What capture works with while it is on.

    Args:
        options: what is captured.
    """

    __slots__ = ("_redaction", "options")

    def __init__(self, options: ContentOptions) -> None:
        self.options = options
        self._redaction = Redaction(options)

    def read(self, source: Callable[[], Content]) -> Content | None:
        """Return the content that ``source`` makes, redacted; None when that fails.

        An error here may quote the text, so it is counted and logged by its class and place alone.
        """
        try:
            content = source()
            for name in (*FIELDS, "expected_calls"):
                entries = getattr(content, name)
                if entries:
                    redacted, places = self._redaction(entries)
                    setattr(content, name, redacted)
                    content.redactions += places
            content.may_leave = frozenset(
                name for name in _WHOLE_FIELDS if self._has_nothing_to_hide(getattr(content, name))
            )
            return content
        except Exception as error:
            report_unquoted("the content of a request", error)
            return None

    def _has_nothing_to_hide(self, value: Any) -> bool:
        # What is no JSON would become text, and another schema by that.
        if value is None or plain(value, _DEEPEST_SCHEMA) != value:
            return False
        return self._redaction([{"parameters": value}])[1] == 0


def report_unquoted(where: str, error: Exception) -> None:
    """Report an error of ours without its message, which may quote content."""
    report(where, type(type(error).__name__, (Exception,), {})().with_traceback(error.__traceback__))
