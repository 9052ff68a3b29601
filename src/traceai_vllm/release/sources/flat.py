"""A table with a row for each span and a column for each attribute, in any database that Ibis speaks to."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from traceai_vllm.release.columns import COLUMNS, PASSED, SCORE, passed_key, score_key
from traceai_vllm.release.sources.source import Source, SourceError
from traceai_vllm.release.sources.texts import items_of
from traceai_vllm.release.sources.times import nanoseconds

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from traceai_vllm.release.columns import Column

# What the fields of a span itself are called elsewhere: OpenTelemetry's JSON, the collector's ClickHouse columns.
_OTHER_NAMES = {
    "trace_id": ("traceId", "TraceId", "context.trace_id"),
    "span_id": ("spanId", "SpanId", "context.span_id"),
    "parent_span_id": ("parentSpanId", "ParentSpanId", "parent_id"),
    "kind": ("SpanKind", "span_kind"),
    "start_ns": ("start_time_unix_nano", "startTimeUnixNano"),
    "end_ns": ("end_time_unix_nano", "endTimeUnixNano"),
}
STATUS: Final = ("status", "StatusCode", "status_code")
CODES: Final = ("code", "status_code")  # in an object beside a message: OTLP, and the SDK's JSON
ERROR_NUMBERS: Final = ("2", "2.0")  # of OTLP; a column of numbers that lacks some is one of floats
_SCORED = re.compile(r"gen_ai\.evaluation\.(.+)\.score")


def flat_source(table: Any, problems: Sequence[str] = ()) -> Source:
    """Return the source of an Ibis table; columns are found by their own names and by those of attributes.

    Args:
        table: a row for each span.
        problems: what could not be read.

    Raises:
        SourceError: it has no ids of traces and spans.
    """
    check_ids(table.columns, "the table")
    evaluators = sorted(match[1] for name in table.columns if (match := _SCORED.fullmatch(name)))
    columns = {column.name: _value(table, column) for column in COLUMNS}
    for name in evaluators:
        columns[SCORE + name] = _cast(table[score_key(name)], "float64")
        columns[PASSED + name] = _first(table, (passed_key(name),), "boolean")
    absent = frozenset(column.name for column in COLUMNS if not _names_in(table, names_of(column.name, column.keys)))
    return Source(spans=table.select(**columns), evaluators=tuple(evaluators), problems=tuple(problems), absent=absent)


def check_ids(names: Collection[str], what: str) -> None:
    """Check that a table says which span each row is.

    Raises:
        SourceError: it does not.
    """
    for needed in ("trace_id", "span_id"):
        if not any(name in names for name in names_of(needed)):
            raise SourceError(f"{what} has no column {needed}: a row has to be a span; it has {', '.join(names)}")


def names_of(name: str, keys: Sequence[str] = ()) -> tuple[str, ...]:
    """Return what a column may be called: by our name, by its attributes, or as others call a span's field."""
    return tuple(dict.fromkeys((name, *keys, *_OTHER_NAMES.get(name, ()))))


def _value(table: Any, column: Column) -> Any:
    if column.name == "failed" and "failed" not in table.columns:
        return _is_error(table)
    return _first(table, names_of(column.name, column.keys), column.kind)


def _is_error(table: Any) -> Any:
    import ibis

    codes = [found for name in _names_in(table, STATUS) if (found := _code_in(table[name])) is not None]
    code = ibis.coalesce(*(code.cast("string") for code in codes)) if codes else ibis.null("string")
    return code.upper().contains("ERROR") | code.isin(ERROR_NUMBERS)


def _code_in(status: Any) -> Any:
    if not status.type().is_struct():
        return status
    return next((status[name] for name in CODES if name in status.type().names), None)


def _names_in(table: Any, names: Sequence[str]) -> list[str]:
    return [name for name in names if name in table.columns]


def _first(table: Any, names: Sequence[str], kind: str) -> Any:
    import ibis

    found = [_cast(table[name], kind) for name in _names_in(table, names)]
    if not found:
        return ibis.null("array<string>" if kind == "list" else kind)
    return found[0] if len(found) == 1 else ibis.coalesce(*found)


def _cast(value: Any, kind: str) -> Any:
    given = value.type()
    if (given.value_type if given.is_array() and kind == "list" else given).is_nested():
        wanted = "a list of texts" if kind == "list" else "one value"
        raise SourceError(f"the column {value.get_name()} is {given}, and {wanted} is read: write it as text")
    if kind == "list":
        if not given.is_array():
            return items_of(value.cast("string"))
        return value if given.value_type.is_string() else value.cast("array<string>")
    if kind == "string":
        return value if given.is_string() else value.cast("string")
    if given.is_timestamp() and kind == "int64":
        return nanoseconds(value)
    if given.is_null() or str(given).lstrip("!") == kind:
        return value
    return value.try_cast(kind)
