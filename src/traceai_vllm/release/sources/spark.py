"""Parquet files that a Spark cluster reads, as a source: the same expressions run there."""

from __future__ import annotations

import re

from traceai_vllm.release.sources.flat import flat_source
from traceai_vllm.release.sources.source import Source, SourceError

_LOCATION = re.compile(r"(?P<master>spark://[^/]+)(?P<path>/.+)")
_TABLE = "traceai_vllm_spans"


def spark_source(location: str) -> Source:
    """Open Parquet files on a standalone cluster.

    Args:
        location: ``spark://host:port/path``: the cluster's master, and where its workers find the files. A session that
            is there already is used as it is, with its memory and its cores.

    Raises:
        ImportError: PySpark is not installed.
        SourceError: the location is not written like that, there is no such cluster, or it finds no spans there.
    """
    found = _LOCATION.fullmatch(location)
    if found is None:
        raise SourceError(f"{location}: write spark://HOST:PORT/PATH, e.g. spark://spark-master:7077/data/spans")
    try:
        import ibis
        from py4j.protocol import Py4JError
        from pyspark.errors import PySparkException
        from pyspark.sql import SparkSession
    except ImportError as error:
        fix = "reading with Spark needs PySpark: pip install 'ibis-framework[pyspark]'"
        raise ImportError(fix, name="pyspark") from error
    try:
        session = SparkSession.builder.master(found["master"]).appName("traceai-vllm").getOrCreate()
    except (PySparkException, Py4JError) as error:
        reason = str(error).partition("\n")[0]
        raise SourceError(
            f"there is no Spark session with {found['master']}: check that the master runs, that host and port are "
            f"right, and that Java 17 or newer is on the PATH ({reason})"
        ) from error
    backend = ibis.pyspark.connect(session)
    try:
        # Columns that a file lacks are empty there, as DuckDB has it.
        spans = session.read.option("mergeSchema", "true").parquet(found["path"])
    except PySparkException as error:
        reason = str(error).partition("\n")[0]
        raise SourceError(f"{location}: the cluster cannot read Parquet there ({reason})") from error
    spans.createOrReplaceTempView(_TABLE)
    return flat_source(backend.table(_TABLE))
