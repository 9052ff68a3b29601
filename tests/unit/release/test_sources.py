"""Spans from other places: the same pairs and the same decision; what cannot be read is reported and skipped."""

from __future__ import annotations

import gzip
import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.support.paired_spans import Draw, Request, requests, spans_of, write_store
from traceai_vllm.release import Judgement, Source, SourceError, compare, decision_of, open_source, parse_policy
from traceai_vllm.release.sources import local_store, without_password
from traceai_vllm.release.sources.clickhouse import table_source
from traceai_vllm.store.evaluations import EvaluationWriter

POLICY = parse_policy(
    "{version: 1, baseline: m-bf16, candidate: m-int4, measures: {Groundedness: {margin: 0.1}, errors: {margin: 0.1}}}"
)
COUNT = 60
COLUMNS, JSON, MAP = "a column for each attribute", "attributes as JSON", "attributes as a map of texts"
BYTES = "attributes as JSON in bytes"


def some_requests() -> list[Request]:
    def make(draw: Draw) -> Request:
        return Request(
            route=draw.one_of("faq", "support"),
            slices=draw.one_of((), ("code",), ("code", "regulated")),
            fails=draw.fails(0.1, 0.3),
            seconds=draw.seconds(0.7),
        )

    return requests(COUNT, make)


@pytest.fixture
def expected(tmp_path: Path) -> Any:
    """What our own store gives."""
    return seen(open_source(write_store(tmp_path / "store", some_requests())))


def seen(source: Source) -> Any:
    comparison = compare(source, POLICY)
    cells = {
        (cell.name, cell.measure.name): (cell.evidence.pairs, round(cell.baseline, 4), round(cell.candidate, 4))
        for cell in comparison.cells
    }
    return cells, comparison.books.sampled, decision_of(Judgement(comparison)).routes


def lines() -> list[dict[str, Any]]:
    return [span for place, request in enumerate(some_requests()) for span in spans_of(place, request)]


def otlp_value(value: Any) -> dict[str, Any]:
    if isinstance(value, bool):
        return {"boolValue": value}
    if isinstance(value, int):
        return {"intValue": str(value)}
    if isinstance(value, float):
        return {"doubleValue": value}
    if isinstance(value, list):
        return {"arrayValue": {"values": [otlp_value(item) for item in value]}}
    return {"stringValue": value}


def otlp_line(spans: list[dict[str, Any]]) -> str:
    kinds = {"INTERNAL": 1, "SERVER": 2, "CLIENT": 3}
    made = [
        {
            "traceId": span["trace_id"],
            "spanId": span["span_id"],
            "parentSpanId": span["parent_span_id"] or "",
            "name": span["name"],
            "kind": kinds[span["kind"]],
            "startTimeUnixNano": str(span["start_time_unix_nano"]),
            "endTimeUnixNano": str(span["end_time_unix_nano"]),
            "status": {"code": 2} if span["status"] == "ERROR" else {},
            "attributes": [{"key": key, "value": otlp_value(value)} for key, value in span["attributes"].items()],
        }
        for span in spans
    ]
    resource = {"attributes": [{"key": "service.name", "value": {"stringValue": "gateway"}}]}
    return json.dumps({"resourceSpans": [{"resource": resource, "scopeSpans": [{"scope": {}, "spans": made}]}]})


def test_otlp_lines_of_a_collector_give_the_same(tmp_path: Path, expected: Any) -> None:
    """A collector's file exporter writes what our store would; lines and files that are broken are skipped and said."""
    spans = lines()
    folder = tmp_path / "otlp"
    folder.mkdir()
    half = len(spans) // 2
    (folder / "a.jsonl").write_text(otlp_line(spans[:half]) + "\nnonsense\n" + '{"resourceLogs": []}\n')
    (folder / "b.jsonl.gz").write_bytes(gzip.compress(otlp_line(spans[half:]).encode()))
    (folder / "c.jsonl.gz").write_bytes(b"no gzip")

    source = open_source(folder)

    assert seen(source) == expected
    assert any(problem.startswith("a.jsonl: ") for problem in source.problems)
    assert any(problem.startswith("c.jsonl.gz: cannot be read") for problem in source.problems)


def test_files_that_a_collector_rotated_are_not_taken_for_a_store(tmp_path: Path, expected: Any) -> None:
    """A file exporter renames spans.jsonl to spans-TIME.jsonl, which begins as our segments' names do."""
    spans = lines()
    half = len(spans) // 2
    (tmp_path / "otlp").mkdir()
    (tmp_path / "otlp" / "spans-2026-11-27T10-00-00.000.jsonl").write_text(otlp_line(spans[:half]) + "\n")
    (tmp_path / "otlp" / "spans.jsonl").write_text(otlp_line(spans[half:]) + "\n")

    assert seen(open_source(tmp_path / "otlp")) == expected


@pytest.mark.parametrize("indent", [None, 2], ids=["in one line", "indented"])
@pytest.mark.parametrize("array", [True, False], ids=["an array", "objects"])
def test_otlp_that_is_not_in_lines_gives_the_same(tmp_path: Path, array: bool, indent: int | None) -> None:
    """What a script or an editor made of it: one array of requests, or requests that are indented."""
    requests = [json.loads(otlp_line(lines()[place : place + 30])) for place in range(0, 3 * COUNT, 30)]
    written = [requests] if array else requests
    (tmp_path / "traces.json").write_text("\n".join(json.dumps(one, indent=indent) for one in written))

    source = open_source(tmp_path)

    assert (source.spans.count().to_pyarrow().as_py(), source.problems) == (3 * COUNT, ())


def test_what_a_collector_compresses_itself_gives_the_same(tmp_path: Path, expected: Any) -> None:
    """`compression: zstd` of its file exporter: each message a frame, its length before it; one is half written."""
    import pyarrow

    spans = lines()
    messages = [otlp_line(spans[place : place + 10]).encode() for place in range(0, len(spans), 10)]
    frames = [pyarrow.compress(message, codec="zstd", asbytes=True) for message in messages]
    written = b"".join(len(frame).to_bytes(4, "big") + frame for frame in frames)
    file = tmp_path / "traces.json"
    file.write_bytes(written + (999).to_bytes(4, "big") + frames[0][:50])

    source = open_source(file)

    assert seen(source) == expected
    assert source.problems == ("traces.json.zst: 1 lines are no OTLP traces, and were skipped",)


def write_parquet(path: Path, form: str) -> None:
    import pyarrow
    from pyarrow import parquet

    fields = ("trace_id", "span_id", "parent_span_id", "kind", "start_time_unix_nano", "end_time_unix_nano", "status")
    rows = []
    for span in lines():
        row = {name: span[name] for name in fields}
        attributes = span["attributes"]
        texts = [(key, clickhouse_text(value)) for key, value in attributes.items()]
        written = json.dumps(attributes)
        forms = {COLUMNS: attributes, JSON: {JSON: written}, BYTES: {BYTES: written.encode()}, MAP: {MAP: texts}}
        rows.append({**row, **forms[form]})
    names = sorted({name for row in rows for name in row})
    columns = {name: [row.get(name) for row in rows] for name in names}
    if form != COLUMNS:
        kinds = {MAP: pyarrow.map_(pyarrow.string(), pyarrow.string()), BYTES: pyarrow.binary()}
        kind = kinds.get(form, pyarrow.string())
        columns["attributes"] = pyarrow.array(columns.pop(form), kind)
    parquet.write_table(pyarrow.table(columns), path)


@pytest.mark.parametrize("form", [COLUMNS, JSON, BYTES, MAP])
def test_parquet_gives_the_same(tmp_path: Path, expected: Any, form: str) -> None:
    """The usual forms; a file that is none is skipped and said."""
    folder = tmp_path / "parquet"
    folder.mkdir()
    write_parquet(folder / "spans.parquet", form)
    (folder / "broken.parquet").write_bytes(b"PAR1 no more")

    source = open_source(folder)

    assert seen(source) == expected
    assert [problem.split(":")[0] for problem in source.problems] == ["broken.parquet"]


def entries(pyarrow: Any, count: int) -> dict[str, Any]:
    return {"attributes": [[{"key": "route", "value": "faq"}]] * count}


def nested_slices(pyarrow: Any, count: int) -> dict[str, Any]:
    return {"traceai.slices": [[{"name": "code"}]] * count}


def durations(pyarrow: Any, count: int) -> dict[str, Any]:
    return {"gen_ai.latency.e2e": pyarrow.array([1_000] * count, pyarrow.duration("us"))}


@pytest.mark.parametrize(
    ("written", "said"),
    [
        (entries, "the column attributes is a list"),
        (nested_slices, "the column traceai.slices is array<struct<name: string>>, and a list of texts is read"),
        (durations, "gen_ai.latency.e2e has durations: write seconds"),
    ],
)
def test_parquet_that_would_be_misread_is_refused_with_the_name_of_the_column(
    tmp_path: Path, written: Any, said: str
) -> None:
    """Else there would be no pair, a traceback, or milliseconds that pass for seconds."""
    import pyarrow
    from pyarrow import parquet

    file = tmp_path / "spans.parquet"
    write_parquet(file, COLUMNS)
    table = parquet.read_table(file)
    given = {name: table[name] for name in table.column_names} | written(pyarrow, len(table))
    parquet.write_table(pyarrow.table(given), file)

    with pytest.raises(SourceError, match=re.escape(said)):
        open_source(tmp_path)


def numbers(statuses: list[str]) -> dict[str, list[Any]]:
    return {"status_code": [2 if status == "ERROR" else 0 for status in statuses]}


def objects(statuses: list[str]) -> dict[str, list[Any]]:
    return {"status": [{"code": "Error" if status == "ERROR" else "Ok", "message": "no error"} for status in statuses]}


def objects_of_the_sdk(statuses: list[str]) -> dict[str, list[Any]]:
    return {"status": [{"status_code": "ERROR" if status == "ERROR" else "UNSET"} for status in statuses]}


@pytest.mark.parametrize("unit", ["us", "ns"])
@pytest.mark.parametrize("written", [numbers, objects, objects_of_the_sdk])
@pytest.mark.parametrize("form", [COLUMNS, JSON])
def test_parquet_may_have_times_as_such_and_statuses_as_otlp_has_them(
    tmp_path: Path, form: str, written: Any, unit: str
) -> None:
    """What other tools write: times are times, also without a zone, and 2 is an error: none of it is lost."""
    import pyarrow
    from pyarrow import parquet

    file = tmp_path / "spans.parquet"
    write_parquet(file, form)
    table = parquet.read_table(file)
    failed = [place % 3 == 0 for place in range(len(table))]
    given = {name: table[name] for name in table.column_names if name != "status"}
    given |= written(["ERROR" if one else "UNSET" for one in failed])
    for name, zone in (("start_time_unix_nano", None), ("end_time_unix_nano", "UTC")):
        given[name] = table[name].cast(pyarrow.timestamp("ns")).cast(pyarrow.timestamp(unit, zone), safe=False)
    parquet.write_table(pyarrow.table(given), file)

    spans = open_source(tmp_path).spans.to_pyarrow()

    assert spans["failed"].to_pylist() == failed
    for name, wanted in (("start_ns", "start_time_unix_nano"), ("end_ns", "end_time_unix_nano")):
        least = {"us": 1000, "ns": 1}[unit]
        assert spans[name].to_pylist() == [ns // least * least for ns in table[wanted].to_pylist()]


def test_the_collectors_clickhouse_table_gives_the_same(expected: Any) -> None:
    """The table's layout, with its map of texts; here in DuckDB, as the expressions are the same on each backend."""
    assert seen(table_source(clickhouse_table(lines()))) == expected


def clickhouse_table(spans: list[dict[str, Any]]) -> Any:
    import duckdb
    import ibis

    rows = [
        (
            span["trace_id"],
            span["span_id"],
            span["parent_span_id"] or "",
            span["kind"].title(),
            span["start_time_unix_nano"],
            span["end_time_unix_nano"] - span["start_time_unix_nano"],
            "Error" if span["status"] == "ERROR" else "Unset",
            {key: clickhouse_text(value) for key, value in span["attributes"].items()},
        )
        for span in spans
    ]
    connection = duckdb.connect()
    connection.execute(
        "CREATE TABLE given (TraceId VARCHAR, SpanId VARCHAR, ParentSpanId VARCHAR, SpanKind VARCHAR, ns BIGINT, "
        "Duration BIGINT, StatusCode VARCHAR, SpanAttributes MAP(VARCHAR, VARCHAR))"
    )
    connection.executemany("INSERT INTO given VALUES (?, ?, ?, ?, ?, ?, ?, ?)", rows)
    connection.execute("CREATE VIEW otel_traces AS SELECT *, make_timestamp_ns(ns) AS Timestamp FROM given")

    return ibis.duckdb.from_connection(connection).table("otel_traces")


def flat(value: Any) -> Any:
    return json.dumps(value) if isinstance(value, list) else value


def clickhouse_text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


OTHERS = {
    "GenAI conventions": {"model_variant": "gen_ai.response.model"},
    "OpenInference": {
        "model_variant": "llm.model_name",
        "gen_ai.usage.input_tokens": "llm.token_count.prompt",
        "gen_ai.usage.output_tokens": "llm.token_count.completion",
        "prompt_version": "llm.prompt_template.version",
    },
    "vLLM": {
        "model_variant": "gen_ai.response.model",
        "gen_ai.usage.input_tokens": "gen_ai.usage.prompt_tokens",
        "gen_ai.usage.output_tokens": "gen_ai.usage.completion_tokens",
    },
}


@pytest.mark.parametrize("names", OTHERS.values(), ids=OTHERS)
def test_spans_of_others_are_paired_when_they_carry_the_tags(tmp_path: Path, names: dict[str, str]) -> None:
    """Their names for the model and for tokens, in a collector's file; the policy says whose model is which arm."""
    made = lines()
    for span in made:
        attributes = span["attributes"]
        if "traceai.pair.arm" in attributes:
            for ours, theirs in names.items():
                attributes[theirs] = attributes.pop(ours)
            for ours in ("traceai.pair.arm", "quantization_format", "gen_ai.latency.e2e"):
                del attributes[ours]
    (tmp_path / "traces.jsonl").write_text(otlp_line(made) + "\n")

    comparison = compare(open_source(tmp_path), POLICY)

    assert comparison.books.clean == COUNT
    assert comparison.books.untagged == {"route": 0, "model_variant": 0}
    assert comparison.variants == {"baseline": ["m-bf16"], "candidate": ["m-int4"]}
    for measure in ("latency.p50", "output_tokens"):  # latency from the spans' own start and end
        cell = comparison.cell((), measure)
        assert cell is not None
        assert cell.evidence.pairs == COUNT
    assert comparison.books.deciles  # prompt tokens are known


@pytest.mark.parametrize("source", ["parquet", "clickhouse"])
def test_slices_that_are_texts_count_wherever_they_stand(tmp_path: Path, source: str) -> None:
    """A server's own span below the gateway's has them, or one arm alone: no list there is no list of none."""
    import pyarrow
    from pyarrow import parquet

    given = [Request(candidate=None), *[Request(candidate={"traceai.slices": ["code"]})] * 9]
    given += [Request(slices=("regulated",))] * 10
    spans = []
    for place, request in enumerate(given):
        for span in spans_of(place, request, below=True):
            arm = span["attributes"].get("traceai.pair.arm")
            moved = span["attributes"].pop("traceai.slices", None) if place >= 10 and arm == "baseline" else None
            spans.append(span)
            if moved:
                below = {"trace_id": span["trace_id"], "parent_span_id": span["span_id"], "span_id": "b" * 16}
                spans.append({**span, **below, "attributes": {"traceai.slices": moved}})
            if arm == "candidate" and place >= 10:
                del span["attributes"]["traceai.slices"]
    if source == "clickhouse":
        opened = table_source(clickhouse_table(spans))
    else:
        names = sorted({name for span in spans for name in span["attributes"]})
        fields = ("trace_id", "span_id", "parent_span_id", "start_time_unix_nano", "end_time_unix_nano", "status")
        columns = {name: [span[name] for span in spans] for name in fields}
        columns |= {name: [flat(span["attributes"].get(name)) for span in spans] for name in names}
        parquet.write_table(pyarrow.table(columns), tmp_path / "spans.parquet")
        opened = open_source(tmp_path)

    frame = compare(opened, POLICY).frame

    assert {name: len(rows) for name, rows in frame.slices.items()} == {"code": 9, "regulated": 10}


def test_a_session_that_one_arm_alone_names_is_one_unit(tmp_path: Path) -> None:
    """As everything else that a pair has once: the turns of a session are no evidence of their own."""
    given = [Request(candidate={"session.id": f"session-{place // 5}"}) for place in range(20)]

    cell = compare(open_source(write_store(tmp_path / "store", given)), POLICY).cell((), "Groundedness")

    assert cell is not None
    assert (cell.evidence.pairs, cell.evidence.clusters) == (20, 4)


def test_scores_that_came_later_count(tmp_path: Path) -> None:
    """`traceai-vllm evaluate` keeps its scores beside the spans."""
    given = [Request(baseline=no_scores(), candidate=no_scores()) for _ in range(20)]
    store = write_store(tmp_path / "store", given)
    arms = [span for place in range(20) for span in spans_of(place, given[place])[1:]]
    late = [
        {"trace_id": span["trace_id"], "span_id": span["span_id"], "evaluator": "JSONValidation", "status": "ok",
         "score": 1.0, "label": "valid", "passed": True}
        for span in arms
    ]  # fmt: skip
    (store / "evaluations-00000000000000000001-1-test.jsonl").write_text("\n".join(map(json.dumps, late)) + "\n")

    cell = compare(open_source(store), POLICY).cell((), "JSONValidation")

    assert cell is not None
    assert (cell.evidence.pairs, cell.candidate) == (20, 0.0)


@pytest.mark.parametrize("late", [False, True], ids=["on spans", "late"])
def test_evaluators_whose_names_differ_by_case_alone_count_as_one(tmp_path: Path, late: bool) -> None:
    """Two versions of a library wrote the arms; the more frequent name stands, and it is said."""
    key = "gen_ai.evaluation.{}.score".format
    other = {key("o'FAITH/~"): 0.9, "gen_ai.evaluation.o'FAITH/~.passed": False}
    given = [Request(baseline={key("o'Faith/~"): 0.9}, candidate={} if late else other) for _ in range(20)]
    store = write_store(tmp_path / "store", [*given, Request(baseline={key("o'Faith/~"): 0.9}, candidate=None)])
    if late:
        with EvaluationWriter(store) as writer:
            writer.write(
                {
                    "trace_id": f"{place + 1:032x}",
                    "span_id": f"{place * 8 + 3:016x}",
                    "evaluator": "o'FAITH/~",
                    "status": "ok",
                    "score": 0.9,
                    "passed": False,
                }
                for place in range(20)
            )

    comparison = compare(open_source(store), POLICY)

    cell = comparison.cell((), "o'Faith/~")
    assert cell is not None
    assert (cell.evidence.pairs, cell.baseline, cell.candidate) == (20, 0.0, 1.0)
    assert comparison.problems == (
        "the evaluators o'Faith/~ and o'FAITH/~ differ by case alone, and count as one: o'Faith/~",
    )


def no_scores() -> dict[str, Any]:
    prefix = "gen_ai.evaluation.Groundedness"
    return {f"{prefix}.score": None, f"{prefix}.passed": None, "traceai.evaluation.status": None}


@pytest.mark.parametrize("name", ["nowhere", "empty"])
def test_where_there_are_no_spans_the_error_says_what_to_name(tmp_path: Path, name: str) -> None:
    """An error with the fix, not an empty comparison."""
    (tmp_path / "empty").mkdir()

    with pytest.raises(SourceError, match="store"):
        open_source(tmp_path / name)


def test_what_is_half_written_in_a_store_is_reported_and_skipped(tmp_path: Path, expected: Any) -> None:
    """A writer that was killed, a file that is none of ours, names that are patterns elsewhere."""
    store = write_store(tmp_path / "a store [1]", some_requests())
    whole = next(store.glob("spans-*.jsonl"))
    cut = whole.read_text().splitlines()[0][:100]
    (store / "spans-00000000000000000002-1-[x].jsonl").write_text("nonsense\n" + cut)
    (store / "notes.txt").write_text("mine")

    source = open_source(store)

    assert seen(source) == expected
    assert [problem.split(":")[0] for problem in source.problems] == [
        "notes.txt",
        "spans-00000000000000000002-1-[x].jsonl",
    ]
    assert "2 lines are no spans" in source.problems[1]


def test_a_store_that_makes_room_while_it_is_read_gives_what_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full store removes its oldest file at any moment: while it is read, and before a report asks for answers."""
    store = write_store(tmp_path / "full", some_requests())
    kept = next(store.glob("spans-*.jsonl"))
    given = spans_of(COUNT, Request(baseline={"output.value": "said"}))
    oldest, newer = (store / f"spans-0000000000000000000{place}-1-old.jsonl" for place in (0, 2))
    for file, span in ((oldest, given[0]), (newer, given[1])):
        file.write_text(json.dumps(span) + "\n")
    readable = local_store._readable

    def slow(*arguments: Any) -> Any:
        found = readable(*arguments)
        oldest.unlink(missing_ok=True)
        return found

    monkeypatch.setattr(local_store, "_readable", slow)
    source = open_source(store)
    ids = [(given[1]["trace_id"], given[1]["span_id"])]
    kept.unlink()

    assert source.spans.count().to_pyarrow().as_py() == len(lines()) + 1
    assert source.content(ids) == {ids[0]: {"output.value": "said"}}
    newer.unlink()
    assert source.content(ids) == {}


def test_files_that_another_kind_of_source_hides_are_said(tmp_path: Path) -> None:
    """Parquet beside a collector's lines, and a store that is not named itself: nothing is left out without a word."""
    mixed = tmp_path / "mixed"
    mixed.mkdir()
    write_parquet(mixed / "a.parquet", COLUMNS)
    (mixed / "traces.json").write_text(otlp_line(lines()) + "\n")
    store = write_store(tmp_path / "stores" / "host", some_requests())

    [hidden] = open_source(mixed).problems
    [unread] = open_source(store.parent).problems

    assert hidden == "traces.json: not read, like all 1 of JSON here; where there is Parquet, it alone is"
    assert unread.endswith("lines are no OTLP traces, and were skipped; of a store, name its directory")


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("clickhouse://reader:S3CRET@ch:9000/otel", "clickhouse://reader:***@ch:9000/otel"),
        ("clickhouse://reader:S3C@RET/@ch:9000/otel", "clickhouse://reader:***@ch:9000/otel"),
        ("clickhouse://ch:9000/otel?password=S3C@RET&secure=1", "clickhouse://ch:9000/otel?password=***&secure=1"),
        ("clickhouse://reader@ch/otel", "clickhouse://reader@ch/otel"),
        ("spark://master:7077/data/spans", "spark://master:7077/data/spans"),
        ("spans/a:b@c", "spans/a:b@c"),
    ],
)
def test_an_address_is_shown_without_its_password(given: str, shown: str) -> None:
    """Reports, progress and errors are read by others."""
    assert without_password(given) == shown
