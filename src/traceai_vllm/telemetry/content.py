"""Puts content on spans, as JSON, and on the GenAI conventions' event, as structured values."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

from opentelemetry import trace

from traceai_vllm.content.content import FIELDS, report_unquoted
from traceai_vllm.content.limits import limited, size_of
from traceai_vllm.telemetry import semconv
from traceai_vllm.telemetry.log_events import has_named_events

if TYPE_CHECKING:
    from opentelemetry._logs import Logger
    from opentelemetry.trace import Span

    from traceai_vllm.content.content import Content
    from traceai_vllm.content.options import ContentOptions
    from traceai_vllm.record import RequestRecord

    Attributes = dict[str, Any]

_ATTRIBUTES = {
    "input_messages": semconv.INPUT_MESSAGES,
    "output_messages": semconv.OUTPUT_MESSAGES,
    "system_instructions": semconv.SYSTEM_INSTRUCTIONS,
    "tool_definitions": semconv.TOOL_DEFINITIONS,
    "context": semconv.RETRIEVED_CONTEXT,
    "stop_sequences": semconv.REQUEST_STOP_SEQUENCES,
}
# Made once: json.dumps with settings of one's own makes an encoder for each call.
_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), check_circular=False, allow_nan=False).encode


class ContentExport:
    """Sends the content of requests where the options say.

    Args:
        options: where it goes, and how long its fields may be.
        logger: where events go.
    """

    def __init__(self, options: ContentOptions, logger: Logger) -> None:
        self.on_span = options.mode.on_span
        self.on_event = options.mode.on_event and has_named_events("Content is")
        self._max_length = options.max_length
        self._logger = logger

    def span_attributes(self, record: RequestRecord) -> Attributes:
        """Return the attributes of a request's span that hold its content."""
        try:
            fields, counts = self._fields(record)
            return {**{key: _span_value(key, entries) for key, entries in fields.items()}, **counts}
        except Exception as error:
            report_unquoted("the content of a span", error)
            return {}

    def emit(self, record: RequestRecord, span: Span | None, attributes: Attributes) -> None:
        """Emit the event of a request.

        Args:
            record: the request.
            span: its span; None when there is none.
            attributes: what the event says of the request beside its content.
        """
        try:
            fields, counts = self._fields(record)
            ctx = record.context if span is None else trace.set_span_in_context(span, record.context)
            self._logger.emit(_log_record(ctx, record.end_ns, {**attributes, **counts, **fields}))
        except Exception as error:
            report_unquoted("the content event of a request", error)

    def _fields(self, record: RequestRecord) -> tuple[Attributes, Attributes]:
        content = None if record.content is None else record.content.read()
        if content is None:
            return {}, {}
        fields, left_out = {}, 0
        for name in FIELDS:
            entries = getattr(content, name)
            if entries:
                cut, missing = limited(entries, self._max_length, newest_first=name == "input_messages")
                fields[_ATTRIBUTES[name]] = cut
                left_out += missing
        for key, value in _judged_by(content).items():
            # Cut, it would be another schema and other calls.
            if size_of(value) <= self._max_length:
                fields[key] = value
            else:
                left_out += size_of(value)
        counts = {semconv.CONTENT_LEFT_OUT: left_out, semconv.CONTENT_REDACTIONS: content.redactions}
        return fields, {key: count for key, count in counts.items() if count}


def _judged_by(content: Content) -> Attributes:
    """What an answer is judged by; an empty list of calls says that none is due."""
    given = {
        semconv.OUTPUT_SCHEMA: content.output_schema if "output_schema" in content.may_leave else None,
        semconv.TOOL_CHOICE: content.tool_choice if "tool_choice" in content.may_leave else None,
        semconv.EXPECTED_CALLS: content.expected_calls,
    }
    return {key: value for key, value in given.items() if value is not None}


def _span_value(key: str, entries: Any) -> Any:
    # The conventions have strings here, which a span can hold as they are.
    return tuple(entries) if key == semconv.REQUEST_STOP_SEQUENCES else _to_json(entries)


def _to_json(entries: Any) -> str:
    try:
        return _encode(entries)
    except ValueError:  # NaN or Infinity, which models write and Python reads, and a database refuses
        from traceai_vllm.store.encode import portable

        return _encode(portable(entries))


def _log_record(ctx: Any, end_ns: int, attributes: Attributes) -> Any:
    from opentelemetry._logs import LogRecord, SeverityNumber

    return LogRecord(
        timestamp=end_ns,
        observed_timestamp=time.time_ns(),
        context=ctx,
        severity_number=SeverityNumber.INFO,
        event_name=semconv.CONTENT_EVENT,
        attributes=attributes,
    )
