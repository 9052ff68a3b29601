"""OTLP JSON, in lines as a collector's file exporter writes it or otherwise, as a source."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from traceai_vllm.release.sources.duckdb_session import memory_connection
from traceai_vllm.release.sources.frames import has_lengths, write_lines
from traceai_vllm.release.sources.json_spans import RAW, json_source
from traceai_vllm.release.sources.source import Source, SourceError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import duckdb

# A line is an ExportTraceServiceRequest in OTLP's JSON mapping: 64-bit numbers may be texts, ids are hexadecimal.
_SPAN = """STRUCT(traceId VARCHAR, spanId VARCHAR, parentSpanId VARCHAR, kind JSON,
    startTimeUnixNano VARCHAR, endTimeUnixNano VARCHAR, status STRUCT(code JSON),
    attributes STRUCT("key" VARCHAR, "value" JSON)[])"""
_COLUMNS = f"{{resourceSpans: 'STRUCT(scopeSpans STRUCT(spans {_SPAN}[])[])[]'}}"
# As it is written: lines, or one array or indented objects. Only lines can be read past one that is broken.
_FORMATS = ("format = 'auto'", "format = 'newline_delimited', ignore_errors = true")
_OPTIONS = "maximum_object_size = 134217728, filename = true"
_OF_A_STORE = "; of a store, name its directory"
_KINDS = "['UNSPECIFIED', 'INTERNAL', 'SERVER', 'CLIENT', 'PRODUCER', 'CONSUMER']"
# An attribute's value is an object with one field that names its type; in a list there are such objects again.
_PLAIN = """CASE json_keys(a."value")[1]
    WHEN 'arrayValue' THEN to_json([json_extract(item, '$.*')[1]
        FOR item IN CAST(coalesce(a."value"->'$.arrayValue.values', '[]') AS JSON[])])
    ELSE json_extract(a."value", '$.*')[1] END"""
_VIEW = f"""CREATE TEMP VIEW {RAW} AS
SELECT span.traceId AS trace_id, span.spanId AS span_id, nullif(span.parentSpanId, '') AS parent_span_id,
    coalesce({_KINDS}[TRY_CAST(span.kind AS INTEGER) + 1], replace(span.kind->>'$', 'SPAN_KIND_', '')) AS kind,
    TRY_CAST(span.startTimeUnixNano AS BIGINT) AS start_ns, TRY_CAST(span.endTimeUnixNano AS BIGINT) AS end_ns,
    coalesce((span.status.code->>'$') IN ('2', 'STATUS_CODE_ERROR'), false) AS failed,
    (SELECT json_group_object(a."key", {_PLAIN}) FROM (
        SELECT unnest(span.attributes) AS a) WHERE a."key" IS NOT NULL) AS attributes
FROM (SELECT unnest(scope.spans) AS span FROM (SELECT unnest(resource.scopeSpans) AS scope
    FROM (SELECT unnest(resourceSpans) AS resource FROM lines)))
WHERE length(span.traceId) = 32 AND length(span.spanId) = 16"""


def otlp_source(files: Sequence[Path]) -> Source:
    """Open OTLP JSON lines; files and lines that cannot be read are left out and reported.

    Args:
        files: the files, also compressed (``.gz``, ``.zst``, or by the exporter itself).

    Raises:
        SourceError: no file can be read.
    """
    connection = memory_connection()
    readable: list[Path] = []
    problems: list[str] = []
    for file in files:
        problem = _read(connection, file, first=not readable)
        readable += [] if problem else [file]
        problems += [problem] if problem else []
    if not readable:
        raise SourceError("no OTLP file can be read:\n  " + "\n  ".join(problems))
    problems += _unreadable_lines(connection)
    connection.execute(_VIEW)
    return json_source(connection, problems=problems)


def _read(connection: duckdb.DuckDBPyConnection, file: Path, *, first: bool) -> str | None:
    try:
        if not has_lengths(file):
            return _read_lines(connection, file, first=first)
        with TemporaryDirectory() as scratch:
            lines = Path(scratch, f"{file.name.removesuffix('.zst')}.zst")
            write_lines(file, lines)
            return _read_lines(connection, lines, first=first)
    except OSError as error:
        return f"{file.name}: cannot be read ({error.strerror})"


def _read_lines(connection: duckdb.DuckDBPyConnection, file: Path, *, first: bool) -> str | None:
    import duckdb

    name = "'" + str(file).replace("'", "''") + "'"
    problem = None
    for form in _FORMATS:
        query = f"SELECT resourceSpans, filename FROM read_json({name}, {form}, {_OPTIONS}, columns = {_COLUMNS})"
        try:
            connection.execute(f"{'CREATE TEMP TABLE lines AS' if first else 'INSERT INTO lines'} {query}")
            return None
        except duckdb.Error as error:
            problem = f"{file.name}: cannot be read ({str(error).splitlines()[0]})"
    return problem


def _unreadable_lines(connection: duckdb.DuckDBPyConnection) -> list[str]:
    counted = connection.execute(
        "SELECT parse_filename(filename), count(*) FROM lines WHERE resourceSpans IS NULL GROUP BY ALL ORDER BY ALL"
    )
    return [
        f"{name}: {count} lines are no OTLP traces, and were skipped{_OF_A_STORE if name.startswith('spans-') else ''}"
        for name, count in counted.fetchall()
    ]
