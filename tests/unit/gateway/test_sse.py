"""Server-sent events, in whatever pieces they arrive."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from traceai_vllm.gateway.sse import Decoder, Event

LINES = st.text(st.characters(exclude_characters="\r\n", exclude_categories=("Cs",)), max_size=12)
EVENTS = st.lists(st.tuples(st.sampled_from(["", "delta"]), st.lists(LINES, min_size=1, max_size=3)), max_size=6)
ENDS = st.sampled_from(["\n", "\r\n", "\r"])


def written(events: list[tuple[str, list[str]]], end: str, bom: bool) -> bytes:
    text = "\ufeff" if bom else ""
    for name, lines in events:
        text += f": comment{end}"
        text += f"event: {name}{end}" if name else ""
        text += "".join(f"data: {line}{end}" for line in lines) + end
    return text.encode()


def cut(data: bytes, at: list[int]) -> list[bytes]:
    places = [0, *sorted(place % (len(data) + 1) for place in at), len(data)]
    return [data[start:stop] for start, stop in pairwise(places)]


@given(EVENTS, ENDS, st.booleans(), st.lists(st.integers(0, 10_000), max_size=20))
def test_events_do_not_depend_on_how_they_are_cut(
    events: list[tuple[str, list[str]]], end: str, bom: bool, at: list[int]
) -> None:
    """Any line end, any cuts (inside a CRLF, a character, the byte order mark): the same events."""
    decoder = Decoder()
    read = [event for piece in cut(written(events, end, bom), at) for event in decoder.feed(piece)]
    # A stream's last CR could be the first half of a line end: what comes next tells.
    read += decoder.feed(b"\n") if end == "\r" else []
    assert read == [Event(name, "\n".join(lines).encode()) for name, lines in events]
    assert decoder.complete


def test_a_stream_that_stops_inside_an_event_is_not_complete() -> None:
    """Nothing is made of the part."""
    decoder = Decoder()
    assert decoder.feed(b"data: 1\n\ndata: 2\n") == [Event("", b"1")]
    assert not decoder.complete


def test_bytes_one_by_one() -> None:
    """The smallest pieces that there are."""
    decoder = Decoder()
    read = [event for byte in b"event: a\r\ndata: x\r\n\r\n" for event in decoder.feed(bytes([byte]))]
    assert read == [Event("a", b"x")]
