"""Spans with their attributes as JSON, in DuckDB: our store, and OTLP files."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from traceai_vllm.release.columns import ATTRIBUTES, PASSED, SCORE, passed_key, score_key
from traceai_vllm.release.sources.source import Source
from traceai_vllm.telemetry import semconv

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import duckdb

    from traceai_vllm.release.columns import Column

RAW = "raw_spans"
KINDS = {"string": "VARCHAR", "int64": "BIGINT", "float64": "DOUBLE", "boolean": "BOOLEAN", "list": "VARCHAR[]"}
_CONTENT = (
    semconv.INPUT_MESSAGES,
    semconv.OUTPUT_MESSAGES,
    semconv.RETRIEVED_CONTEXT,
    "input.value",
    "output.value",
)
_SCORE_KEY = semconv.EVALUATION_PREFIX.replace(".", r"\.") + r"([^,]+)\.score(?:,|$)"
_LATE = "late_evaluations"


def json_source(
    connection: duckdb.DuckDBPyConnection, *, late: str | None = None, problems: Sequence[str] = ()
) -> Source:
    """Return the source of a connection that has the view ``raw_spans``.

    Args:
        connection: ``raw_spans`` there has ``trace_id``, ``span_id``, ``parent_span_id``, ``kind``, ``start_ns``,
            ``end_ns``, ``failed`` and ``attributes`` (JSON).
        late: a query for scores that are kept apart from spans.
        problems: what could not be read.
    """
    import ibis

    evaluators = set(_evaluators_on_spans(connection))
    connection.execute(f"CREATE TEMP TABLE spans_read AS {_canonical(sorted(evaluators))}")
    if late is not None:
        connection.execute(f"CREATE TEMP TABLE {_LATE} AS {late}")
        evaluators |= {
            name
            for (name,) in connection.execute(f"SELECT DISTINCT evaluator FROM {_LATE} WHERE score NOTNULL").fetchall()
        }
    backend = ibis.duckdb.from_connection(connection)
    return Source(
        spans=backend.table("spans_read"),
        evaluators=tuple(sorted(evaluators)),
        late=None if late is None else backend.table(_LATE),
        problems=tuple(problems),
        absent=_absent(connection),
        content=_content_of(connection),
    )


def _evaluators_on_spans(connection: duckdb.DuckDBPyConnection) -> list[str]:
    found = connection.execute(
        f"""SELECT DISTINCT unnest(regexp_extract_all(array_to_string(json_keys(attributes), ','), '{_SCORE_KEY}', 1))
        FROM {RAW}"""
    )
    return [name for (name,) in found.fetchall()]


def _absent(connection: duckdb.DuckDBPyConnection) -> frozenset[str]:
    names = [column.name for column in ATTRIBUTES]
    counted = connection.execute(f"SELECT {', '.join(f'count({name})' for name in names)} FROM spans_read").fetchall()
    return frozenset(name for name, count in zip(names, counted[0], strict=True) if not count)


def _canonical(evaluators: Sequence[str]) -> str:
    wanted = {key: KINDS[column.kind] for column in ATTRIBUTES for key in column.keys}
    for name in evaluators:
        wanted |= {score_key(name): "DOUBLE", passed_key(name): "BOOLEAN"}
    columns = [f"{_first_of(column)} AS {column.name}" for column in ATTRIBUTES]
    for name in evaluators:
        columns.append(f"{_of(score_key(name))} AS {quoted(SCORE + name)}")
        columns.append(f"{_of(passed_key(name))} AS {quoted(PASSED + name)}")
    # One pass over the JSON for all attributes: asking for each by itself would parse it as often.
    structure = json.dumps(wanted).replace("'", "''")
    return f"""SELECT trace_id, span_id, parent_span_id, kind, start_ns, end_ns, failed, {", ".join(columns)}
    FROM (SELECT * EXCLUDE attributes, json_transform(attributes, '{structure}') AS found FROM {RAW})"""


def _first_of(column: Column) -> str:
    return f"coalesce({', '.join(_of(key) for key in column.keys)})"


def _of(key: str) -> str:
    return f"found.{quoted(key)}"


def quoted(name: str) -> str:
    """Return a name as SQL writes it."""
    escaped = name.replace('"', '""')
    return f'"{escaped}"'


def _content_of(connection: duckdb.DuckDBPyConnection) -> Callable[[Sequence[tuple[str, str]]], Any]:
    keys = ", ".join(f"""attributes->>'$."{key}"'""" for key in _CONTENT)

    def content(ids: Sequence[tuple[str, str]]) -> dict[tuple[str, str], dict[str, Any]]:
        rows = connection.execute(
            f"SELECT trace_id, span_id, parent_span_id, {keys} FROM {RAW} WHERE list_contains($1, trace_id)",
            [sorted({trace_id for trace_id, _ in ids})],
        ).fetchall()
        parents = {(row[0], row[1]): row[2] for row in rows}
        found: dict[tuple[str, str], dict[str, Any]] = {}
        for trace_id, span_id, _, *values in rows:
            given = {key: value for key, value in zip(_CONTENT, values, strict=True) if value is not None}
            owner = _owner((trace_id, span_id), parents, set(ids)) if given else None
            if owner is not None:
                found.setdefault(owner, {}).update(given)
        return found

    return content


def _owner(
    span: tuple[str, str], parents: dict[tuple[str, str], str | None], wanted: set[tuple[str, str]]
) -> tuple[str, str] | None:
    # An arm's content may be on a span of the server below it.
    seen: set[tuple[str, str]] = set()
    while span not in wanted:
        seen.add(span)
        parent = parents.get(span)
        span = (span[0], parent or "")
        if parent is None or span in seen:
            return None
    return span
