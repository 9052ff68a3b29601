"""What goes into the store comes out of it."""

from __future__ import annotations

import base64
import json
import math
import tempfile
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.sdk.trace.export import SpanExportResult
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags

from traceai_vllm.store import SpanStoreExporter, check, connect
from traceai_vllm.store.encode import MAX_LINE_BYTES

if TYPE_CHECKING:
    from pathlib import Path

INT64 = st.integers(-(2**63), 2**63 - 1)
# Surrogates (Cs) included: a tokenizer that cuts a character in two yields them.
TEXT = st.text(st.characters(exclude_categories=["Cn"]), max_size=40)
SCALARS = [st.booleans(), INT64, st.floats(), TEXT]
# What every SDK from 1.26 on takes as an attribute; bytes need valid UTF-8 there, or become text.
ATTRIBUTE = st.one_of(*SCALARS, *(st.lists(scalar, max_size=5) for scalar in SCALARS))
ATTRIBUTES = st.dictionaries(st.text(min_size=1, max_size=20), ATTRIBUTE, max_size=8)


def documented(value: Any) -> Any:
    """Return what the store's documentation says becomes of an attribute value."""
    if isinstance(value, float) and math.isnan(value):
        return "NaN"
    if isinstance(value, float) and math.isinf(value):
        return "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, str):
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, (tuple, list)):
        return [documented(item) for item in value]
    return value


def written(directory: Path | str, spans: list[Any]) -> None:
    exporter = SpanStoreExporter(directory)
    assert exporter.export(spans) is SpanExportResult.SUCCESS
    exporter.shutdown()


@given(batch=st.lists(ATTRIBUTES, min_size=5, max_size=20))
@settings(max_examples=25, deadline=None, derandomize=True)
def test_attribute_values_come_back_as_they_were(make_spans, batch) -> None:
    """Every attribute value of every span is read back exactly, within the documented mapping to JSON."""
    spans = [span for attributes in batch for span in make_spans(1, attributes)]
    with tempfile.TemporaryDirectory() as directory:
        written(directory, spans)
        with connect(directory) as store:
            rows = dict(store.sql("SELECT span_id, attributes FROM spans").fetchall())
        assert check(directory).ok
    expected = {
        f"{span.context.span_id:016x}": {documented(k): documented(v) for k, v in span.attributes.items()}
        for span in spans
    }
    # As JSON text: 1 is not 1.0 is not true there.
    assert {key: canonical(json.loads(value)) for key, value in rows.items()} == {
        key: canonical(value) for key, value in expected.items()
    }


def canonical(value: Any) -> str:
    return json.dumps(value, sort_keys=True, ensure_ascii=True)


def test_every_field_of_a_span_is_a_column(recording, tmp_path) -> None:
    """Ids, names, times, status, scope, events, links and resource are what the SDK's span says."""
    tracer, memory = recording
    memory.clear()
    other = SpanContext(trace_id=7, span_id=8, is_remote=True, trace_flags=TraceFlags(1))
    with tracer.start_as_current_span("parent", kind=SpanKind.SERVER) as parent:
        child = tracer.start_span("child", links=[Link(other, {"why": "retry"})])
        child.add_event("first token", {"n": 1}, timestamp=1_700_000_000_123_456_789)
        child.set_status(Status(StatusCode.ERROR, "engine died"))
        child.end()
    written(tmp_path, list(memory.get_finished_spans()))
    span = memory.get_finished_spans()[0]

    with connect(tmp_path) as store:
        relation = store.sql("SELECT * FROM spans WHERE name = 'child'")
        row = dict(zip(relation.columns, relation.fetchall()[0], strict=True))

    assert row["trace_id"] == f"{span.context.trace_id:032x}"
    assert row["span_id"] == f"{span.context.span_id:016x}"
    assert row["parent_span_id"] == f"{parent.get_span_context().span_id:016x}"
    assert (row["kind"], row["status"], row["status_message"]) == ("INTERNAL", "ERROR", "engine died")
    assert row["scope"] == "traceai_vllm"
    assert (row["start_time_unix_nano"], row["end_time_unix_nano"]) == (span.start_time, span.end_time)
    assert row["duration_s"] == (span.end_time - span.start_time) / 1e9
    assert row["start_time"] == datetime(1970, 1, 1) + timedelta(microseconds=span.start_time // 1000)
    assert json.loads(row["events"]) == [
        {"name": "first token", "time_unix_nano": 1_700_000_000_123_456_789, "attributes": {"n": 1}}
    ]
    assert json.loads(row["links"]) == [
        {"trace_id": f"{7:032x}", "span_id": f"{8:016x}", "attributes": {"why": "retry"}}
    ]
    assert json.loads(row["resource"]) == {"service.name": "vllm", "host.name": "node-1"}


def test_a_root_span_has_no_parent(make_spans, tmp_path) -> None:
    """A span without a parent has NULL there, not an id of zeros."""
    written(tmp_path, make_spans(1))
    with connect(tmp_path) as store:
        rows = store.sql("SELECT parent_span_id, kind, status FROM spans").fetchall()
    assert rows == [(None, "INTERNAL", "UNSET")]


def test_the_attributes_asked_for_most_are_columns(make_spans, tmp_path) -> None:
    """The promoted columns show their attribute with its type, and NULL where a span lacks it."""
    full = {
        "model_variant": "llama-awq",
        "quantization_format": "int4",
        "route": "support",
        "prompt_version": "v3",
        "traffic_cohort": "eu",
        "agent_step": "plan",
        "gen_ai.operation.name": "chat",
        "gen_ai.usage.input_tokens": 12,
        "gen_ai.usage.output_tokens": 3,
        "gen_ai.latency.time_to_first_token": 0.25,
        "gen_ai.latency.e2e": 1.5,
        "error.type": "timeout",
        "traceai.batch.size": 8,
    }
    columns = (
        "model_variant, quantization_format, route, prompt_version, traffic_cohort, agent_step, operation, "
        "input_tokens, output_tokens, time_to_first_token, e2e, error_type, batch_size"
    )
    written(tmp_path, make_spans(1, full) + make_spans(1, {"gen_ai.usage.input_tokens": "not a number"}))
    with connect(tmp_path) as store:
        rows = store.sql(f"SELECT {columns} FROM spans ORDER BY model_variant NULLS LAST").fetchall()
    assert rows == [tuple(full.values()), (None,) * len(full)]


def test_non_finite_numbers_can_be_computed_with(make_spans, tmp_path) -> None:
    """A NaN or an infinity is text in the JSON, which DuckDB casts back to the number."""
    written(tmp_path, make_spans(1, {"x": math.nan}) + make_spans(1, {"x": -math.inf}))
    with connect(tmp_path) as store:
        values = store.sql("SELECT CAST(attributes->>'$.x' AS DOUBLE) FROM spans").fetchall()
    assert math.isnan(values[0][0])
    assert values[1][0] == -math.inf


def test_a_lone_surrogate_does_not_lose_its_span(make_spans, tmp_path) -> None:
    """Text that is not valid Unicode is stored with U+FFFD where it is broken; a pair becomes its character."""
    [span] = make_spans(1, {"broken": "a\ud800b", "pair": "\ud83d\ude00", "fine": "\u2028\0é"})
    written(tmp_path, [span])
    with connect(tmp_path) as store:
        attributes = json.loads(store.sql("SELECT attributes FROM spans").fetchall()[0][0])
    assert attributes == {"broken": "a\ufffdb", "pair": "\U0001f600", "fine": "\u2028\0é"}


def test_bytes_and_nested_values_are_kept(make_spans, tmp_path) -> None:
    """Bytes are base64 text, and mappings (where the SDK takes them) stay mappings."""
    span = make_spans(1)[0]
    span._attributes = {"raw": b"\x00\xff", "deep": {"list": ({"n": 1, "raw": b"\x01"}, None)}}
    written(tmp_path, [span])
    with connect(tmp_path) as store:
        attributes = json.loads(store.sql("SELECT attributes FROM spans").fetchall()[0][0])
    assert attributes == {"raw": "AP8=", "deep": {"list": [{"n": 1, "raw": "AQ=="}, None]}}


def test_an_integer_of_five_thousand_digits_does_not_lose_its_span(make_spans, tmp_path) -> None:
    """Integers past Python's limit on digits are written in hexadecimal."""
    span = make_spans(1)[0]
    span._attributes = {"n": 10**5000, "ok": 1}
    written(tmp_path, [span])
    with connect(tmp_path) as store:
        attributes = json.loads(store.sql("SELECT attributes FROM spans").fetchall()[0][0])
    assert attributes == {"n": hex(10**5000), "ok": 1}


def test_a_huge_value_is_cut_and_says_so(make_spans, tmp_path) -> None:
    """A span that is too long for a line keeps its ids, times and short values; the cut is counted."""
    spans = make_spans(1, {"huge": "é" * MAX_LINE_BYTES, "route": "support"}) + make_spans(1, {"route": "faq"})
    exporter = SpanStoreExporter(tmp_path)
    assert exporter.export(spans) is SpanExportResult.SUCCESS
    assert exporter.counts.truncated == 1
    exporter.shutdown()
    lines = [json.loads(line) for line in next(tmp_path.glob("spans-*")).read_bytes().splitlines()]
    assert [line.get("truncated") for line in lines] == [True, None]
    with connect(tmp_path) as store:
        rows = store.sql("SELECT route, length(attributes->>'$.huge') FROM spans ORDER BY 1").fetchall()
    assert rows == [("faq", None), ("support", 4096)]


def test_a_span_of_many_huge_values_still_fits_on_a_line(recording, tmp_path) -> None:
    """When even cut values are too many, the span is kept without its attributes, events and links."""
    tracer, memory = recording
    memory.clear()
    span = tracer.start_span("many")
    for _ in range(40):
        span.add_event("e", {f"k{n}": "x" * 5000 for n in range(60)})
    span.end()
    written(tmp_path, list(memory.get_finished_spans()))
    assert next(tmp_path.glob("spans-*")).stat().st_size < MAX_LINE_BYTES
    with connect(tmp_path) as store:
        assert store.sql("SELECT name, events FROM spans").fetchall() == [("many", "[]")]


def test_ten_thousand_spans(make_spans, tmp_path) -> None:
    """Ten thousand spans in batches come back one by one, over several segments."""
    spans = make_spans(10_000, {"route": "support"})
    exporter = SpanStoreExporter(tmp_path, max_segment_bytes=1_000_000)
    for start in range(0, len(spans), 512):
        exporter.export(spans[start : start + 512])
    exporter.shutdown()
    with connect(tmp_path) as store:
        ids = {span_id for (span_id,) in store.sql("SELECT span_id FROM spans").fetchall()}
    assert ids == {f"{span.context.span_id:016x}" for span in spans}
    report = check(tmp_path)
    assert (report.spans, report.problems) == (10_000, ())
    assert report.segments > 1
