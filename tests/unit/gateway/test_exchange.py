"""What is kept of an answer while it passes: read piece by piece, within the room that there is."""

from __future__ import annotations

import gzip
from typing import Any

import pytest

from traceai_vllm.gateway.budget import Budget, Hold
from traceai_vllm.gateway.exchange import BROKEN, Exchange
from traceai_vllm.gateway.reading import AnswerReader

PATH = "/v1/chat/completions"
PIECES = [
    b'data: {"id":"1","choices":[{"index":0,"delta":{"content":"one "}}]}\n\n',
    b'data: {"id":"1","choices":[{"index":0,"delta":{"content":"two"},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n',
]


def begun(budget: int = 1000, encoding: bytes = b"") -> Exchange:
    record = Exchange(PATH)
    headers = [(b"content-type", b"text/event-stream"), (b"content-encoding", encoding)]
    record.begin(200, headers, Hold(Budget(budget)))
    return record


def test_a_stream_is_read_as_it_passes() -> None:
    """Each piece is read when it has gone on; the answer is the same if the last ones have not been."""
    eager, late = begun(), begun()
    for piece in PIECES:
        for record in (eager, late):
            record.add(piece, Hold(Budget(1000)))
        eager.read()
    for record in (eager, late):
        record.end()

    assert (eager.answer().choices[0].text, eager.failure()) == ("one two", None)
    assert late.answer().says() == eager.answer().says()


def test_a_stream_that_breaks_off_keeps_what_came() -> None:
    """Its answer is incomplete, and says so."""
    record = begun()
    record.add(PIECES[0], Hold(Budget(1000)))
    record.read()
    record.end(BROKEN)

    assert (record.failure(), record.answer().choices[0].text) == (BROKEN, "one ")


def test_without_room_nothing_is_kept() -> None:
    """What does not fit is not captured, and that is no failure of the server's."""
    record = begun()
    for piece in PIECES:
        record.add(piece, Hold(Budget(100)))
        record.read()
    record.end()

    assert (record.captured, record.failure(), record.pieces) == (False, None, 2)


@pytest.mark.parametrize("budget", [2**20, 2**30], ids=["the room there is", "whatever room there is"])
def test_a_few_bytes_that_would_become_very_many_are_not_captured(budget: int) -> None:
    """They would take memory without bounds, and users would wait for it."""
    record = begun(budget, b"gzip")
    for _ in range(2):
        record.add(gzip.compress(b" " * 70 * 2**20, 1), Hold(Budget(2**20)))
        record.read()
    record.end()

    assert (record.captured, record.failure(), record.pieces) == (False, None, 2)


@pytest.mark.internal_errors_expected
def test_an_error_of_ours_while_reading_is_not_the_servers(monkeypatch: Any) -> None:
    """The answer goes on to the user, and counts as not captured."""

    def broken(self: AnswerReader, chunks: Any) -> None:
        raise RuntimeError("ours")

    monkeypatch.setattr(AnswerReader, "feed", broken)
    record = begun()
    record.add(PIECES[0], Hold(Budget(1000)))
    record.read()
    record.end()

    assert (record.captured, record.failure()) == (False, None)
