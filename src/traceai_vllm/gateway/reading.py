"""From the captured bytes of an answer to what it says, and when it was said.

An answer that cannot be read, or that breaks off, has an ``error``; what could be read of it is kept. A long stream is
read in parts, so that nobody waits for it::

    reader = AnswerReader("/v1/chat/completions", "text/event-stream", "")
    reader.feed(chunks[:32])
    reader.feed(chunks[32:])
    reader.end().finish_reasons
"""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Any

import msgspec

from traceai_vllm.gateway.answers import DIALECTS, Answer
from traceai_vllm.gateway.headers import READABLE
from traceai_vllm.gateway.sse import Decoder

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from traceai_vllm.gateway.sse import Event

    Chunks = Sequence[tuple[float, bytes]]

_decode = msgspec.json.Decoder().decode
# Whatever a broken server sends: it is the answer that is wrong, not this program.
_WRONG = (msgspec.MsgspecError, TypeError, ValueError, AttributeError, KeyError, RecursionError, zlib.error)

# What a compressed answer may become, in all and at once: a few kilobytes of zeros would be gigabytes.
_MOST_DECOMPRESSED = 64 * 1024 * 1024
_AT_ONCE = 1024 * 1024

INVALID = "invalid_response"
INCOMPLETE = "incomplete_response"


def read_answer(path: str, content_type: str, encoding: str, chunks: Chunks) -> Answer:
    """Return what an answer says; the arguments are those of :class:`AnswerReader` and its ``feed``."""
    reader = AnswerReader(path, content_type, encoding)
    reader.feed(chunks)
    return reader.end()


class _TooLong(Exception):
    # An answer becomes longer than there is room for.
    pass


class AnswerReader:
    """Reads one answer.

    Args:
        path: the path of the request, which tells the dialect.
        content_type: of the answer.
        encoding: its ``content-encoding``; empty for none.
        room: takes room for so many bytes that were decompressed, and says whether there was any.
    """

    def __init__(
        self, path: str, content_type: str, encoding: str, room: Callable[[int], bool] = lambda size: True
    ) -> None:
        self._dialect = DIALECTS.get(path)
        self._streamed = content_type.startswith("text/event-stream")
        self._encoding = encoding
        self._decompressor = None if encoding in ("", "identity") else zlib.decompressobj(zlib.MAX_WBITS | 32)
        self._room = room
        self._decompressed_length = 0
        self._events = Decoder()
        self._pieces: list[bytes] = []
        self._amount = 0
        self._wrong = False
        self._answer = Answer()

    def feed(self, chunks: Chunks) -> bool:
        """Take in pieces of the body, in order, with the time of each; return whether there was room for them."""
        if self._wrong:
            return True
        try:
            for at, piece in chunks:
                self._take(at, self._decompressed(piece))
        except _TooLong:
            return False
        except _WRONG:
            self._wrong = True
        return True

    def end(self) -> Answer:
        """Return what the answer says, after its last piece."""
        answer = self._answer
        if not self._wrong:
            try:
                self._finish()
            except _WRONG:
                self._wrong = True
        if self._wrong:
            answer.error = INVALID
        return answer

    def _decompressed(self, piece: bytes) -> bytes:
        if self._decompressor is None:
            return piece
        if self._encoding not in READABLE:
            raise ValueError(f"an answer in {self._encoding} cannot be read")
        parts = [b""]
        while piece or len(parts[-1]) == _AT_ONCE:
            parts.append(self._decompressor.decompress(piece, _AT_ONCE))
            piece = self._decompressor.unconsumed_tail
            self._decompressed_length += len(parts[-1])
            if self._decompressed_length > _MOST_DECOMPRESSED or not self._room(len(parts[-1])):
                raise _TooLong
        return b"".join(parts)

    def _take(self, at: float, piece: bytes) -> None:
        if self._streamed and self._dialect is not None:
            for event in self._events.feed(piece):
                self._read_event(event, at)
        else:
            self._pieces.append(piece)

    def _read_event(self, event: Event, at: float) -> None:
        answer = self._answer
        if event.data == b"[DONE]":
            answer.done = True
            return
        document = _decode(event.data)
        if _read_error(answer, document) or self._dialect is None:
            return
        self._dialect.event(answer, document)
        amount = answer.amount
        if amount != self._amount:
            self._amount = amount
            answer.content_times.append(at)

    def _finish(self) -> None:
        answer = self._answer
        if self._dialect is None:
            answer.done = True
        elif not self._streamed:
            document = _decode(b"".join(self._pieces))
            if not isinstance(document, dict):
                raise TypeError("an answer is a JSON object")
            answer.done = True
            if not _read_error(answer, document):
                self._dialect.whole(answer, document)
        elif answer.error is None and not (answer.done and self._events.complete):
            answer.error = INCOMPLETE


def _read_error(answer: Answer, document: Any) -> bool:
    error = document.get("error")
    if not error:
        return False
    kind = error.get("type") or error.get("code") if isinstance(error, dict) else None
    answer.error = str(kind or "server_error")[:64]
    return True
