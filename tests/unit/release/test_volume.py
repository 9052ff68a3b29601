"""How much answers differ is shown without what is chance, and decides nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from tests.support.paired_spans import Request, spans_of, write_store
from traceai_vllm.release import Judgement, compare, decision_of, open_source, parse_policy
from traceai_vllm.release.formats import as_json
from traceai_vllm.release.report import report_html
from traceai_vllm.release.tables import print_tables

POLICY = "version: 1\nmeasures: {Groundedness: {margin: 0.3}}\nguard: [all]\n"


def judged(tmp_path: Path, different: float, by_chance: float, pairs: int = 200, error: str | None = None) -> Judgement:
    """Every pair has a repeat of the baseline; a share of the copies and of the repeats is another answer.

    ``error`` is that of the repeats that fail.
    """
    store = write_store(tmp_path / "spans", [])
    lines = []
    for place in range(pairs):
        candidate: dict[str, Any] = {"traceai.pair.same_answer": place >= different * pairs}
        if place < different * pairs:
            candidate |= {"traceai.pair.first_divergence": 7, "traceai.pair.top1_agreement": 0.9}
            candidate |= {"traceai.pair.kl_divergence": 0.02}
        request = Request(candidate=candidate, fails=(False, place < 0.1 * pairs))
        *others, copy = spans_of(place, request)
        repeat = {"traceai.pair.arm": "baseline_repeat", "traceai.pair.same_answer": place >= by_chance * pairs}
        fails: dict[str, Any] = {"gen_ai.evaluation.Groundedness.passed": place >= 0.04 * pairs}
        if error is not None and place < 0.04 * pairs:
            fails["error.type"] = error
        attributes = {**others[-1]["attributes"], **repeat, **fails}
        lines += [*others, copy, {**copy, "span_id": f"{place + 2**40:016x}", "attributes": attributes}]
    (store / "spans-00000000000000000002-1-test.jsonl").write_text("\n".join(map(json.dumps, lines)) + "\n")
    return Judgement(compare(open_source(store), parse_policy(POLICY)))


def test_what_is_chance_is_subtracted(tmp_path: Path) -> None:
    """Three in ten answers differ, but two in ten differ when the baseline is asked twice."""
    volume = judged(tmp_path, 0.3, 0.2).comparison.volume

    assert (volume.different.share, volume.different.by_chance) == (0.3, 0.2)
    assert volume.different.beyond_chance == pytest.approx(0.1)
    flips = volume.flips["Groundedness"]
    assert (flips.share, flips.by_chance) == (0.1, 0.04)
    assert flips.beyond_chance == pytest.approx(0.06)
    assert (volume.first_divergence, volume.top1_agreement) == (7, pytest.approx(0.9))
    assert (volume.kl_divergence, volume.with_logprobs) == (pytest.approx(0.02), 60)


def test_a_repeat_that_broke_off_is_no_chance(tmp_path: Path) -> None:
    """A time-out cut it, and what there was of it fails its evaluation: that hides nothing of the candidate's."""
    flips = judged(tmp_path, 0.3, 0.2, error="timeout").comparison.volume.flips["Groundedness"]

    assert (flips.repeats, flips.by_chance) == (192, 0.0)


def test_volume_decides_nothing(tmp_path: Path) -> None:
    """All answers differ, and none is worse: the decision does not change by a byte."""
    some, all_of_them = (judged(tmp_path / str(share), share, 0.2) for share in (0.3, 1.0))

    assert decision_of(some) == decision_of(all_of_them)


def test_a_person_and_a_pipeline_see_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """In the tables of `compare` and in the JSON of `gate`."""
    judgement = judged(tmp_path, 0.3, 0.2)

    print_tables(judgement, everything=False, console=Console(width=160))

    shown = capsys.readouterr().out
    assert "30.0%, of which 20.0% by chance (in 200 repeats of the baseline): 10.0% beyond it" in shown
    source = open_source(tmp_path / "spans")
    assert "10.0% beyond it" in report_html(judgement, decision_of(judgement), source, command="")
    content: dict[str, Any] = json.loads(as_json(judgement, decision_of(judgement)))
    assert content["volume"]["different_answers"]["beyond_chance"] == pytest.approx(0.1)


def test_without_repeats_chance_is_not_known(tmp_path: Path) -> None:
    """Nothing is subtracted that was not measured."""
    given = [Request(candidate={"traceai.pair.same_answer": place > 3}) for place in range(10)]
    store = write_store(tmp_path / "spans", given)

    volume = compare(open_source(store), parse_policy(POLICY)).volume

    assert volume.different.share == 0.4
    assert volume.different.beyond_chance is None
