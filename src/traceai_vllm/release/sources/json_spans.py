"""Spans with their attributes as JSON, in DuckDB: our store, and OTLP files."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from traceai_vllm.release.columns import ATTRIBUTES, PASSED, SCORE, passed_key, score_key
from traceai_vllm.release.sources.source import Source
from traceai_vllm.telemetry import semconv

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

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
# A list may be a text too, as in a map of texts: a list in JSON, or between commas.
_ITEMS = r"""CASE json_type({0}) WHEN 'ARRAY' THEN CAST({0} AS VARCHAR[]) WHEN 'VARCHAR' THEN list_filter(
    string_split_regex(regexp_replace({0}->>'$', '^\s*\[?\s*"?|"?\s*\]?\s*$', '', 'g'), '"?\s*,\s*"?'),
    lambda item: item <> '') END"""


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

    evaluators = _spellings(_evaluators_on_spans(connection))
    connection.execute(f"CREATE TEMP TABLE spans_read AS {_canonical(evaluators)}")
    if late is not None:
        connection.execute(f"CREATE TEMP TABLE {_LATE} AS {late}")
        on_spans = [name for names in evaluators.values() for name in names]
        evaluators = _spellings([*on_spans, *_late_evaluators(connection)])
        for name, others in _written_otherwise(evaluators).items():
            connection.execute(f"UPDATE {_LATE} SET evaluator = $1 WHERE list_contains($2, evaluator)", [name, others])
    merged = [
        f"the evaluators {name} and {', '.join(others)} differ by case alone, and count as one: {name}"
        for name, others in _written_otherwise(evaluators).items()
    ]
    backend = ibis.duckdb.from_connection(connection)
    return Source(
        spans=backend.table("spans_read"),
        evaluators=tuple(sorted(evaluators)),
        late=None if late is None else backend.table(_LATE),
        problems=(*problems, *merged),
        absent=_absent(connection),
        content=_content_of(connection),
    )


def _evaluators_on_spans(connection: duckdb.DuckDBPyConnection) -> list[str]:
    """Return the evaluators with scores on spans, the most frequent first."""
    found = connection.execute(
        f"""SELECT name, count(*) FROM (SELECT unnest(
            regexp_extract_all(array_to_string(json_keys(attributes), ','), '{_SCORE_KEY}', 1)) AS name FROM {RAW})
        GROUP BY name ORDER BY count(*) DESC, name"""
    )
    return [name for name, _ in found.fetchall()]


def _late_evaluators(connection: duckdb.DuckDBPyConnection) -> list[str]:
    found = connection.execute(
        f"""SELECT evaluator, count(*) FROM {_LATE} WHERE score NOTNULL
        GROUP BY evaluator ORDER BY count(*) DESC, evaluator"""
    )
    return [name for name, _ in found.fetchall()]


def _spellings(names: Iterable[str]) -> dict[str, list[str]]:
    """Return evaluators with all the ways in which their names are written: to DuckDB, case makes no difference."""
    spellings: dict[str, list[str]] = {}
    for name in dict.fromkeys(names):
        spellings.setdefault(name.lower(), []).append(name)
    return {written[0]: written for written in spellings.values()}


def _written_otherwise(evaluators: dict[str, list[str]]) -> dict[str, list[str]]:
    return {name: written[1:] for name, written in evaluators.items() if len(written) > 1}


def _absent(connection: duckdb.DuckDBPyConnection) -> frozenset[str]:
    names = [column.name for column in ATTRIBUTES]
    counted = connection.execute(f"SELECT {', '.join(f'count({name})' for name in names)} FROM spans_read").fetchall()
    return frozenset(name for name, count in zip(names, counted[0], strict=True) if not count)


def _canonical(evaluators: dict[str, list[str]]) -> str:
    kinds = {**KINDS, "list": "JSON"}
    wanted = {key: kinds[column.kind] for column in ATTRIBUTES for key in column.keys}
    for name in evaluators:
        wanted |= {score_key(name): "DOUBLE", passed_key(name): "BOOLEAN"}
    columns = [f"{_first_of(column)} AS {column.name}" for column in ATTRIBUTES]
    for name, written in evaluators.items():
        for prefix, key_of in ((SCORE, score_key), (PASSED, passed_key)):
            key, *others = map(key_of, written)
            found = [_of(key), *(_alone(other, wanted[key]) for other in others)]
            columns.append(f"coalesce({', '.join(found)}) AS {quoted(prefix + name)}")
    # One pass over the JSON for all attributes: asking for each by itself would parse it as often.
    structure = json.dumps(wanted).replace("'", "''")
    return f"""SELECT trace_id, span_id, parent_span_id, kind, start_ns, end_ns, failed, {", ".join(columns)}
    FROM (SELECT *, json_transform(attributes, '{structure}') AS found FROM {RAW})"""


def _first_of(column: Column) -> str:
    found = [_ITEMS.format(_of(key)) if column.kind == "list" else _of(key) for key in column.keys]
    return f"coalesce({', '.join(found)})"


def _of(key: str) -> str:
    return f"found.{quoted(key)}"


def _alone(key: str, kind: str) -> str:
    pointer = "/" + key.replace("~", "~0").replace("/", "~1").replace("'", "''")
    return f"TRY_CAST(json_extract_string(attributes, '{pointer}') AS {kind})"


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
