"""Reading a store: what is asked for when it is empty, damaged, or somewhere odd."""

from __future__ import annotations

import sys
import textwrap
from typing import TYPE_CHECKING

import duckdb
import pytest

import traceai_vllm.store
from traceai_vllm.store import SpanStoreExporter, check, connect
from traceai_vllm.store.evaluations import EvaluationWriter

if TYPE_CHECKING:
    from pathlib import Path


def stored(directory: Path, spans: list) -> Path:
    exporter = SpanStoreExporter(directory)
    exporter.export(spans)
    exporter.shutdown()
    return sorted(directory.glob("spans-*"))[-1]


def count(directory: Path) -> int:
    with connect(directory) as store:
        return store.sql("SELECT count(*) FROM spans").fetchall()[0][0]


def test_a_missing_directory_is_an_error_that_says_so(tmp_path) -> None:
    """A mistyped directory is not an empty result."""
    with pytest.raises(FileNotFoundError, match=r"no span store at .*nowhere"):
        connect(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match=r"no span store at .*nowhere"):
        check(tmp_path / "nowhere")


def test_an_empty_directory_is_an_empty_table_with_all_columns(make_spans, tmp_path) -> None:
    """Before the first span, the same queries run and return nothing."""
    (tmp_path / "full").mkdir()
    stored(tmp_path / "full", make_spans(1))
    (tmp_path / "empty").mkdir()
    with connect(tmp_path / "empty") as empty, connect(tmp_path / "full") as full:
        assert empty.sql("SELECT * FROM spans").fetchall() == []
        assert empty.sql("SELECT * FROM spans").columns == full.sql("SELECT * FROM spans").columns
        assert empty.sql("SELECT * FROM spans").types == full.sql("SELECT * FROM spans").types


def test_without_duckdb_the_error_names_the_extra(monkeypatch, tmp_path) -> None:
    """Reading without DuckDB says what to install; importing and writing do not need it."""
    monkeypatch.setitem(sys.modules, "duckdb", None)
    with pytest.raises(ImportError, match=r"pip install 'traceai-vllm\[store\]'"):
        connect(tmp_path)


@pytest.mark.parametrize("name", ["it's", "a[b]c", "what?*", "sp ace é", "year=2026"])
def test_any_name_of_a_directory_will_do(make_spans, tmp_path, name) -> None:
    """Characters that mean something to SQL or to a glob are only characters in a path."""
    stored(tmp_path / name, make_spans(2))
    assert count(tmp_path / name) == 2


def test_spans_written_later_appear_on_the_same_connection(make_spans, tmp_path) -> None:
    """A connection shows the files as they are when a query runs, new segments too."""
    stored(tmp_path, make_spans(1))
    with connect(tmp_path) as store:
        assert store.sql("SELECT count(*) FROM spans").fetchall() == [(1,)]
        stored(tmp_path, make_spans(2))
        assert store.sql("SELECT count(*) FROM spans").fetchall() == [(3,)]


@pytest.mark.parametrize("kept", [0, 1, 40, 200, -2])
def test_a_cut_off_last_line_costs_only_itself(make_spans, tmp_path, kept) -> None:
    """Wherever the last line is cut, the others are read, and the check names the cut one."""
    path = stored(tmp_path, make_spans(3))
    data = path.read_bytes()
    last = data.rindex(b"\n", 0, -1) + 1
    path.write_bytes(data[:last] + data[last:][:kept])
    assert count(tmp_path) == 2
    report = check(tmp_path)
    assert report.spans == 2
    if kept == 0:
        assert report.ok
    else:
        assert [(p.file, p.line) for p in report.problems] == [(path.name, 3)]
        assert "cut off" in str(report.problems[0])


def test_a_line_without_its_newline_counts(make_spans, tmp_path) -> None:
    """A last line that lacks nothing but its newline is a whole span."""
    path = stored(tmp_path, make_spans(2))
    path.write_bytes(path.read_bytes()[:-1])
    assert count(tmp_path) == 2
    assert check(tmp_path).ok


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (b"not json\n", "not a JSON object"),
        (b"\0" * 500 + b"\n", "not a JSON object"),
        (b"[1, 2]\n", "not a JSON object"),
        (b'{"trace_id": "\xff"}\n', "not valid UTF-8"),
        (b'{"format_version": 1, "trace_id": "\\ud800"}\n', "not valid UTF-8"),
        (b'{"format_version": 1, "trace_id": "abc"}\n', "no trace_id of 32 characters"),
        (b'{"format_version": 1}\n', "no trace_id of 32 characters"),
        (b"\n", "not a JSON object"),
    ],
)
def test_a_damaged_line_is_left_out_and_reported(make_spans, tmp_path, damage, reason) -> None:
    """A line that is no span hides none of the lines round it, and the check says which one and why."""
    path = stored(tmp_path, make_spans(2))
    first, second = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(first + damage + second)
    assert count(tmp_path) == 2
    report = check(tmp_path)
    assert report.spans == 2
    assert not report.ok
    assert [str(problem) for problem in report.problems] == [f"{path.name}:2: {reason}"]


def test_a_newer_format_is_reported(make_spans, tmp_path) -> None:
    """A store written by a later release is not taken for one of this release's in silence."""
    path = stored(tmp_path, make_spans(1))
    path.write_bytes(path.read_bytes().replace(b'"format_version":1', b'"format_version":99'))
    assert "format_version 99" in str(check(tmp_path).problems[0])


def test_a_line_that_duckdb_refuses_is_reported(make_spans, tmp_path) -> None:
    """A line over DuckDB's limit fails every query, and the check says which file to move away."""
    path = stored(tmp_path, make_spans(1))
    path.write_bytes(path.read_bytes() + b"\0" * 40_000_000 + b"\n")
    with connect(tmp_path) as store, pytest.raises(duckdb.Error, match="maximum_object_size"):
        store.sql("SELECT count(*) FROM spans").fetchall()
    assert "move the file" in str(check(tmp_path).problems[0])


def test_files_that_are_no_segments_are_reported(make_spans, tmp_path) -> None:
    """A file that the reader passes over, such as a compressed segment, is named."""
    path = stored(tmp_path, make_spans(1))
    path.rename(tmp_path / "spans-1.jsonl.gz")
    assert [str(problem) for problem in check(tmp_path).problems] == [
        "spans-1.jsonl.gz: not a segment of the store, so it is not read"
    ]


def test_evaluations_beside_the_spans_are_no_problem(make_spans, tmp_path) -> None:
    """`traceai-vllm evaluate` writes them there, and the view `evaluations` reads them."""
    stored(tmp_path, make_spans(1))
    with EvaluationWriter(tmp_path) as writer:
        writer.write([{"trace_id": "a" * 32, "span_id": "b" * 16, "evaluator": "e", "status": "ok"}])
    assert check(tmp_path).ok


def test_an_unreadable_segment_is_reported(make_spans, tmp_path) -> None:
    """A segment that cannot be opened is a problem, not an exception."""
    stored(tmp_path, make_spans(1))
    (tmp_path / "spans-2.jsonl").mkdir()
    report = check(tmp_path)
    assert report.spans == 1
    assert "cannot be read" in str(report.problems[0])


def test_the_query_in_the_documentation_runs_without_our_code(make_spans, tmp_path, monkeypatch) -> None:
    """The plain DuckDB query of the package's docstring reads the files as they lie."""
    stored(tmp_path / "spans", make_spans(3, {"model_variant": "llama-awq"}))
    documentation = traceai_vllm.store.__doc__
    query = textwrap.dedent(documentation[documentation.index("    SELECT") :].split("\n\n")[0])
    monkeypatch.chdir(tmp_path)
    with duckdb.connect() as plain:
        [(variant, spans, median)] = plain.sql(query).fetchall()
    assert (variant, spans) == ("llama-awq", 3)
    assert median > 0
