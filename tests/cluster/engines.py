"""Real engines for the tests: ClickHouse in the process, and a Spark cluster of one master and two workers."""

from __future__ import annotations

import os
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

WORKERS = 2
_START_S = 120
# As the collector's ClickHouse exporter makes it; its indexes and its time to live change no result.
OTEL_TRACES = """
CREATE TABLE otel_traces (
    Timestamp DateTime64(9) CODEC(Delta(8), ZSTD(1)),
    TraceId String,
    SpanId String,
    ParentSpanId String,
    TraceState String,
    SpanName LowCardinality(String),
    SpanKind LowCardinality(String),
    ServiceName LowCardinality(String),
    ResourceAttributes Map(LowCardinality(String), String),
    ScopeName String,
    ScopeVersion String,
    SpanAttributes Map(LowCardinality(String), String),
    Duration UInt64,
    StatusCode LowCardinality(String),
    StatusMessage String,
    Events Nested (
        Timestamp DateTime64(9), Name LowCardinality(String), Attributes Map(LowCardinality(String), String)
    ),
    Links Nested (TraceId String, SpanId String, TraceState String, Attributes Map(LowCardinality(String), String))
) ENGINE = MergeTree()
PARTITION BY toDate(Timestamp)
ORDER BY (ServiceName, SpanName, toDateTime(Timestamp), Timestamp)
"""


def clickhouse(rows: list[dict[str, Any]]) -> Any:
    """Return the Ibis backend of a ClickHouse in this process, with spans in ``otel_traces``."""
    import clickhouse_connect
    import ibis

    client = clickhouse_connect.get_client(interface="chdb")
    client.command("DROP TABLE IF EXISTS otel_traces")
    client.command(OTEL_TRACES)
    names = list(rows[0])
    client.insert("otel_traces", [[row[name] for name in names] for row in rows], column_names=names)
    return ibis.clickhouse.from_connection(client)


@contextmanager
def spark_cluster(folder: Path) -> Iterator[str]:
    """Start a standalone master and its workers; give the master's address, and end them all."""
    import pyspark

    home = Path(pyspark.__file__).parent
    port = _free_port()
    master = f"spark://127.0.0.1:{port}"
    environment = {**os.environ, "SPARK_HOME": str(home), "SPARK_LOCAL_IP": "127.0.0.1", "SPARK_NO_DAEMONIZE": "1"}
    started: list[subprocess.Popen[bytes]] = []

    def start(name: str, *arguments: str) -> Path:
        log = folder / f"{name}-{len(started)}.log"
        command = [str(home / "bin" / "spark-class"), f"org.apache.spark.deploy.{name}", *arguments]
        with log.open("wb") as out:
            started.append(subprocess.Popen(command, env=environment, stdout=out, stderr=out))
        return log

    try:
        log = start("master.Master", "--host", "127.0.0.1", "--port", str(port), "--webui-port", str(_free_port()))
        for _ in range(WORKERS):
            start(
                "worker.Worker", "--host", "127.0.0.1", "--cores", "1", "--memory", "1g",
                "--webui-port", str(_free_port()), "--work-dir", str(folder / "work"), master,
            )  # fmt: skip
        _wait_for(log, "Registering worker", WORKERS, started)
        yield master
    finally:
        for process in reversed(started):
            process.terminate()
        for process in started:
            process.wait(30)


@contextmanager
def spark_session(master: str) -> Iterator[Any]:
    """Give a session on a cluster, of as many executors as there are workers."""
    from pyspark.sql import SparkSession

    builder = SparkSession.builder.master(master).appName("cluster-test")
    for key, value in {
        "spark.driver.host": "127.0.0.1",
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.executor.cores": "1",
        "spark.executor.memory": "768m",
        "spark.sql.session.timeZone": "UTC",
        "spark.sql.shuffle.partitions": "4",
        "spark.ui.enabled": "false",
    }.items():
        builder = builder.config(key, value)
    session = builder.getOrCreate()
    try:
        yield session
    finally:
        session.stop()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_for(log: Path, text: str, times: int, running: list[subprocess.Popen[bytes]]) -> None:
    end = time.monotonic() + _START_S
    while log.read_text(errors="replace").count(text) < times:
        if time.monotonic() > end or any(process.poll() is not None for process in running):
            raise RuntimeError(f"the Spark cluster did not come up; its master said:\n{log.read_text()[-3000:]}")
        time.sleep(0.1)
