"""DuckDB connections for a comparison."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import duckdb


def memory_connection() -> duckdb.DuckDBPyConnection:
    """Return a new in-memory DuckDB connection.

    Raises:
        ImportError: DuckDB is not installed.
    """
    try:
        import duckdb
    except ImportError as error:
        raise ImportError("comparing needs DuckDB: pip install 'traceai-vllm[release]'", name="duckdb") from error
    return duckdb.connect()
