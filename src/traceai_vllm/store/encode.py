"""From a finished span to one line of JSON: no file, no lock, no clock.

Values that JSON lacks are written as OTLP's JSON mapping writes them: bytes as base64 text, non-finite floats
as ``"NaN"``, ``"Infinity"`` and ``"-Infinity"`` (DuckDB casts these texts back to DOUBLE). Text that is not
valid Unicode (lone surrogates) gets U+FFFD in their place, since no JSON reader takes them. Integers are
exact within 64 bits.
"""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import Event, ReadableSpan
    from opentelemetry.trace import Link

FORMAT_VERSION = 1
# Half of DuckDB's default `maximum_object_size`: one longer line would make it refuse the whole file.
MAX_LINE_BYTES = 8 * 1024 * 1024

_SHORT_TEXT = 4096
_SHORT_SEQUENCE = 256
_NANOSECONDS = 1_000_000_000


class SpanEncoder:
    """Encodes spans as lines, and remembers the JSON of the last resource: all spans of a process share one.

    Attributes:
        truncated: how many spans were longer than ``MAX_LINE_BYTES`` and had their long values cut.
    """

    def __init__(self) -> None:
        self.truncated = 0
        self._resource: Resource | None = None
        self._resource_json = b"{}"

    def line(self, span: ReadableSpan) -> bytes:
        """Return the span as one line of JSON with its newline, at most ``MAX_LINE_BYTES`` long.

        A span that is longer has its texts cut to 4,096 characters and its sequences to 256 items; the line
        then carries ``"truncated": true``.
        """
        record = span_record(span)
        resource = self._resource_of(span)
        line = _joined(record, resource)
        if len(line) > MAX_LINE_BYTES:
            self.truncated += 1
            line = _joined({**_shortened(record), "truncated": True}, resource)
        if len(line) > MAX_LINE_BYTES:
            line = _joined({**_bare(record), "truncated": True}, b"{}")
        return line

    def _resource_of(self, span: ReadableSpan) -> bytes:
        if span.resource is not self._resource:
            self._resource_json = to_json(dict(span.resource.attributes))
            self._resource = span.resource
        return self._resource_json


def span_record(span: ReadableSpan) -> dict[str, Any]:
    """Return what is stored of a span but its resource; times in nanoseconds since the epoch, ids in hex."""
    context = span.get_span_context()
    if context is None:
        raise ValueError(f"the span {span.name!r} has no context")
    start, end = span.start_time, span.end_time
    return {
        "format_version": FORMAT_VERSION,
        "trace_id": f"{context.trace_id:032x}",
        "span_id": f"{context.span_id:016x}",
        "parent_span_id": f"{span.parent.span_id:016x}" if span.parent else None,
        "name": span.name,
        "kind": span.kind.name,
        "start_time_unix_nano": start,
        "end_time_unix_nano": end,
        "duration_s": None if start is None or end is None else (end - start) / _NANOSECONDS,
        "status": span.status.status_code.name,
        "status_message": span.status.description,
        "scope": span.instrumentation_scope.name if span.instrumentation_scope else None,
        "events": [_event(event) for event in span.events],
        "links": [_link(link) for link in span.links],
        "attributes": dict(span.attributes or {}),
    }


def to_json(value: Any) -> bytes:
    """Return a value as compact JSON in UTF-8; see the module's docstring for what JSON lacks."""
    try:
        return _ENCODER.encode(value).encode()
    except ValueError:  # a non-finite float, a lone surrogate (UnicodeEncodeError), an integer of 4,300 digits
        return _ENCODER.encode(portable(value)).encode()


def portable(value: Any) -> Any:
    """Return a value with everything that JSON or UTF-8 lacks replaced as the module's docstring says."""
    if isinstance(value, str):
        return value.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    if isinstance(value, float):
        return value if math.isfinite(value) else _NON_FINITE.get(value, "NaN")
    if isinstance(value, int):
        # Far beyond OTLP's 64 bits; hexadecimal has no limit on digits.
        return value if value.bit_length() <= 64 else hex(value)
    if isinstance(value, Mapping):
        return {portable(str(key)): portable(item) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, bytes):
        return [portable(item) for item in value]
    return value


def _event(event: Event) -> dict[str, Any]:
    return {"name": event.name, "time_unix_nano": event.timestamp, "attributes": dict(event.attributes or {})}


def _link(link: Link) -> dict[str, Any]:
    return {
        "trace_id": f"{link.context.trace_id:032x}",
        "span_id": f"{link.context.span_id:016x}",
        "attributes": dict(link.attributes or {}),
    }


def _joined(record: dict[str, Any], resource: bytes) -> bytes:
    return to_json(record)[:-1] + b',"resource":' + resource + b"}\n"


def _shortened(value: Any) -> Any:
    if isinstance(value, (str, bytes)):
        return value[:_SHORT_TEXT]
    if isinstance(value, Mapping):
        return {_shortened(key): _shortened(item) for key, item in value.items()}
    if isinstance(value, Sequence):
        return [_shortened(item) for item in value[:_SHORT_SEQUENCE]]
    return value


def _bare(record: dict[str, Any]) -> dict[str, Any]:
    return {**_shortened({**record, "attributes": {}}), "events": [], "links": []}


def _unknown_to_json(value: Any) -> Any:
    if isinstance(value, bytes):
        return base64.b64encode(value).decode("ascii")
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, Sequence):
        return list(value)
    return str(value)


_NON_FINITE = {math.inf: "Infinity", -math.inf: "-Infinity"}
_ENCODER = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=_unknown_to_json)
