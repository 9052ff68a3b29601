"""The table ``otel_traces`` of a collector's ClickHouse exporter as a source."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from traceai_vllm.release.columns import ATTRIBUTES, PASSED, SCORE, passed_key, score_key
from traceai_vllm.release.sources.location import without_password
from traceai_vllm.release.sources.source import Source, SourceError
from traceai_vllm.release.sources.texts import items_of
from traceai_vllm.release.sources.times import nanoseconds
from traceai_vllm.telemetry import semconv

if TYPE_CHECKING:
    from traceai_vllm.release.columns import Column

TABLE = "otel_traces"


def clickhouse_source(url: str) -> Source:
    """Open the table of spans in a ClickHouse database.

    Args:
        url: ``clickhouse://user:password@host:port/database``.

    Raises:
        ImportError: Ibis' ClickHouse backend is not installed.
        SourceError: there is no such database, it lets nobody in, or it has no such table.
    """
    try:
        import ibis
        from clickhouse_connect.driver.exceptions import ClickHouseError  # what Ibis' backend needs: its own message
        from ibis.common.exceptions import IbisError
    except ImportError as error:
        fix = "reading ClickHouse needs its driver: pip install 'ibis-framework[clickhouse]'"
        raise ImportError(fix, name="clickhouse_connect") from error
    try:
        table = ibis.connect(url).table(TABLE)
    except (ClickHouseError, IbisError) as error:
        where = without_password(url).removeprefix("clickhouse://")
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise SourceError(
            f"the table {TABLE} of the ClickHouse at {where} cannot be read: check that the server runs, that its HTTP "
            f"port, user and database are right, and that a collector has written there ({reason})"
        ) from error
    return table_source(table)


def table_source(table: Any) -> Source:
    """Return the source of an Ibis table that is laid out as the collector's exporter lays it out.

    Args:
        table: ``TraceId``, ``SpanId``, ``ParentSpanId``, ``SpanKind``, ``Timestamp``, ``Duration`` (nanoseconds),
            ``StatusCode`` and ``SpanAttributes``, a map of texts; in ClickHouse, or on any backend of Ibis.
    """
    keys = table.select(key=table.SpanAttributes.keys().unnest()).distinct()
    scored = keys.filter(keys.key.startswith(semconv.EVALUATION_PREFIX), keys.key.endswith(".score"))
    found = scored.key.to_pyarrow().to_pylist()
    evaluators = sorted(key.removeprefix(semconv.EVALUATION_PREFIX).removesuffix(".score") for key in found)
    start = nanoseconds(table.Timestamp)
    columns = {
        "trace_id": table.TraceId,
        "span_id": table.SpanId,
        "parent_span_id": table.ParentSpanId.nullif(""),
        "kind": table.SpanKind.upper(),
        "start_ns": start,
        "end_ns": start + table.Duration.cast("int64"),
        "failed": table.StatusCode.upper().contains("ERROR"),
        **{column.name: _value(table, column) for column in ATTRIBUTES},
    }
    for name in evaluators:
        columns[SCORE + name] = _text(table, score_key(name)).try_cast("float64")
        columns[PASSED + name] = _text(table, passed_key(name)) == "true"
    return Source(spans=table.select(**columns), evaluators=tuple(evaluators))


def _value(table: Any, column: Column) -> Any:
    value = _text(table, column.keys[0])
    for key in column.keys[1:]:
        value = value.fill_null(_text(table, key))
    if column.kind == "boolean":
        return value == "true"
    if column.kind == "list":  # the exporter writes a list of texts as JSON
        return items_of(value)
    return value if column.kind == "string" else value.try_cast(column.kind)


def _text(table: Any, key: str) -> Any:
    return table.SpanAttributes.get(key, "").nullif("")
