"""`traceai-vllm evaluate`: scores what is stored, once, and goes on where it was interrupted."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.trace import SpanKind

from traceai_vllm.cli.main import main
from traceai_vllm.evals import JSONValidation
from traceai_vllm.evals.pipeline import EvaluatorSpanProcessor
from traceai_vllm.evals.pipeline.stored import evaluate_store
from traceai_vllm.store import SpanStoreExporter, connect
from traceai_vllm.store.evaluations import EvaluationWriter

if TYPE_CHECKING:
    from pathlib import Path


class Words:
    name = "Words"

    def __init__(self, fails_on: str | None = None) -> None:
        self.asked: list[str] = []
        self._fails_on = fails_on

    def evaluate(self, *, response: str) -> float:
        self.asked.append(response)
        if response == self._fails_on:
            raise RuntimeError("not this one")
        return min(1.0, len(response.split()) / 4)


def stored(directory: Path, answers: list[str | None], *, wrap: Any = lambda processor: processor) -> None:
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(wrap(SimpleSpanProcessor(SpanStoreExporter(directory))))
    for answer in answers:
        attributes = {"gen_ai.operation.name": "chat", "gen_ai.output.type": "json"}
        if answer is not None:
            message = {"role": "assistant", "parts": [{"type": "text", "content": answer}]}
            attributes["gen_ai.output.messages"] = json.dumps([message])
        provider.get_tracer("test").start_span("chat m", attributes=attributes).end()
    provider.shutdown()


def rows(directory: Path) -> list[Any]:
    query = "SELECT evaluator, status, score, passed FROM evaluations ORDER BY evaluator, score"
    return connect(directory).execute(query).fetchall()


def test_stored_answers_are_scored_and_the_scores_are_in_the_store(tmp_path: Path) -> None:
    """Each answer has a row in the view `evaluations`; requests without content are counted."""
    stored(tmp_path, ["two words", "these are four words", None])

    summary = evaluate_store(tmp_path, [Words()])

    assert (summary.spans, summary.without_answer) == (2, 1)
    assert rows(tmp_path) == [("Words", "ok", 0.5, True), ("Words", "ok", 1.0, True)]


def test_spans_that_never_have_an_answer_are_no_lack_of_content(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A gateway's store has an HTTP span beside each answer, and failed requests: content was on all the same."""
    stored(tmp_path, ["two words"])
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(SpanStoreExporter(tmp_path)))
    tracer, chat = provider.get_tracer("test"), {"gen_ai.operation.name": "chat"}
    tracer.start_span("POST /v1/chat/completions", kind=SpanKind.SERVER, attributes=chat).end()
    tracer.start_span("chat m", attributes={**chat, "error.type": "cancelled"}).end()
    provider.shutdown()

    assert main(["evaluate", str(tmp_path), "--evaluators", "JSONValidation"]) == 0

    assert "capture_content was off" not in capsys.readouterr().out


def test_what_has_a_score_is_not_scored_again(tmp_path: Path) -> None:
    """A second run asks only for what is new, or for evaluators that have not been here."""
    stored(tmp_path, ["one"])
    evaluate_store(tmp_path, [Words()])
    stored(tmp_path, ["a new answer"])
    again = Words()

    evaluate_store(tmp_path, [again, JSONValidation()])

    assert again.asked == ["a new answer"]
    assert [row[0] for row in rows(tmp_path)] == ["JSONValidation", "JSONValidation", "Words", "Words"]


def test_an_interrupted_run_keeps_what_it_has(tmp_path: Path) -> None:
    """It is interrupted after the first batch; the next run does the rest."""
    stored(tmp_path, [f"answer {number}" for number in range(100)])

    def interrupt(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        evaluate_store(tmp_path, [Words()], progress=interrupt)
    kept = len(rows(tmp_path))
    rest = Words()
    evaluate_store(tmp_path, [rest])

    assert 0 < kept < 100
    assert len(rest.asked) == 100 - kept
    assert len(rows(tmp_path)) == 100


def test_scores_that_take_long_are_kept_soon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A judge's: not only when many are together."""
    now = iter(range(0, 1000, 1))
    monkeypatch.setattr("traceai_vllm.evals.pipeline.stored.time", SimpleNamespace(monotonic=lambda: next(now)))
    stored(tmp_path, ["one", "two", "three"])
    told: list[tuple[int, int]] = []

    evaluate_store(tmp_path, [Words()], progress=lambda done, total: told.append((done, total)))

    assert told == [(1, 3), (2, 3), (3, 3)]


def test_lines_that_cannot_be_read_are_passed_by(tmp_path: Path) -> None:
    """What a process that was killed has left, or another program has written."""
    stored(tmp_path, ["one", "two"])
    evaluate_store(tmp_path, [Words()])
    (written,) = tmp_path.glob("evaluations-*.jsonl")
    with written.open("ab") as file:
        file.write(b'\xff\x00 no JSON\n[1]\n{"trace_id": "cut o')
    stored(tmp_path, ["three"])

    assert evaluate_store(tmp_path, [Words()]).spans == 1
    assert len(rows(tmp_path)) == 3


def test_a_failed_evaluation_is_tried_again(tmp_path: Path) -> None:
    """It has a status and no score; when it works the next time, it has both."""
    stored(tmp_path, ["good", "bad"])
    evaluate_store(tmp_path, [Words(fails_on="bad")])
    assert ("Words", "error", None, None) in rows(tmp_path)
    again = Words()

    evaluate_store(tmp_path, [again])

    assert again.asked == ["bad"]


def test_scores_from_the_way_are_there_too_and_not_made_again(tmp_path: Path) -> None:
    """A span that passed the evaluators carries its score; the view shows it like the others."""
    stored(tmp_path, ["on the way"], wrap=lambda behind: EvaluatorSpanProcessor(behind, evaluators=[Words()]))
    again = Words()

    evaluate_store(tmp_path, [again])

    assert again.asked == []
    assert rows(tmp_path) == [("Words", "ok", 0.75, True)]


def test_the_command_says_what_it_did(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Counts, means and passes per evaluator."""
    stored(tmp_path, ['{"a": 1}', "no JSON", None])

    assert main(["evaluate", str(tmp_path), "--evaluators", "JSONValidation"]) == 0

    printed = capsys.readouterr().out
    assert "2 answers evaluated" in printed
    assert "1 requests have no answer in the store" in printed
    assert "2 scored, mean 0.500, 1 passed" in printed


def test_slices_are_kept_with_the_scores(tmp_path: Path) -> None:
    """By the thresholds in a file; a span that has slices already keeps its own."""
    store, thresholds = tmp_path / "spans", tmp_path / "slices.json"
    thresholds.write_text('{"regulated_words": ["legal advice"]}')
    stored(store, ["on the way"], wrap=lambda behind: EvaluatorSpanProcessor(behind, evaluators=[Words()]))
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(SpanStoreExporter(store)))
    said = {"parts": [{"type": "text", "content": "Give me legal advice."}]}
    attributes = {
        "gen_ai.operation.name": "chat",
        "gen_ai.input.messages": json.dumps([{"role": "user", **said}]),
        "gen_ai.output.messages": json.dumps([{"role": "assistant", **said}]),
    }
    for slices in ({}, {"traceai.slices": ["vip"]}):
        provider.get_tracer("test").start_span("chat m", attributes={**attributes, **slices}).end()
    provider.shutdown()

    assert main(["evaluate", str(store), "--evaluators", "JSONValidation", "--slices", str(thresholds)]) == 0

    query = "SELECT slices FROM evaluations WHERE len(slices) > 0 ORDER BY slices"
    assert connect(store).execute(query).fetchall() == [(["regulated"],), (["vip"],)]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["no/such/store"], "no/such/store"),
        ([".", "--evaluators", "Grounded"], "there is no evaluator 'Grounded'"),
        ([".", "--slices", "pyproject.toml"], "pyproject.toml has no thresholds of slices"),
    ],
)
def test_what_cannot_be_used_is_said(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A missing store and an unknown evaluator end with code 2 and one line."""
    assert main(["evaluate", *arguments]) == 2

    assert message in capsys.readouterr().err


@pytest.mark.parametrize("command", [["evaluate"], ["replay", "--to", "http://127.0.0.1:9"]])
def test_a_folder_without_a_store_is_no_store_with_nothing_to_do(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A mistyped folder, or one with Parquet files, must not pass for an evaluation that is done."""
    (tmp_path / "spans-0000.parquet").touch()

    assert main([*command, str(tmp_path)]) == 2

    assert f"{tmp_path} holds no spans of a store (spans-*.jsonl)" in capsys.readouterr().err
    assert not list(tmp_path.glob("evaluations*"))


def test_a_span_that_cannot_be_read_leaves_the_others_scored(tmp_path: Path) -> None:
    """Another library's schema, nested deeper than anybody reads, is an error of its own."""
    deep = json.dumps("[" * 100_000)  # a JSON text that holds the text of a schema, as vLLM takes it
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(SpanStoreExporter(tmp_path)))
    for schema in (deep, "{}"):
        message = {"role": "assistant", "parts": [{"type": "text", "content": "{}"}]}
        attributes = {
            "gen_ai.operation.name": "chat",
            "gen_ai.output.type": "json",
            "gen_ai.output.messages": json.dumps([message]),
            "traceai.output_schema": schema,
        }
        provider.get_tracer("test").start_span("chat m", attributes=attributes).end()
    provider.shutdown()

    summary = evaluate_store(tmp_path, [JSONValidation()])

    assert summary.spans == 2


def test_a_second_evaluation_of_a_store_is_told_of_the_first(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two at once would score everything twice."""
    stored(tmp_path, ["{}"])
    with EvaluationWriter(tmp_path):
        assert main(["evaluate", str(tmp_path), "--evaluators", "JSONValidation"]) == 2
    assert "another evaluation" in capsys.readouterr().err
    assert main(["evaluate", str(tmp_path), "--evaluators", "JSONValidation"]) == 0
    assert len(rows(tmp_path)) == 1
