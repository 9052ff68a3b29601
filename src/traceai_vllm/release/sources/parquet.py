"""Parquet files as a source: a column for each attribute, or one column ``attributes`` (a map, or JSON)."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from traceai_vllm.release.columns import COLUMNS, PASSED, SCORE, passed_key, score_key
from traceai_vllm.release.sources.duckdb_session import memory_connection
from traceai_vllm.release.sources.json_spans import KINDS, RAW, json_source, quoted
from traceai_vllm.release.sources.source import Source, SourceError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import duckdb

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
_SCORED = re.compile(r"gen_ai\.evaluation\.(.+)\.score")


def parquet_source(files: Sequence[Path]) -> Source:
    """Open Parquet files; those that cannot be read are left out and reported.

    Args:
        files: the files; together they are one table, columns that one lacks are empty there.

    Raises:
        SourceError: none of them can be read, or they hold no ids of traces and spans.
    """
    import ibis

    connection = memory_connection()
    readable, problems = _readable(connection, files)
    if not readable:
        raise SourceError("no Parquet file can be read:\n  " + "\n  ".join(problems))
    names = ", ".join("'" + str(file).replace("'", "''") + "'" for file in readable)
    table = f"read_parquet([{names}], union_by_name = true)"
    described = connection.execute(f"DESCRIBE SELECT * FROM {table}").fetchall()
    columns = {row[0]: row[1] for row in described}
    for needed in ("trace_id", "span_id"):
        if not _names_of(needed, columns):
            has = ", ".join(columns)
            raise SourceError(f"{readable[0]} has no column {needed}: a row has to be a span; it has {has}")
    if "attributes" in columns:
        connection.execute(_raw_view(table, columns))
        return json_source(connection, problems=problems)
    evaluators = sorted(match[1] for name in columns if (match := _SCORED.fullmatch(name)))
    connection.execute(f"CREATE TEMP VIEW spans_read AS {_flat(table, columns, evaluators)}")
    spans = ibis.duckdb.from_connection(connection).table("spans_read")
    return Source(spans=spans, evaluators=tuple(evaluators), problems=tuple(problems))


def _readable(connection: duckdb.DuckDBPyConnection, files: Sequence[Path]) -> tuple[list[Path], list[str]]:
    import duckdb

    readable, problems = [], []
    for file in files:
        try:
            connection.execute("SELECT num_rows FROM parquet_file_metadata($1)", [str(file)]).fetchall()
            readable.append(file)
        except duckdb.Error as error:
            problems.append(f"{file.name}: cannot be read ({str(error).splitlines()[0]})")
    return readable, problems


def _flat(table: str, columns: dict[str, str], evaluators: Sequence[str]) -> str:
    selected = [f"{_value(column, columns)} AS {column.name}" for column in COLUMNS]
    for name in evaluators:
        score, passed = score_key(name), passed_key(name)
        selected.append(f"TRY_CAST({quoted(score)} AS DOUBLE) AS {quoted(SCORE + name)}")
        value = f"TRY_CAST({quoted(passed)} AS BOOLEAN)" if passed in columns else "NULL::BOOLEAN"
        selected.append(f"{value} AS {quoted(PASSED + name)}")
    return f"SELECT {', '.join(selected)} FROM {table}"


def _raw_view(table: str, columns: dict[str, str]) -> str:
    fields = [f"{_value(column, columns)} AS {column.name}" for column in COLUMNS if not column.keys]
    text = columns["attributes"] in ("VARCHAR", "JSON")
    attributes = "TRY_CAST(attributes AS JSON)" if text else "to_json(attributes)"
    return f"CREATE TEMP VIEW {RAW} AS SELECT {', '.join(fields)}, {attributes} AS attributes FROM {table}"


def _value(column: Column, columns: dict[str, str]) -> str:
    kind = KINDS[column.kind]
    found = [_cast(name, columns[name], kind) for name in _names_of(column.name, columns, column.keys)]
    if column.name == "failed" and not found:
        status = _names_of("status", columns, ("StatusCode", "status_code"))
        found = [f"contains(upper({quoted(status[0])}), 'ERROR')"] if status else []
    return f"coalesce({', '.join(found)})" if found else f"NULL::{kind}"


def _cast(name: str, given: str, kind: str) -> str:
    if given == kind:
        return quoted(name)
    if kind == "VARCHAR[]" and given == "VARCHAR":  # one value, several with commas between, or a JSON list
        return rf"""[item FOR item IN regexp_split_to_array({quoted(name)}, '[\[\]",\s]+') IF item <> '']"""
    return f"TRY_CAST({quoted(name)} AS {kind})"


def _names_of(name: str, columns: dict[str, str], keys: Sequence[str] = ()) -> list[str]:
    return [known for known in (name, *keys, *_OTHER_NAMES.get(name, ())) if known in columns]
