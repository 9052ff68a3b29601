"""Reads server-sent events from bytes that arrive in any pieces (WHATWG HTML, 9.2.6: lines end in LF, CRLF or CR)."""

from __future__ import annotations

import re
from typing import NamedTuple

_LINE_END = re.compile(rb"\r\n|\n|\r")
_BOM = b"\xef\xbb\xbf"


class Event(NamedTuple):
    """One event: its type (empty when it has none) and its data."""

    name: str
    data: bytes


class Decoder:
    """Takes the pieces of one stream, in order."""

    def __init__(self) -> None:
        self._rest = b""
        self._parts: list[bytes] = []
        self._begun = False
        self._name = ""
        self._data: list[bytes] = []

    @property
    def complete(self) -> bool:
        """Whether the last event has ended: nothing of another one has come yet."""
        return not self._rest.strip(b"\r\n") and not self._parts and not self._data

    def feed(self, piece: bytes) -> list[Event]:
        """Return the events that end with this piece."""
        if not piece:
            return []
        if self._begun and b"\n" not in piece and b"\r" not in piece and not self._rest.endswith(b"\r"):
            self._parts.append(piece)  # joined when the line ends: a long line may come in many pieces
            return []
        self._rest = b"".join((self._rest, *self._parts, piece))
        self._parts.clear()
        if not self._begun:
            if self._rest != _BOM and _BOM.startswith(self._rest):
                return []  # too short to tell
            self._rest = self._rest.removeprefix(_BOM)
            self._begun = True
        if self._rest.endswith(b"\r"):
            # The next piece may begin with the LF of this line's end.
            complete, held = self._rest[:-1], b"\r"
        else:
            complete, held = self._rest, b""
        *lines, tail = _LINE_END.split(complete)
        self._rest = tail + held
        return [event for line in lines if (event := self._take(line)) is not None]

    def _take(self, line: bytes) -> Event | None:
        if not line:
            return self._end()
        field, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if field == b"data":
            self._data.append(value)
        elif field == b"event":
            self._name = value.decode("utf-8", "replace")
        return None  # comments, ids and retry times say nothing about the answer

    def _end(self) -> Event | None:
        name, data = self._name, self._data
        self._name, self._data = "", []
        return Event(name, b"\n".join(data)) if data else None
