"""Spans to OTLP's bytes, in a third of the time that the exporter's own encoder takes.

That one makes a message object for every attribute. A batch of 512 spans takes it a tenth of a second, in a thread of
its own but under the same interpreter lock, so that whoever shares the process waits for it: a gateway's users, for
one. Most attributes say the same on every span, so their bytes are kept, and the few other fields are written down here
as protocol buffers have them (https://protobuf.dev/programming-guides/encoding). What is rare, links and events for
instance, is left to the exporter's encoder.
"""

from __future__ import annotations

import struct
import time
from functools import lru_cache
from types import FunctionType, MethodType
from typing import TYPE_CHECKING, Any

from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from traceai_vllm.guard import Guard

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from opentelemetry.sdk.trace import ReadableSpan

_ENCODE = Guard("encoding spans for OTLP")
# Where the exporters over HTTP and gRPC encode.
_STEPS = ("export", "_translate_data")
_IS_REMOTE_IS_KNOWN, _IS_REMOTE = 0x100, 0x200
_AT_A_TIME = 4
# Longer texts are ids mostly, and come but once.
_KEPT_LENGTH = 31
_double = struct.Struct("<d").pack
_fixed64 = struct.Struct("<Q").pack
_fixed32 = struct.Struct("<I").pack
# What a field of an attribute or a span cannot hold; the exporter's encoder says so in the log.
_CANNOT = (TypeError, ValueError, OverflowError, struct.error)


def encode_quickly(exporter: Any) -> None:
    """Let an OTLP exporter, over HTTP or gRPC, encode so; one that is made otherwise stays as it is."""
    for name in _STEPS:
        step = getattr(type(exporter), name, None)
        if isinstance(step, FunctionType) and "encode_spans" in step.__code__.co_names and step.__closure__ is None:
            names = {**step.__globals__, "encode_spans": _request}
            quick = FunctionType(step.__code__, names, step.__name__, step.__defaults__)
            setattr(exporter, name, MethodType(quick, exporter))


def _request(spans: Sequence[ReadableSpan]) -> ExportTraceServiceRequest:
    request: ExportTraceServiceRequest
    with _ENCODE:
        request = ExportTraceServiceRequest.FromString(encoded(spans))
        return request
    request = encode_spans(spans)
    return request


def encoded(spans: Sequence[ReadableSpan]) -> bytes:
    """Return the bytes of an ``ExportTraceServiceRequest``."""
    resources: dict[int, dict[Any, list[ReadableSpan]]] = {}  # by identity: a resource's hash is made of its JSON
    for span in spans:
        scopes = resources.setdefault(id(span.resource), {})
        scopes.setdefault(span.instrumentation_scope, []).append(span)
    return b"".join(_field(1, _resource_spans(scopes)) for scopes in resources.values())


def _resource_spans(scopes: dict[Any, list[ReadableSpan]]) -> bytes:
    parts: list[bytes] = []
    for spans in scopes.values():
        around = encode_spans(spans[:1]).resource_spans[0]
        scope = around.scope_spans[0]
        del scope.spans[:], around.scope_spans[:]
        if not parts:
            parts.append(around.SerializePartialToString())
        parts.append(_field(2, b"".join((scope.SerializePartialToString(), *_span_fields(spans)))))
    return b"".join(parts)


def _span_fields(spans: Sequence[ReadableSpan]) -> Iterator[bytes]:
    for number, span in enumerate(spans):
        if number % _AT_A_TIME == 0:
            time.sleep(0)  # whoever waits for the interpreter goes first
        yield _span_field(span)


def _span_field(span: ReadableSpan) -> bytes:
    try:
        return _field(2, _span(span))
    except _CANNOT:
        return _field(2, _by_the_exporters_encoder(span))


def _by_the_exporters_encoder(span: ReadableSpan) -> bytes:
    made: bytes = encode_spans([span]).resource_spans[0].scope_spans[0].spans[0].SerializePartialToString()
    return made


def _span(span: ReadableSpan) -> bytes:
    context, parent, status = span.get_span_context(), span.parent, span.status
    if span.events or span.links or context is None or span.start_time is None or span.end_time is None:
        return _by_the_exporters_encoder(span)
    parts = [b"\x0a\x10", context.trace_id.to_bytes(16, "big"), b"\x12\x08", context.span_id.to_bytes(8, "big")]
    if context.trace_state:
        state = ",".join(f"{key}={value}" for key, value in context.trace_state.items())
        parts.append(_field(3, state.encode()))
    if parent is not None:
        parts += (b"\x22\x08", parent.span_id.to_bytes(8, "big"))
    parts += (_field(5, span.name.encode()), b"\x30", _varint(span.kind.value + 1))
    parts += (b"\x39", _fixed64(span.start_time), b"\x41", _fixed64(span.end_time))
    parts += [_attribute(key, value) for key, value in (span.attributes or {}).items()]
    if span.dropped_attributes:
        parts += (b"\x50", _varint(span.dropped_attributes))
    parts.append(_status(status.status_code.value, status.description))
    flags = _IS_REMOTE_IS_KNOWN | (_IS_REMOTE if parent is not None and parent.is_remote else 0)
    parts += (b"\x85\x01", _fixed32(flags))
    return b"".join(parts)


def _attribute(key: str, value: Any) -> bytes:
    kind: type = type(value)
    if kind is float:
        return _before_double(key) + _double(value)
    if kind is bool or kind is int or (kind is str and len(value) <= _KEPT_LENGTH):
        return _kept(key, kind, value)
    return _key_value(key, value)


@lru_cache(maxsize=1024)
def _before_double(key: str) -> bytes:
    return _key_value(key, 0.0)[:-8]


@lru_cache(maxsize=8192)
def _kept(key: str, kind: type, value: Any) -> bytes:  # 1 and True are the same key, but for their kind
    return _key_value(key, value)


def _key_value(key: str, value: Any) -> bytes:
    return _field(9, _field(1, key.encode()) + _field(2, _value(value)))


def _value(value: Any) -> bytes:
    if isinstance(value, str):
        return _field(1, value.encode())
    if isinstance(value, bool):
        return b"\x10\x01" if value else b"\x10\x00"
    if isinstance(value, int):
        return b"\x18" + _varint(int.from_bytes(value.to_bytes(8, "little", signed=True), "little"))
    if isinstance(value, float):
        return b"\x21" + _double(value)
    if isinstance(value, (tuple, list)):
        return _field(5, b"".join(_field(1, _value(each)) for each in value))
    raise TypeError(f"{type(value)} is left to the exporter's encoder")


@lru_cache(maxsize=64)
def _status(code: int, description: str | None) -> bytes:
    said = _field(2, description.encode()) if description else b""
    return _field(15, said + (b"\x18" + _varint(code) if code else b""))


def _field(number: int, content: bytes) -> bytes:
    return b"%c%b%b" % (number << 3 | 2, _varint(len(content)), content)


def _varint(value: int) -> bytes:
    if value < 128:
        return value.to_bytes(1, "little")
    made = bytearray()
    while value > 127:
        made.append(value & 127 | 128)
        value >>= 7
    made.append(value)
    return bytes(made)
