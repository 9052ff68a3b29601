"""Simulated traffic has the truths that were planted in it, and the decision reads it like any other."""

from __future__ import annotations

import json
from pathlib import Path

import duckdb
import pytest

from tests.support import paired_spans
from tests.support.paired_spans import Request, requests, spans_of
from traceai_vllm.cli.main import main
from traceai_vllm.release.simulator.planting import Planted, parse
from traceai_vllm.release.simulator.resampling import resample
from traceai_vllm.release.simulator.spans import write_parquet, write_store
from traceai_vllm.release.simulator.traffic import Evaluator, Traffic, draw
from traceai_vllm.release.sources import open_source

NAME = '"gen_ai.evaluation.Groundedness.passed"'


def arms(directory: Path, value: str, where: str = "true") -> dict[str, float]:
    """The mean of an expression in each arm."""
    table = f"read_parquet('{directory}/*.parquet', union_by_name = true)"
    arm = '"traceai.pair.arm"'
    found = duckdb.sql(f"DESCRIBE SELECT * FROM {table}").fetchall()
    arm = arm if any(row[0] == "traceai.pair.arm" for row in found) else "arm"
    return dict(duckdb.sql(f"SELECT {arm}, avg({value}) FROM {table} WHERE {where} GROUP BY ALL").fetchall())


@pytest.fixture(scope="module")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """8,000 pairs with a change of each kind."""
    directory = tmp_path_factory.mktemp("simulated")
    texts = ("Groundedness+0.2@slice=regulated", "latency*2@route=tools", "errors+0.1@route=faq", "prompt+0.05")
    texts += ("missing+0.3@min_prompt_tokens=1000", "thumbs_down+0.1", "timeouts+0.02", "output_tokens*1.5")
    write_parquet(Traffic(planted=tuple(parse(text) for text in texts), speed=1.0, seed=5), directory, 8000)
    return directory


def test_what_was_planted_is_there_and_nowhere_else(simulated) -> None:
    """Each change has its size in its place."""
    regulated = arms(simulated, f"(NOT {NAME})::INT", "list_contains(\"traceai.slices\", 'regulated')")
    others = arms(simulated, f"(NOT {NAME})::INT", '"traceai.slices" IS NULL')
    faq = arms(simulated, "(\"error.type\" = 'EngineDeadError' IS TRUE)::INT", "route = 'faq'")
    tools, support = (arms(simulated, '"gen_ai.latency.e2e"', f"route = '{name}'") for name in ("tools", "support"))
    kept = {
        which: duckdb.sql(
            f"""SELECT count(*) FILTER ("traceai.pair.arm" = 'candidate') / count(*) FILTER ("traceai.pair.arm" =
            'baseline') FROM '{simulated}/*.parquet' WHERE "gen_ai.usage.input_tokens" {which} 1000"""
        ).fetchall()[0][0]
        for which in (">=", "<")
    }

    assert regulated["candidate"] - regulated["baseline"] == pytest.approx(0.2, abs=0.05)
    assert others["candidate"] - others["baseline"] == pytest.approx(0, abs=0.02)
    assert faq["candidate"] - faq["baseline"] == pytest.approx(0.1, abs=0.02)
    assert tools["candidate"] / tools["baseline"] > 1.5 * support["candidate"] / support["baseline"]
    assert kept[">="] == pytest.approx(0.7, abs=0.03)
    assert kept["<"] == pytest.approx(0.995, abs=0.01)
    assert arms(simulated, "(prompt_version = 'v2')::INT")["candidate"] == pytest.approx(0.05, abs=0.01)
    assert arms(simulated, "(\"traceai.feedback.kind\" = 'thumbs_down')::INT")["candidate"] == pytest.approx(
        0.1, abs=0.02
    )


def test_sessions_that_are_longer_than_the_traffic_are_one(tmp_path) -> None:
    """And take no memory for the pairs that nobody asked for."""
    drawn = draw(Traffic(session_size=1e15), 0, 1000)

    assert len(drawn["session"]) == 1000
    assert set(drawn["session"]) == {0}


def test_the_same_seed_gives_the_same_spans(tmp_path) -> None:
    """Two runs agree to the byte of every value; another part of the same traffic has other pairs."""
    for name in ("one", "two"):
        write_parquet(Traffic(seed=3), tmp_path / name, 200)
    write_parquet(Traffic(seed=3), tmp_path / "two", 200, first=1)

    def read(name: str) -> list[tuple[object, ...]]:
        return duckdb.sql(f"SELECT * FROM '{tmp_path}/{name}'").fetchall()

    assert read("one/spans-00000.parquet") == read("two/spans-00000.parquet")
    assert not {row[0] for row in read("two/spans-00000.parquet")} & {row[0] for row in read("two/spans-00001.parquet")}


def test_a_store_reads_like_the_parquet_files(tmp_path) -> None:
    """Both forms of the same traffic are the same table to a comparison."""
    traffic = Traffic(evaluators={"Groundedness": Evaluator()}, seed=1)
    seen: list[int] = []
    assert write_store(traffic, tmp_path / "store", 150, seen.append) == seen[-1]
    write_parquet(traffic, tmp_path / "parquet", 150)
    columns = ["trace_id", "arm", "route", "session", "input_tokens", "failed", "score:Groundedness"]
    store, parquet = (
        open_source(tmp_path / name).spans.select(columns).order_by("trace_id", "arm").to_pyarrow().to_pylist()
        for name in ("store", "parquet")
    )

    assert store == parquet


def test_pairs_again_with_the_arms_swapped_differ_only_in_what_is_planted(simulated, tmp_path) -> None:
    """Real pairs under the null: the change of regulated answers is gone, and the new one is there."""
    source = open_source(simulated)
    planted = [parse("JSONValidation+0.2@route=support"), parse("errors+0.1@route=tools"), parse("missing+0.2")]
    count = resample(source, tmp_path, 8000, planted, null=True, seed=2)
    name = '"gen_ai.evaluation.JSONValidation.passed"'
    regulated = arms(tmp_path, f"(NOT {NAME})::INT", "list_contains(slices, 'regulated')")
    support, faq = (arms(tmp_path, f"(NOT {name})::INT", f"route = '{route}'") for route in ("support", "faq"))

    assert count > 12_000
    assert regulated["candidate"] - regulated["baseline"] == pytest.approx(0, abs=0.06)
    assert support["candidate"] - support["baseline"] == pytest.approx(0.2, abs=0.04)
    assert faq["candidate"] - faq["baseline"] == pytest.approx(0, abs=0.02)
    with pytest.raises(ValueError, match="Groundedness, JSONValidation"):
        resample(source, tmp_path, 10, [parse("Relevance+0.1")])


def test_pairs_again_keep_scores_that_came_later_or_stand_below(tmp_path) -> None:
    """`evaluate` writes scores beside the spans, servers theirs on spans below the gateway's; some give no verdict."""
    given = requests(40, lambda draw: Request(fails=draw.fails(0.3, 0.3)))
    store = paired_spans.write_store(tmp_path / "store", given, below=True)
    late = [
        {"trace_id": span["trace_id"], "span_id": span["span_id"], "evaluator": "Tone", "status": "ok", "score": 0.8}
        for place, request in enumerate(given)
        for span in spans_of(place, request)[1:]
    ]
    (store / "evaluations-1-test.jsonl").write_text("".join(json.dumps(line) + "\n" for line in late))

    resample(open_source(store), tmp_path / "again", 1000, [parse("Tone+0.5")])

    tone = arms(tmp_path / "again", '(NOT "gen_ai.evaluation.Tone.passed")::INT')
    grounded = arms(tmp_path / "again", f"(NOT {NAME})::INT")
    assert tone["baseline"] == 0
    assert tone["candidate"] == pytest.approx(0.5, abs=0.06)
    assert grounded["baseline"] == pytest.approx(sum(fails for fails, _ in (one.fails for one in given)) / 40, abs=0.1)


def test_changes_are_written_as_the_command_line_has_them() -> None:
    """What, how much, where."""
    assert parse("latency*1.5@route=a b,min_prompt_tokens=2048") == Planted(
        "latency", 1.5, {"route": "a b", "min_prompt_tokens": "2048"}
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("latency+0.1", "take a factor"),
        ("errors*2", "everything else points"),
        ("errors+20", "at most 1"),
        ("errors", r"WHAT\+POINTS"),
        ("errors+0.1@city=Paris", "KEY one of route"),
        ("latency*2@min_prompt_tokens=2k", "min_prompt_tokens is a whole number"),
        ("latency*0", "a factor is above 0"),
        ("latency*99999999999999", "at most 1,000,000"),
    ],
)
def test_a_change_that_cannot_be_planted_says_how_to_write_it(text, message) -> None:
    """Errors name the form that is right."""
    with pytest.raises(ValueError, match=message):
        parse(text)


def test_the_commands(tmp_path, capsys) -> None:
    """Simulate, plan from what was simulated, draw it again; wrong input is exit code 2 with the reason."""
    spans = tmp_path / "spans"
    assert main(["simulate", str(spans), "--pairs", "300", "--slices", "4"]) == 0
    assert main(["plan", "--margin", "0.03", "--from", str(spans), "--pairs-per-day", "100"]) == 0
    assert main(["simulate", str(tmp_path / "again"), "--from", str(spans), "--null", "--pairs", "100"]) == 0
    assert main(["plan", "--margin", "0.03", "--disagreement", "0.1"]) == 0
    shown = capsys.readouterr().out
    assert "Groundedness: exactly one answer fails in" in shown
    assert "1,116 pairs" in shown
    assert "751 pairs" in shown

    assert main(["simulate", str(tmp_path / "planted"), "--plant", "Relevance+0.1"]) == 2
    assert main(["plan", "--margin", "0.03", "--disagreement", "7"]) == 2
    assert "nothing to plant 'Relevance' in" in capsys.readouterr().err
