"""Steps that the database is told of, so that what follows is a short query on a named table."""

from __future__ import annotations

import ctypes
import itertools
from contextlib import suppress
from typing import Any

_DUCKDB = "duckdb"
_TEMPORARY = (_DUCKDB, "clickhouse")  # have temporary tables, which go with the connection; Ibis 12 cannot drop them
_numbers = itertools.count(1)


def kept(table: Any, name: str) -> Any:
    """Return a table with the rows that an expression has now, so that they are not computed again for each question.

    Args:
        table: the Ibis expression.
        name: what the table is for; a number makes its name in the database unique.
    """
    backend = table.get_backend()
    if backend.name in _TEMPORARY:
        return backend.create_table(f"{name}_{next(_numbers)}", table, temp=True)
    return table.cache()


def only_row(table: Any) -> dict[str, Any]:
    """Return the one row that a table of totals has."""
    row: dict[str, Any] = table.to_pyarrow().to_pylist()[0]
    return row


def forget(table: Any) -> None:
    """Give back the memory of a table of :func:`kept`."""
    backend = table.get_backend()
    if backend.name in _TEMPORARY:
        backend.raw_sql(f"DROP TABLE {table.get_name()}")
    else:
        table.release()


def named(table: Any, name: str) -> Any:
    """Return a table that stands for an expression: translating a long one to SQL for each question takes its time.

    Only in DuckDB, which is in memory; into anybody's database we write nothing.

    Args:
        table: the Ibis expression.
        name: as for :func:`kept`.
    """
    backend = table.get_backend()
    return backend.create_view(f"{name}_{next(_numbers)}", table) if backend.name == _DUCKDB else table


def give_back_freed_memory() -> None:
    """Let the system have the memory that was freed: reading millions of pairs leaves as much behind as they take.

    glibc keeps it for later, for each thread apart (``malloc_trim(3)``); other C libraries have no such call.
    """
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
