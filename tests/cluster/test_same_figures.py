"""ClickHouse and a Spark cluster give the figures and the decision that DuckDB gives, to the last digit."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import ibis
import pyarrow
import pytest
from pyarrow import parquet

from tests.cluster.engines import WORKERS, clickhouse, spark_cluster, spark_session
from traceai_vllm.release import Judgement, Source, compare, decision_of, decision_text, open_source, parse_policy
from traceai_vllm.release.simulator.planting import parse
from traceai_vllm.release.simulator.spans import write_parquet
from traceai_vllm.release.simulator.traffic import Traffic
from traceai_vllm.release.sources.clickhouse import table_source

PAIRS, MIRRORED = 6000, 500
POLICY = parse_policy("""
version: 1
baseline: model-bf16
candidate: model-int4
measures:
  Groundedness: {margin: 0.05}
  JSONValidation.score: {margin: 0.05}
  errors: {margin: 0.03}
  thumbs_down: {margin: 0.05}
  latency.p50: {margin: 0.1}
  cost: {margin: 0.1}
gains: [{measure: latency.p50, at_least: 0.1}]
prices:
  model-bf16: {input_per_million: 1.0, output_per_million: 3.0}
  model-int4: {input_per_million: 0.6, output_per_million: 1.8}
""")
# Something of everything: a regression in a slice, answers that are missing, late, excluded, and in error.
PLANTED = ("Groundedness+0.2@slice=regulated", "missing+0.05", "prompt+0.03", "errors+0.02", "thumbs_down+0.02")


@pytest.fixture(scope="module")
def spans(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Flat Parquet: a gateway's pairs, 300 answers that came twice, the second a minute later, and a proxy's pairs."""
    made, directory = tmp_path_factory.mktemp("made"), tmp_path_factory.mktemp("spans")
    write_parquet(Traffic(planted=tuple(map(parse, PLANTED)), seed=7), made / "gateway", PAIRS)
    write_parquet(Traffic(seed=8), made / "proxy", MIRRORED)
    gateway, late = f"FROM '{made}/gateway/*.parquet'", 90 * 10**9
    for name, query in {
        "gateway": f'SELECT *, NULL::VARCHAR AS "gen_ai.response.id" {gateway}',
        "again": f"""SELECT * REPLACE (left(md5(span_id), 16) AS span_id, start_time_unix_nano + {late} AS
            start_time_unix_nano, end_time_unix_nano + {late} AS end_time_unix_nano),
            NULL::VARCHAR AS "gen_ai.response.id" {gateway} ORDER BY span_id LIMIT 300""",
        # Only ids say that they are one: both servers have the proxy's trace and its request id.
        "proxy": f"""SELECT * REPLACE (NULL::VARCHAR AS "traceai.pair.id", NULL::VARCHAR AS "traceai.pair.arm"),
            "traceai.pair.id" AS "gen_ai.response.id" FROM '{made}/proxy/*.parquet'""",
    }.items():
        duckdb.sql(f"COPY ({query}) TO '{directory}/spans-{name}.parquet' (FORMAT parquet)")
    return directory


@pytest.fixture(scope="module")
def rows(spans: Path) -> list[dict[str, Any]]:
    """The same spans as rows of the collector's table: attributes in a map of texts."""
    fields = ("trace_id", "span_id", "kind", "start_time_unix_nano", "end_time_unix_nano", "status")
    made = []
    for span in duckdb.sql(f"FROM read_parquet('{spans}/*.parquet')").to_arrow_table().to_pylist():
        attributes = {key: text_of(value) for key, value in span.items() if key not in fields and value is not None}
        start = span["start_time_unix_nano"]
        made.append(
            {
                "Timestamp": start,
                "TraceId": span["trace_id"],
                "SpanId": span["span_id"],
                "ParentSpanId": "",
                "SpanName": "chat model",
                "SpanKind": span["kind"].title(),
                "ServiceName": "gateway",
                "SpanAttributes": attributes,
                "Duration": span["end_time_unix_nano"] - start,
                "StatusCode": span["status"].title(),
            }
        )
    return made


def text_of(value: Any) -> str:
    """An attribute's value as the exporter writes it into its map."""
    return value if isinstance(value, str) else json.dumps(value)


def seen(source: Source) -> tuple[list[str], str]:
    """Every figure of a comparison, and the decision."""
    comparison = compare(source, POLICY)
    figures = [*map(repr, comparison.cells), repr(comparison.books), repr(comparison.variants)]
    return figures, decision_text(decision_of(Judgement(comparison)))


@pytest.fixture(scope="module")
def expected(spans: Path) -> tuple[list[str], str]:
    """What DuckDB gives."""
    figures, decision = seen(open_source(spans))
    assert compare(open_source(spans), POLICY).books.sampled > PAIRS  # the proxy's are among them
    assert any("verdict='regressed'" in figure for figure in figures)
    return figures, decision


def assert_same(found: tuple[list[str], str], expected: tuple[list[str], str]) -> None:
    """Compare figure by figure, so that a difference can be read."""
    for one, other in zip(found[0], expected[0], strict=True):
        assert one == other
    assert found[1] == expected[1]


def test_clickhouse(rows: list[dict[str, Any]], expected: tuple[list[str], str]) -> None:
    """The collector's table in a real ClickHouse."""
    assert_same(seen(table_source(clickhouse(rows).table("otel_traces"))), expected)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Any]]:
    """A master with its workers, and a session on it."""
    with spark_cluster(tmp_path_factory.mktemp("spark")) as master, spark_session(master) as session:
        yield master, session


def test_spark_with_a_column_for_each_attribute(
    cluster: tuple[str, Any], spans: Path, expected: tuple[list[str], str]
) -> None:
    """`spark://host:port/path`, as on the command line; the workers do the work."""
    master, session = cluster

    assert_same(seen(open_source(f"{master}{spans}")), expected)
    executors = session.sparkContext._jsc.sc().statusTracker().getExecutorInfos()
    assert len(executors) == WORKERS + 1  # and the driver


def test_spark_with_the_collectors_layout(
    cluster: tuple[str, Any], rows: list[dict[str, Any]], tmp_path: Path, expected: tuple[list[str], str]
) -> None:
    """The expressions for ClickHouse, on Spark; its clock has microseconds."""
    _, session = cluster
    schema = pyarrow.schema(
        [
            ("Timestamp", pyarrow.timestamp("us", "UTC")), ("TraceId", pyarrow.string()), ("SpanId", pyarrow.string()),
            ("ParentSpanId", pyarrow.string()), ("SpanName", pyarrow.string()), ("SpanKind", pyarrow.string()),
            ("ServiceName", pyarrow.string()), ("SpanAttributes", pyarrow.map_(pyarrow.string(), pyarrow.string())),
            ("Duration", pyarrow.int64()), ("StatusCode", pyarrow.string()),
        ]
    )  # fmt: skip
    cut = [
        {**row, "Timestamp": row["Timestamp"] // 1000, "SpanAttributes": [*row["SpanAttributes"].items()]}
        for row in rows
    ]
    parquet.write_table(pyarrow.Table.from_pylist(cut, schema=schema), tmp_path / "otel.parquet")
    session.read.parquet(str(tmp_path / "otel.parquet")).createOrReplaceTempView("otel_traces")

    figures, decision = seen(table_source(ibis.pyspark.connect(session).table("otel_traces")))

    assert figures[0] == expected[0][0]
    assert json.loads(decision)["routes"] == json.loads(expected[1])["routes"]
