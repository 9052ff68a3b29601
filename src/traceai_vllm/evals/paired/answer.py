"""One of the two answers, as plain data."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from traceai_vllm.evals.errors import MissingInput

if TYPE_CHECKING:
    from traceai_vllm.evals.result import TextRange


@dataclass(frozen=True, slots=True)
class Answer:
    """What a model answered.

    Attributes:
        text: the text; empty when it only called tools.
        calls_tools: whether it called a tool.
    """

    text: str = ""
    calls_tools: bool = False

    @property
    def bare(self) -> bool:
        """Whether it is a tool call and nothing else: its arguments are the business of ToolSelectionAccuracy."""
        return self.calls_tools and not self.text.strip()


def answer_of(given: Any, limit: int) -> Answer:
    """Read an answer, and cut it to a length that can be looked at; in Unicode's form NFC, where `ü` is one letter.

    Args:
        given: the text; an :class:`Answer`; or a message with ``content`` (text, or parts with ``text``) and
            ``tool_calls``.
        limit: how many characters are kept.

    Raises:
        MissingInput: it is nothing of that kind.
    """
    if isinstance(given, str):
        return Answer(_cut(given, limit))
    if isinstance(given, Answer):
        return Answer(_cut(given.text, limit), given.calls_tools)
    if isinstance(given, Mapping):
        return Answer(_cut(_text(given.get("content")), limit), bool(given.get("tool_calls")))
    raise MissingInput(f"a paired check needs two texts or messages, and got {type(given).__name__}")


def _cut(text: str, limit: int) -> str:
    return unicodedata.normalize("NFC", text[:limit])[:limit]


def _text(content: Any) -> str:
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, (list, tuple)) else ()
    texts = [part.get("text") or part.get("content") for part in parts if isinstance(part, Mapping)]
    return "\n".join(text for text in texts if isinstance(text, str))


def quoted(text: str, longest: int = 80) -> str:
    """Return words of an answer for an explanation: in quotation marks, on one line, not too long."""
    line = " ".join(text[: 4 * longest].split())
    return f'"{line}"' if len(line) <= longest else f'"{line[: longest - 1]}…"'


def pairs(ranges: list[TextRange]) -> list[list[int]]:
    """Return ranges as plain JSON values, for ``details``."""
    return [[start, end] for start, end in ranges]
