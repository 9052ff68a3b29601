"""What is measured of answers: by version of the prompt, between tokens, and what they cost."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from rich.console import Console

from tests.support.paired_spans import Draw, Request, requests, spans_of, write_store
from traceai_vllm.release import Comparison, Judgement, compare, decision_of, open_source, parse_policy
from traceai_vllm.release.formats import as_json
from traceai_vllm.release.tables import print_tables

PRICED = """
version: 1
measures: {errors: {margin: 0.1}}
guard: [all]
gains: [{measure: cost, at_least: 0.3}]
prices:
  m-bf16: {gpu_hour: 3.6, tokens_per_second: 1000, gpu_memory_gib: 140}
  m-int4: {input_per_million: 0.5, output_per_million: 2.0, gpu_memory_gib: 40}
"""


def compared(tmp_path: Path, given: list[Request], policy: str) -> Comparison:
    return compare(open_source(write_store(tmp_path / "spans", given)), parse_policy(policy))


def test_a_prompt_version_that_is_worse_is_named(tmp_path: Path) -> None:
    """The variant is fine with one version of the prompt, and not with the next."""

    def make(draw: Draw) -> Request:
        version = {"prompt_version": draw.one_of("v3", "v4")}
        worse = version["prompt_version"] == "v4"
        return Request(fails=draw.fails(0.02, 0.3 if worse else 0.02), baseline=dict(version), candidate=dict(version))

    policy = "version: 1\nmeasures: {Groundedness: {margin: 0.05}}\nguard: [prompt_version]\n"

    judgement = Judgement(compared(tmp_path, requests(700, make), policy))

    assert [cell.name for cell in judgement.regressed] == ["prompt_version=v4"]


def test_times_between_tokens_are_shown_for_median_and_tail(tmp_path: Path) -> None:
    """From the first token to the last, by the number of gaps between them."""
    comparison = compared(tmp_path, [Request(seconds=(1.0, 0.5)) for _ in range(30)], PRICED)

    for percent in (50, 95, 99):
        cell = comparison.cell((), f"inter_token.p{percent}")
        assert cell is not None
        assert (cell.baseline, cell.candidate) == (pytest.approx(0.9 / 49), pytest.approx(0.45 / 49))


def test_tokens_cost_what_the_policy_says_by_token_or_by_gpu_hour(tmp_path: Path) -> None:
    """50 tokens at 1000 a second of a GPU at 3.60 an hour, or 400 and 50 tokens at their prices."""
    comparison = compared(tmp_path, [Request() for _ in range(40)], PRICED)

    cell = comparison.cell((), "cost")

    assert cell is not None
    assert cell.baseline == pytest.approx(50 * 3.6 / 3600 / 1000)
    assert cell.candidate == pytest.approx((400 * 0.5 + 50 * 2.0) / 1e6)


def test_an_agents_task_costs_what_its_calls_cost_together(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Four calls in a trace: cost per trace beside cost per request, with the memory that the policy names."""
    spans = [span for place in range(40) for span in spans_of(place, Request())]
    for span in spans:
        span["trace_id"] = f"{(int(span['trace_id'], 16) - 1) // 4 + 1:032x}"
    store = write_store(tmp_path / "spans", [])
    (store / "spans-00000000000000000002-1-test.jsonl").write_text("\n".join(map(json.dumps, spans)) + "\n")
    comparison = compare(open_source(store), parse_policy(PRICED))
    judgement = Judgement(comparison)

    print_tables(judgement, everything=False, console=Console(width=160))

    request = comparison.cell((), "cost")
    assert request is not None
    assert comparison.cost_per_trace["baseline"] == pytest.approx(4 * request.baseline)
    assert request.evidence.clusters == 10
    content = json.loads(as_json(judgement, decision_of(judgement)))
    assert content["gpu_memory_gib"] == {"baseline": 140, "candidate": 40}
    shown = capsys.readouterr().out
    assert "cost per trace" in shown
    assert "140 GiB" in shown


def test_what_nothing_is_known_of_is_not_shown(tmp_path: Path) -> None:
    """No prices, no cost: a row of dashes helps nobody."""
    comparison = compared(tmp_path, [Request() for _ in range(5)], "version: 1\nmeasures: {errors: {margin: 0.1}}\n")

    assert comparison.cell((), "cost") is None
    assert comparison.cost_per_trace == {}
