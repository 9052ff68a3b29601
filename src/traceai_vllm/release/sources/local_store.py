"""Our store as a source."""

from __future__ import annotations

from typing import TYPE_CHECKING

from traceai_vllm.release.sources.json_spans import RAW, json_source
from traceai_vllm.store import check, connect

if TYPE_CHECKING:
    from pathlib import Path

    from traceai_vllm.release.sources.source import Source

_SPANS = f"""CREATE TEMP VIEW {RAW} AS SELECT trace_id, span_id, parent_span_id, kind,
    start_time_unix_nano AS start_ns, end_time_unix_nano AS end_ns, status = 'ERROR' AS failed, attributes FROM spans"""
_LATE = """SELECT trace_id, span_id, evaluator, max(score) AS score, bool_and(passed) AS passed FROM evaluations
    WHERE status = 'ok' AND score IS NOT NULL GROUP BY ALL"""


def store_source(directory: Path) -> Source:
    """Open a store that ``instrument(store=...)`` wrote.

    Args:
        directory: the store.
    """
    connection = connect(directory)
    connection.execute(_SPANS)
    late = _LATE if any(directory.glob("evaluations-*.jsonl")) else None
    problems = [str(problem) for problem in check(directory).problems if not problem.file.startswith("evaluations-")]
    return json_source(connection, late=late, problems=problems)
