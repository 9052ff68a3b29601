"""Which headers pass the gateway. Hop-by-hop ones (RFC 9110, 7.6.1) end here, and so does all framing."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    RawHeaders = Iterable[tuple[bytes, bytes]]

_HOP_BY_HOP = frozenset(
    {
        b"connection",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    }
)
# Written anew for the connection to the server: its host, the length of what is really sent, and an expectation that
# the gateway has met already by reading the body.
_REWRITTEN = frozenset({b"host", b"content-length", b"expect"})
# The caller's trace context and baggage.
CARRIED = (b"traceparent", b"tracestate", b"baggage")
# The encodings that answers are read in for pairs and spans.
READABLE = frozenset({"gzip", "x-gzip", "deflate", "identity"})
_NOT_SENT_ON = _HOP_BY_HOP | _REWRITTEN
# The HTTP client takes these in, and no server sends them on.
_CONTROL = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")


def request_headers(raw: RawHeaders, replaced: Mapping[str, str]) -> list[tuple[str, str]]:
    """Return the headers of a request to a server; of the encodings that the caller takes, those that can be read here.

    Args:
        raw: the caller's headers, names in lower case.
        replaced: headers that the gateway sets, names in lower case; the caller's of that name are left out. An empty
            value leaves the header out altogether.
    """
    pairs = list(raw)
    dropped = _and_named_by_connection(_NOT_SENT_ON, pairs)
    kept = []
    for name, value in pairs:
        text = name.decode("latin-1")
        if name not in dropped and text not in replaced:
            given = _text(value)
            kept.append((text, _readable(given) if name == b"accept-encoding" else given))
    kept += [(name, value) for name, value in replaced.items() if value]
    return kept


def response_headers(raw: RawHeaders) -> list[tuple[bytes, bytes]]:
    """Return the headers of a server's answer that go on to the user; ``content-length`` does, as the body does.

    Raises:
        ValueError: a value has control characters in it, and cannot be sent on.
    """
    pairs = [(name.lower(), value) for name, value in raw]
    if _CONTROL.search(b"".join(value for _, value in pairs)):
        raise ValueError("a header has control characters in it")
    dropped = _and_named_by_connection(_HOP_BY_HOP, pairs)
    return [(name, value) for name, value in pairs if name not in dropped]


def header(raw: RawHeaders, name: bytes) -> str | None:
    """Return the first value of a header, or None."""
    for key, value in raw:
        if key == name:
            return _text(value)
    return None


def visible(text: str | None, max_length: int = 128) -> str | None:
    """Return a text that is safe to send on as a header and to keep in a span; None when it is not."""
    if text and len(text) <= max_length and text.isascii() and text.isprintable() and " " not in text:
        return text
    return None


def _and_named_by_connection(names: frozenset[bytes], pairs: RawHeaders) -> frozenset[bytes]:
    given = [value for name, value in pairs if name == b"connection"]
    return names.union(token.strip().lower() for value in given for token in value.split(b",")) if given else names


@lru_cache(maxsize=256)  # a client always says the same
def _readable(accepted: str) -> str:
    # Never one more than the caller takes: the answer goes to him as it comes.
    kept = [part.strip() for part in accepted.split(",") if part.partition(";")[0].strip().lower() in READABLE]
    return ", ".join(kept) or "identity"


def _text(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.decode("latin-1")
