"""compare, gate and report: exit codes and formats that a pipeline can rely on."""

from __future__ import annotations

import html
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest

from tests.support.paired_spans import Draw, Request, requests, write_store
from traceai_vllm import release
from traceai_vllm.cli.gate import EXIT_CODES
from traceai_vllm.cli.main import main
from traceai_vllm.gateway.decision import Action, read_decision
from traceai_vllm.release.measures import QUANTILES

POLICY = "version: 1\nname: p\nmeasures:\n  Groundedness: {margin: 0.1}\n"


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Stores of a good and a bad candidate, and a policy."""
    root = tmp_path_factory.mktemp("gate")

    def make(worse: float) -> Any:
        def request(draw: Draw) -> Request:
            return Request(route="a::b,c", fails=draw.fails(0.02, worse))

        return request

    (root / "policy.yaml").write_text(POLICY)
    return {
        "good": str(write_store(root / "good", requests(200, make(0.02)))),
        "bad": str(write_store(root / "bad", requests(200, make(0.4)))),
        "policy": str(root / "policy.yaml"),
    }


def test_every_action_has_an_exit_code_of_its_own() -> None:
    """0 is promote alone; 1 and 2 are left to crashes and errors."""
    assert set(EXIT_CODES) == {action.value for action in Action}
    assert len(set(EXIT_CODES.values())) == len(EXIT_CODES)
    assert EXIT_CODES["promote"] == 0
    assert not {1, 2} & set(EXIT_CODES.values())


def test_gate_promotes_with_0_and_writes_what_the_gateway_reads(
    places: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The decision file is the gateway's contract."""
    file = tmp_path / "decision.json"

    code = main(["gate", places["good"], "--policy", places["policy"], "--decision", str(file)])

    assert code == 0
    assert read_decision(file).routes["a::b,c"].action is Action.PROMOTE
    assert "Go: " in capsys.readouterr().out


def test_gate_says_no_in_each_format(places: dict[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    """The exit code is the same; JSON, JUnit and GitHub are what their readers parse."""
    printed = {}
    for name in ("json", "junit", "github"):
        assert main(["gate", places["bad"], "--policy", places["policy"], "--format", name]) == EXIT_CODES["fallback"]
        printed[name] = capsys.readouterr().out

    content = json.loads(printed["json"])
    assert content["decision"]["action"] == "fallback"
    assert {"scope", "measure", "verdict", "interval", "pairs_needed"} <= set(content["cells"][0])
    suite = ET.fromstring(printed["junit"])
    assert int(suite.get("failures", "0")) == len(suite.findall("./testcase/failure")) > 0
    first = printed["github"].splitlines()[0]
    assert first.startswith("::error title=release decision%3A fallback::No go: ")
    assert all(line.startswith("::") for line in printed["github"].splitlines())


def test_compare_prints_tables(places: dict[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    """Both arms, side by side."""
    assert main(["compare", places["bad"], "--policy", places["policy"]]) == 0

    out = capsys.readouterr().out
    assert "WORSE" in out
    assert "clean pairs" in out


@pytest.mark.parametrize("command", [["compare"], ["gate"], ["gate", "--format", "json"], ["watch", "--once"]])
def test_a_reader_that_goes_away_ends_the_output_without_a_word(command: list[str], places: dict[str, str]) -> None:
    """`traceai-vllm compare ... | head -1`: whichever library writes, the same exit code, which is not success."""
    reader, writer = os.pipe()
    os.close(reader)
    line = [sys.executable, "-m", "traceai_vllm.cli", *command, places["good"], "--policy", places["policy"]]
    try:
        done = subprocess.run(line, stdout=writer, stderr=subprocess.PIPE, text=True, check=False)
    finally:
        os.close(writer)

    assert (done.returncode, done.stderr) == (141, "")


@pytest.mark.parametrize(("columns", "tables"), [("80", 3), (None, 1)])
def test_compare_can_be_read_in_a_terminal_and_in_a_pipe(
    columns: str | None,
    tables: int,
    places: dict[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Names are whole at 80 columns, where measures take several tables; a pipe is wide enough for one."""
    measures = ("Groundedness", "HallucinationScore", "JSONValidation", "errors", "timeouts", "latency.p50")
    policy = tmp_path / "policy.yaml"
    policy.write_text("version: 1\nmeasures:\n" + "".join(f"  {name}: {{margin: 0.1}}\n" for name in measures))
    monkeypatch.setenv("COLUMNS", columns) if columns else monkeypatch.delenv("COLUMNS", raising=False)

    assert main(["compare", places["bad"], "--policy", str(policy)]) == 0

    out = capsys.readouterr().out
    assert out.count("candidate against baseline") == tables
    assert out.count("traffic_cohort=mirrored-2026-05 ") >= tables
    assert all(name in out for name in (*measures, *QUANTILES))
    assert "…" not in out
    assert max(map(len, out.splitlines())) <= int(columns or 160)


def test_report_writes_one_file(places: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """And says where it is."""
    file = tmp_path / "release.html"

    assert main(["report", places["bad"], "--policy", places["policy"], "-o", str(file)]) == 0

    assert file.read_text().startswith("<!DOCTYPE html>")
    assert str(file) in capsys.readouterr().out


@pytest.mark.parametrize("policy", ["", "evidence: {max_age_days: 1}\n"])
@pytest.mark.parametrize("given", [[], ["--as-of", "2023-11-15T10:00:00.5+01:00"]])
def test_the_command_in_a_report_makes_the_same_decision_again(
    policy: str, given: list[str], places: dict[str, str], tmp_path: Path
) -> None:
    """Where the age of evidence counts, the time at which it was told is part of the command."""
    file = tmp_path / "policy.yaml"
    file.write_text(POLICY + policy)
    pages = [tmp_path / "report.html", tmp_path / "again.html"]

    assert main(["report", places["good"], "--policy", str(file), *given, "-o", str(pages[0])]) == 0
    shown = re.search("<pre>(traceai-vllm report .*?)</pre>", pages[0].read_text())
    assert shown is not None
    _, *again = shlex.split(html.unescape(shown[1]))
    assert main([*again, "-o", str(pages[1])]) == 0

    assert ("--as-of" in again) == bool(policy or given)
    ids = [re.findall("Decision <code>(.*?)</code>", page.read_text()) for page in pages]
    assert ids[0] == ids[1]


def test_an_evaluators_name_does_not_reach_the_terminal_as_a_command(
    tmp_path: Path, places: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    """Names come from attributes of spans, which are anybody's: in tables, and where it says what does not count."""
    hostile = "gen_ai.evaluation.x\x1b]0;owned\x07.score"
    given = [Request(baseline={hostile: 0.9}, candidate={hostile: score}) for score in (0.9, 5.0) * 10]
    store = write_store(tmp_path / "store", given)

    assert main(["compare", str(store), "--policy", places["policy"]]) == 0

    said = capsys.readouterr()
    assert "x�]0;owned�" in said.out
    assert "note: x�]0;owned�: 10 scores are not from 0 to 1" in said.err
    assert "\x1b" not in said.out + said.err


@pytest.mark.parametrize(("command", "option"), [("gate", "--decision"), ("report", "--output")])
def test_a_file_that_cannot_be_written_is_said_and_leaves_nothing(
    command: str, option: str, places: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A folder in its place: exit code 2, one line, and no unfinished file beside it."""
    (tmp_path / "there").mkdir()

    code = main([command, places["good"], "--policy", places["policy"], option, str(tmp_path / "there")])

    assert code == 2
    said = capsys.readouterr().err.splitlines()
    assert said == [f"traceai-vllm {command}: {tmp_path / 'there'} cannot be written: Is a directory"]
    assert [file.name for file in tmp_path.iterdir()] == ["there"]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["gate", "spans", "--policy", "p", "--as-of", "yesterday"], "write e.g. 2026-11-23T12:00:00Z"),
        (["gate", "spans", "--policy", "p", "--as-of", "2026-11-23"], "no time with a zone"),
        (["gate", "spans", "--policy", "p", "--as-of", "0001-01-01T00:00:00+14:00"], "no time with a zone"),
        (["watch", "spans", "--policy", "p", "--every", "0"], "'0' is no time: write seconds, above 0"),
        (["plan", "--margin", "-1", "--disagreement", "0.1"], "--margin -1: needed is a number above 0 and at most 1"),
        (["plan", "--margin", "nan", "--disagreement", "0.1"], "--margin nan: needed is a number above 0"),
        (["plan", "--margin", "0.03", "--disagreement", "2"], "--disagreement 2: needed is a number from 0 to 1"),
        (["plan", "--margin", "0.03", "--disagreement", "0.1", "--pairs-per-day", "-5"], "--pairs-per-day -5: needed"),
        (["simulate", "spans", "--pairs", "0"], "--pairs 0: needed is a number of 1 or more"),
        (["simulate", "spans", "--slices", "-3"], "--slices -3: needed is a number of 1 or more"),
        (["simulate", "spans", "--speed", "nan"], "--speed nan: needed is a number above 0"),
        (["simulate", "spans", "--speed", "1e300"], "--speed 1e+300: needed is a number above 0 and at most 1e+06"),
        (["simulate", "spans", "--session-size", "nan"], "--session-size nan: needed is a number of 1 or more"),
        (["simulate", "spans", "--seed", "-1"], "--seed -1: needed is a number of 0 or more"),
        (["simulate", "spans", "--from", "nowhere", "--speed", "1"], "into one file: leave out --speed"),
        (["simulate", "spans", "--from", "nowhere", "--part", "1"], "into one file: leave out --part"),
    ],
)
def test_a_value_that_makes_no_sense_is_refused_with_what_may_stand_there(
    words: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 2, before anything is read or written."""
    try:
        code = main(words)
    except SystemExit as ended:  # what argparse itself refuses
        code = ended.code

    assert code == 2
    assert says in capsys.readouterr().err


def test_what_no_further_pairs_will_bring_is_said_first(
    places: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A measure that nobody scores, or whose name is misspelt, and a part without traffic: no "8450 more pairs"."""
    policy = tmp_path / "policy.yaml"
    policy.write_text(
        "version: 1\nmeasures:\n  Groundedness: {margin: 0.001}\n  Groundness: {margin: 0.02}\n"
        "critical:\n  - {route: claims}\n"
    )

    assert main(["gate", places["good"], "--policy", str(policy), "--format", "json"]) == 10

    said = json.loads(capsys.readouterr().out)
    assert "first of all Groundness on all traffic" in said["verdict"]
    assert said["what_would_change_it"][:2] == [
        "data for Groundness, which no pair has: is it scored in both arms, and under this name?",
        "data for Groundedness on route=claims",
    ]
    assert "for Groundedness, if the candidate is as good" in said["what_would_change_it"][2]

    assert main(["compare", places["good"], "--policy", str(policy)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert all("more)" not in line for line in lines if "route=claims" in line)
    assert any(line.count("no data") == 2 for line in lines if "route=claims" in line)


@pytest.mark.parametrize("place", ["spans", "spans/more"])
@pytest.mark.parametrize("form", [["--format", "store"], ["--from", "nowhere"], []])
def test_spans_cannot_be_simulated_into_a_file(
    place: str, form: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A file of that name stays as it is, and the message says what to write instead."""
    monkeypatch.chdir(tmp_path)
    Path("spans").write_text("mine")

    assert main(["simulate", place, "--pairs", "20", *form]) == 2

    assert "spans is a file: name a directory for the spans" in capsys.readouterr().err
    assert Path("spans").read_text() == "mine"


@pytest.mark.parametrize("form", [["--format", "store"], ["--from", "spans"], []])
def test_simulated_spans_do_not_come_among_others(
    form: list[str], places: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A decision would rest on both: those that users made, or those of another simulation."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(places["good"], "spans")
    before = sorted(Path("spans").iterdir())

    assert main(["simulate", "spans", "--pairs", "20", *form]) == 2
    assert sorted(Path("spans").iterdir()) == before

    assert main(["simulate", "mine/more", "--pairs", "20"]) == 0
    assert main(["simulate", "mine/more", "--pairs", "20"]) == 2
    assert main(["simulate", "mine/more", "--pairs", "20", "--part", "1"]) == 0
    assert len(list(Path("mine/more").iterdir())) == 2


@pytest.mark.parametrize("command", ["compare", "gate", "report"])
def test_what_cannot_be_used_is_2_and_says_why(
    command: str, places: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A pipeline tells an error from a verdict."""
    broken = tmp_path / "broken.yaml"
    broken.write_text(POLICY + "limts: {}\n")

    assert main([command, places["good"], "--policy", str(broken)]) == 2
    assert "broken.yaml:5: limts: is not known here; did you mean `limits`?" in capsys.readouterr().err
    assert main([command, str(tmp_path / "nowhere"), "--policy", places["policy"]]) == 2
    assert "nothing at" in capsys.readouterr().err


def test_a_report_keeps_the_password_of_its_source_to_itself(
    places: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is sent around; the command line in it makes it again for whoever has the password."""
    spans = release.open_source(places["good"])
    monkeypatch.setattr(release, "open_source", lambda location: spans)  # stands for the database
    file = tmp_path / "report.html"
    store = "clickhouse://reader:S3CRET@ch:9000/otel"

    assert main(["report", store, "--policy", places["policy"], "-o", str(file)]) == 0

    page = html.unescape(file.read_text())
    assert "S3CRET" not in page
    assert "traceai-vllm report 'clickhouse://reader:***@ch:9000/otel' --policy" in page
