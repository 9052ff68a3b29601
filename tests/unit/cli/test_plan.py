"""plan --from: the disagreement of pairs that are there, wherever their scores stand."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.paired_spans import Draw, Request, requests, spans_of, write_store
from traceai_vllm.cli.main import main
from traceai_vllm.release import sources


def make(draw: Draw) -> Request:
    return Request(fails=draw.fails(0.0, 0.25))


def test_scores_that_came_later_or_stand_below_count(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`evaluate` writes scores beside the spans, servers put theirs on spans below the gateway's."""
    given = requests(40, make)
    store = write_store(tmp_path / "spans", given, below=True)
    late = [
        {"trace_id": span["trace_id"], "span_id": span["span_id"], "evaluator": "NoLooping", "status": "ok"}
        | {"score": 1.0, "passed": True}
        for place, request in enumerate(given)
        for span in spans_of(place, request)[1:]
    ]
    (store / "evaluations-1-test.jsonl").write_text("".join(json.dumps(line) + "\n" for line in late))

    assert main(["plan", "--margin", "0.05", "--from", str(store)]) == 0

    out = capsys.readouterr().out
    expected = sum(one != other for one, other in (request.fails for request in given)) / 40
    assert f"Groundedness: exactly one answer fails in {expected:.1%} of the pairs in 40 pairs" in out
    assert "NoLooping: exactly one answer fails in 0.0% of the pairs in 40 pairs" in out


def test_an_error_keeps_the_password_of_its_source_to_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Logs of a pipeline are read by many."""
    empty = sources.open_source(write_store(tmp_path / "spans", []))
    monkeypatch.setattr(sources, "open_source", lambda location: empty)

    assert main(["plan", "--margin", "0.05", "--from", "clickhouse://reader:s3cret@host:8123/otel"]) == 2

    error = capsys.readouterr().err
    assert "clickhouse://reader:***@host:8123/otel has no pairs with scores" in error
    assert "s3cret" not in error
