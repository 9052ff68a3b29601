"""Scores that came to a store after their spans: what ``traceai-vllm evaluate`` and late evaluators wrote."""

from __future__ import annotations

from typing import TYPE_CHECKING

from traceai_vllm.store.evaluations import PATTERN
from traceai_vllm.store.reader import glob_escaped

if TYPE_CHECKING:
    from pathlib import Path

    import duckdb

# Slices and times are those of the span: the same in each of its rows.
_QUERY = """SELECT trace_id, span_id, evaluator, max(score) FILTER (status = 'ok') AS score,
    bool_and(passed) FILTER (status = 'ok') AS passed,
    max(max(slices)) OVER (PARTITION BY trace_id, span_id) AS slices,
    max(max(time_unix_nano)) OVER (PARTITION BY trace_id, span_id) AS scored_ns
    FROM evaluations GROUP BY trace_id, span_id, evaluator"""
_UNREADABLE = """SELECT parse_filename(filename), count(*) FROM read_json('{files}', format = 'newline_delimited',
    ignore_errors = true, filename = true, columns = {{trace_id: 'VARCHAR', span_id: 'VARCHAR', evaluator: 'VARCHAR'}})
    WHERE trace_id IS NULL OR span_id IS NULL OR evaluator IS NULL GROUP BY ALL ORDER BY ALL"""


def late_scores(connection: duckdb.DuckDBPyConnection, directory: Path) -> tuple[str | None, list[str]]:
    """Return the query for the late scores of a store, None when there are none, and what of them cannot be read.

    Args:
        connection: of :func:`~traceai_vllm.store.connect`, with the view ``evaluations``.
        directory: the store.
    """
    if not any(directory.glob(PATTERN)):
        return None, []
    files = f"{glob_escaped(str(directory))}/{PATTERN}".replace("'", "''")
    found = connection.execute(_UNREADABLE.format(files=files)).fetchall()
    return _QUERY, [f"{name}: {count} lines are no evaluations, and were skipped" for name, count in found]
