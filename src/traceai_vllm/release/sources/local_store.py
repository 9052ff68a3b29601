"""Our store as a source."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from traceai_vllm.release.sources.json_spans import RAW, json_source
from traceai_vllm.release.sources.late import late_scores
from traceai_vllm.release.sources.source import SourceError
from traceai_vllm.store import connect
from traceai_vllm.store.checking import strangers
from traceai_vllm.store.encode import FORMAT_VERSION
from traceai_vllm.store.reader import glob_escaped
from traceai_vllm.store.segments import segments_in

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    import duckdb

    from traceai_vllm.release.sources.source import Content, Source

_COLUMNS = """{trace_id: 'VARCHAR', span_id: 'VARCHAR', parent_span_id: 'VARCHAR', kind: 'VARCHAR',
    start_time_unix_nano: 'BIGINT', end_time_unix_nano: 'BIGINT', status: 'VARCHAR', attributes: 'JSON'}"""
_IDS = "{trace_id: 'VARCHAR', span_id: 'VARCHAR', format_version: 'INTEGER'}"
_OPTIONS = "format = 'newline_delimited', ignore_errors = true, hive_partitioning = false"
_IS_SPAN = "length(trace_id) = 32 AND length(span_id) = 16"


def store_source(directory: Path) -> Source:
    """Open a store that ``instrument(store=...)`` wrote; files and lines that cannot be read are left out and reported.

    Args:
        directory: the store.

    Raises:
        SourceError: none of its files can be read.
    """
    import duckdb

    while True:
        connection = connect(directory)
        readable, problems = _readable(connection, segments_in(directory))
        if not readable:
            raise SourceError(f"no file of the store {directory} can be read:\n  " + "\n  ".join(problems))
        try:
            return _source(connection, directory, readable, problems)
        except duckdb.IOException as error:
            # A full store makes room while it is read: what is left is read again.
            if all(file.exists() for file in readable):
                raise SourceError(f"the store {directory} cannot be read: {str(error).splitlines()[0]}") from error


def _source(
    connection: duckdb.DuckDBPyConnection, directory: Path, readable: Sequence[Path], problems: Sequence[str]
) -> Source:
    import duckdb

    _view(connection, readable)
    late, damaged = late_scores(connection, directory)
    others = map(str, strangers(directory))
    source = json_source(connection, late=late, problems=[*others, *problems, *damaged])

    def content(ids: Sequence[tuple[str, str]]) -> Content:
        try:
            return source.content(ids)
        except duckdb.IOException:  # removed since
            left = [file for file in readable if file.exists()]
            if not left:
                return {}
            _view(connection, left)
            return source.content(ids)

    return replace(source, content=content)


def _view(connection: duckdb.DuckDBPyConnection, files: Sequence[Path]) -> None:
    connection.execute(
        f"""CREATE OR REPLACE TEMP VIEW {RAW} AS SELECT trace_id, span_id, parent_span_id, kind,
        start_time_unix_nano AS start_ns, end_time_unix_nano AS end_ns, status = 'ERROR' AS failed, attributes
        FROM read_json([{", ".join(map(_quoted, files))}], {_OPTIONS}, columns = {_COLUMNS}) WHERE {_IS_SPAN}"""
    )


def _readable(connection: duckdb.DuckDBPyConnection, files: Sequence[Path]) -> tuple[list[Path], list[str]]:
    import duckdb

    readable: list[Path] = []
    problems: list[str] = []
    for file in files:
        try:
            problems += _unreadable_lines(connection, file)
            readable.append(file)
        except duckdb.Error as error:
            problems.append(f"{file.name}: cannot be read ({str(error).splitlines()[0]})")
    return readable, problems


def _unreadable_lines(connection: duckdb.DuckDBPyConnection, file: Path) -> Iterator[str]:
    # By DuckDB, on all cores; `store.check` tells which lines they are, and takes eight times as long.
    row = connection.execute(
        f"""SELECT count(*) FILTER (NOT coalesce({_IS_SPAN}, false)),
            count(*) FILTER (format_version > {FORMAT_VERSION})
        FROM read_json({_quoted(file)}, {_OPTIONS}, columns = {_IDS})"""
    ).fetchall()[0]
    if row[0]:
        yield f"{file.name}: {row[0]} lines are no spans (cut off, or damaged), and were skipped"
    if row[1]:
        yield f"{file.name}: {row[1]} spans are from a newer release than this one, and may be misread"


def _quoted(file: Path) -> str:
    return "'" + glob_escaped(str(file)).replace("'", "''") + "'"
