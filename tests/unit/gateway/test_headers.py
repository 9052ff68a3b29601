"""Which headers pass."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from traceai_vllm.gateway.headers import header, request_headers, response_headers, visible

HOP_BY_HOP = {"connection", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade", "proxy-connection"}
HOP_BY_HOP |= {"proxy-authenticate", "proxy-authorization"}
NAMES = st.one_of(
    st.sampled_from(sorted(HOP_BY_HOP | {"host", "content-length", "expect", "accept", "authorization"})),
    st.from_regex(r"[a-z0-9\-]{1,12}", fullmatch=True),
)
VALUES = st.text(st.characters(min_codepoint=33, max_codepoint=0x2FF, exclude_characters="\x7f"), max_size=20)
HEADERS = st.lists(st.tuples(NAMES, VALUES), max_size=12)


def raw(pairs: list[tuple[str, str]]) -> list[tuple[bytes, bytes]]:
    return [(name.encode(), value.encode()) for name, value in pairs]


@given(HEADERS, st.lists(NAMES, max_size=3))
def test_hop_by_hop_headers_and_those_that_connection_names_end_here(
    pairs: list[tuple[str, str]], named: list[str]
) -> None:
    """Every other header passes, in order, with its value, also where one stands several times."""
    given_headers = [*pairs, ("connection", ", ".join(name.upper() for name in named))]
    in_connection = {
        token.strip().lower() for name, value in given_headers if name == "connection" for token in value.split(",")
    }
    ends = HOP_BY_HOP | in_connection

    sent = request_headers(raw(given_headers), {})
    answered = response_headers(raw([(name.title(), value) for name, value in given_headers]))

    framing = {"host", "content-length", "expect"}
    assert sent == [pair for pair in given_headers if pair[0] not in ends | framing]
    assert answered == raw([pair for pair in given_headers if pair[0] not in ends])


@given(HEADERS)
def test_a_replaced_header_is_there_once_and_an_emptied_one_not_at_all(pairs: list[tuple[str, str]]) -> None:
    """Whatever the caller sent under that name."""
    sent = request_headers(raw(pairs), {"x-route": "support", "authorization": ""})
    assert [value for name, value in sent if name == "x-route"] == ["support"]
    assert "authorization" not in dict(sent)


@pytest.mark.parametrize(
    ("accepted", "asked_for"),
    [
        ("gzip, deflate, br, zstd", "gzip, deflate"),
        ("br;q=1.0, GZIP;q=0.5, *;q=0.1", "GZIP;q=0.5"),
        ("br", "identity"),
        ("*", "identity"),
        ("", "identity"),
        ("zstd, identity;q=0", "identity;q=0"),
        ("x-gzip", "x-gzip"),
    ],
)
def test_servers_are_asked_for_encodings_that_can_be_read_here(accepted: str, asked_for: str) -> None:
    """And never for one that the caller does not take."""
    assert request_headers([(b"accept-encoding", accepted.encode())], {}) == [("accept-encoding", asked_for)]


def test_a_caller_that_names_no_encoding_asks_for_none() -> None:
    """Nothing is added."""
    assert request_headers([(b"accept", b"*/*")], {}) == [("accept", "*/*")]


@given(st.text(max_size=200))
def test_only_plain_ids_are_taken_over(text: str) -> None:
    """No spaces, no control characters, nothing beyond ASCII, at most 128 characters."""
    taken = visible(text)
    assert taken in (None, text)
    if taken is not None:
        assert all(33 <= ord(character) <= 126 for character in taken)
        assert 0 < len(taken) <= 128


def test_the_first_of_several_headers_counts() -> None:
    """As for tags."""
    assert header([(b"a", b"1"), (b"a", b"2")], b"a") == "1"
    assert header([], b"a") is None
