"""Cuts content to a length that backends take, and says where and by how much.

What is cut stays valid JSON. Of a conversation the newest messages are kept, which the answer is about; of other lists
the first entries.
"""

from __future__ import annotations

from typing import Any

# What an entry or a member costs beside its texts: quotes, braces, names of fields.
_OVERHEAD = 16
# Written by us, from a short list of words.
_KEPT = frozenset({"type", "modality", "finish_reason", "source", "role"})


def limited(entries: list[Any], max_length: int, *, newest_first: bool = False) -> tuple[list[Any], int]:
    """Return a field's entries with at most so many characters in them, and how many characters were left out.

    Args:
        entries: messages, parts, tool definitions or documents.
        max_length: how many characters they may have together.
        newest_first: keep the last entries rather than the first.
    """
    budget = _Budget(max_length)
    if not newest_first:
        return budget.entries(entries), budget.left_out
    kept = budget.entries(entries[::-1])
    return kept[::-1], budget.left_out


class _Budget:
    """How many characters are left for a field, and how many were left out."""

    __slots__ = ("left", "left_out")

    def __init__(self, characters: int) -> None:
        self.left = characters
        self.left_out = 0

    def value(self, value: Any) -> Any:
        if isinstance(value, str):
            return self._text(value)
        if isinstance(value, dict):
            return self._members(value)
        if isinstance(value, list):
            return self.entries(value)
        return value

    def _text(self, text: str) -> str:
        size = len(text)
        if size <= max(0, self.left):  # nothing is missing of an empty text, also where there is no room
            self.left -= size
            return encodable(text)
        kept, self.left = encodable(text[: max(0, self.left)]), 0
        self.left_out += size - len(kept)
        return f"{kept}…[{size - len(kept)} characters left out]"

    def _members(self, value: dict[str, Any]) -> dict[str, Any]:
        kept: dict[str, Any] = {}
        for key, item in value.items():
            if key in _KEPT and isinstance(item, str) and len(item) <= _OVERHEAD:
                kept[key] = item
                continue
            self.left -= _OVERHEAD
            # The members that we write are few. A caller's own, in a tool's arguments or schema, may be many.
            if self.left > -16 * _OVERHEAD:
                kept[encodable(key)] = self.value(item)
            else:
                self.left_out += size_of(item)
        return kept

    def entries(self, entries: list[Any]) -> list[Any]:
        kept: list[Any] = []
        for index, item in enumerate(entries):
            if self.left <= 0:
                rest = entries[index:]
                self.left_out += size_of(rest)
                kept.append(_mark(item, f"…[{len(rest)} more left out, {size_of(rest)} characters]"))
                break
            self.left -= _OVERHEAD
            kept.append(self.value(item))
        return kept


def encodable(text: str) -> str:
    """Return a text without halves of surrogate pairs, which JSON may bring as `\\ud83d`: no exporter encodes them."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8")


def _mark(entry: Any, text: str) -> Any:
    """Return an entry of the same form as the ones that it stands for."""
    if not isinstance(entry, dict):
        return text
    if "parts" in entry:
        return {"role": entry["role"], "parts": [{"type": "text", "content": text}]}
    if "name" in entry and entry.get("type") != "tool_call":
        return {"type": entry.get("type", "function"), "name": text}
    if "source" in entry:
        return {"source": entry["source"], "content": text}
    return {"type": "text", "content": text}


def size_of(value: Any) -> int:
    """Return how many characters of text a JSON value has."""
    if isinstance(value, str):
        return len(value)
    if isinstance(value, dict):
        return sum(map(size_of, value.values()))
    if isinstance(value, list):
        return sum(map(size_of, value))
    return 0
