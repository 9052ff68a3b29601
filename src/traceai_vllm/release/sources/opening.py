"""Finds out what kind of source a location is, and opens it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from traceai_vllm.release.sources.source import Source, SourceError

if TYPE_CHECKING:
    import os

# What a collector's file exporter makes of its spans.jsonl when it rotates it: OTLP, though our segments begin so too.
_ROTATED = "spans-????-??-??T??-??-??.*.jsonl"


def open_source(location: str | os.PathLike[str]) -> Source:
    """Open spans, wherever they are.

    Args:
        location: a directory of our store, a file or directory of OTLP JSON lines (a collector's file exporter) or of
            Parquet, ``clickhouse://user:password@host:port/database`` with the collector's table ``otel_traces``, or
            ``spark://host:port/path``: Parquet that the workers of a standalone cluster read.

    Raises:
        SourceError: there is nothing there that can be read.
        ImportError: a library for it is missing; the message has the pip line.
    """
    text = str(location)
    if text.startswith("clickhouse://"):
        from traceai_vllm.release.sources.clickhouse import clickhouse_source

        return clickhouse_source(text)
    if text.startswith("spark://"):
        from traceai_vllm.release.sources.spark import spark_source

        return spark_source(text)
    path = Path(location).absolute()
    if not path.exists():
        raise SourceError(f"there is nothing at {path}: name a store (instrument(store=DIR)), OTLP or Parquet files")
    if path.is_dir() and any(not segment.match(_ROTATED) for segment in path.glob("spans-*.jsonl")):
        from traceai_vllm.release.sources.local_store import store_source

        return store_source(path)
    files = sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]
    parquet = [file for file in files if file.suffix == ".parquet"]
    lines = [file for file in files if file.suffix in (".json", ".jsonl", ".ndjson", ".gz", ".zst")]
    if parquet:
        from traceai_vllm.release.sources.parquet import parquet_source

        source = parquet_source(parquet)
        if not lines:
            return source
        left = f"{lines[0].name}: not read, like all {len(lines)} of JSON here; where there is Parquet, it alone is"
        return replace(source, problems=(*source.problems, left))
    if lines:
        from traceai_vllm.release.sources.otlp import otlp_source

        return otlp_source(lines)
    raise SourceError(f"{path} holds no spans: neither spans-*.jsonl of a store, nor .json(l) (OTLP), nor .parquet")
