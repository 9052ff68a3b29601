"""Parquet files as a source: a column for each attribute, or one column ``attributes`` (a map, or JSON)."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from traceai_vllm.release.columns import COLUMNS, FIELDS
from traceai_vllm.release.sources.duckdb_session import memory_connection
from traceai_vllm.release.sources.flat import CODES, ERROR_NUMBERS, STATUS, check_ids, flat_source, names_of
from traceai_vllm.release.sources.json_spans import KINDS, RAW, json_source, quoted
from traceai_vllm.release.sources.source import Source, SourceError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import duckdb

    from traceai_vllm.release.columns import Column


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
    connection.execute(f"CREATE TEMP VIEW given AS FROM read_parquet([{names}], union_by_name = true)")
    columns = {row[0]: row[1] for row in connection.execute("DESCRIBE given").fetchall()}
    check_ids(columns, str(readable[0]))
    if "attributes" in columns:
        connection.execute(_raw_view(columns))
        return json_source(connection, problems=problems)
    # What pandas makes of times with a zone: Ibis does not know this type of DuckDB's.
    unknown = [name for name, kind in columns.items() if kind == "TIMESTAMPTZ_NS"]
    numbers = ", ".join(f"epoch_ns({quoted(name)}) AS {quoted(name)}" for name in unknown)
    connection.execute(f"CREATE TEMP VIEW known AS SELECT * {f'REPLACE ({numbers})' if numbers else ''} FROM given")
    return flat_source(ibis.duckdb.from_connection(connection).table("known"), problems)


def _readable(connection: duckdb.DuckDBPyConnection, files: Sequence[Path]) -> tuple[list[Path], list[str]]:
    import duckdb

    readable, problems = [], []
    for file in files:
        try:
            connection.execute("SELECT num_rows FROM parquet_file_metadata($1)", [str(file)]).fetchall()
            if durations := _durations(file):
                problems.append(
                    f"{file.name}: not read, as {', '.join(durations)} has durations: write seconds (float)"
                )
            else:
                readable.append(file)
        except duckdb.Error as error:
            problems.append(f"{file.name}: cannot be read ({str(error).splitlines()[0]})")
    return readable, problems


def _durations(file: Path) -> list[str]:
    """Return columns of pandas' Timedelta: to all but Arrow they are numbers, of a unit that they do not say."""
    import pyarrow
    from pyarrow import parquet

    wanted = {name for column in COLUMNS for name in names_of(column.name, column.keys)}
    try:
        fields = parquet.read_schema(file)
    except pyarrow.ArrowException:  # DuckDB reads more than Arrow does
        return []
    return [field.name for field in fields if field.name in wanted and pyarrow.types.is_duration(field.type)]


def _raw_view(columns: dict[str, str]) -> str:
    kind = columns["attributes"]
    if kind.endswith("[]"):
        raise SourceError(f"the column attributes is a list: a map, an object or JSON text is read; it is {kind}")
    text = {"VARCHAR": "attributes", "JSON": "attributes", "BLOB": "TRY(decode(attributes))"}.get(kind)
    attributes = f"TRY_CAST({text} AS JSON)" if text else "to_json(attributes)"
    fields = [f"{_field(column, columns)} AS {column.name}" for column in FIELDS]
    return f"CREATE TEMP VIEW {RAW} AS SELECT {', '.join(fields)}, {attributes} AS attributes FROM given"


def _field(column: Column, columns: dict[str, str]) -> str:
    kind = KINDS[column.kind]
    found = [_cast(name, columns[name], kind) for name in names_of(column.name) if name in columns]
    if column.name == "failed" and not found:
        codes = [code for name in STATUS if name in columns and (code := _code_in(name, columns[name])) is not None]
        found = [f"(contains(upper({code}), 'ERROR') OR {code} IN {ERROR_NUMBERS})" for code in codes]
    return f"coalesce({', '.join(found)})" if found else f"NULL::{kind}"


def _cast(name: str, given: str, kind: str) -> str:
    if given.startswith("TIMESTAMP") and kind == KINDS["int64"]:
        return f"epoch_ns({quoted(name)})"
    return f"TRY_CAST({quoted(name)} AS {kind})"


def _code_in(name: str, given: str) -> str | None:
    field = ""
    if given.startswith("STRUCT"):
        field = next((f".{code}" for code in CODES if re.search(rf"\b{code}\b", given)), "")
        if not field:
            return None
    return f"CAST({quoted(name)}{field} AS VARCHAR)"
