"""Scores that came after their spans were exported count like those on the spans."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.support.paired_spans import Draw, Request, requests, write_store
from traceai_vllm.cli.main import main
from traceai_vllm.evals.base import BaseEvaluator
from traceai_vllm.evals.pipeline.stored import evaluate_store
from traceai_vllm.evals.result import EvaluationResult
from traceai_vllm.evals.slices import SliceSettings
from traceai_vllm.release import Comparison, compare, open_source, parse_policy
from traceai_vllm.store.evaluations import EvaluationWriter

UNSCORED = {"gen_ai.evaluation.Groundedness.score": None, "gen_ai.evaluation.Groundedness.passed": None}
POLICY = "version: 1\nmeasures: {Politeness: {margin: 0.1}}\nguard: [all, slice]\n"


class Politeness(BaseEvaluator):
    """Passes answers that say please."""

    name = "Politeness"
    needs = ("response",)

    def evaluate(self, *, response: Any) -> EvaluationResult:
        return EvaluationResult(self.name, float("please" in str(response)), "", 0.5)


def said(text: str) -> dict[str, Any]:
    message = {"role": "assistant", "parts": [{"type": "text", "content": text}], "finish_reason": "stop"}
    asked = {"role": "user", "parts": [{"type": "text", "content": "may I?"}]}
    return {
        **UNSCORED,
        "gen_ai.output.messages": json.dumps([message]),
        "gen_ai.input.messages": json.dumps([asked]),
    }


def compared(store: Path, policy: str = POLICY) -> Comparison:
    return compare(open_source(store), parse_policy(policy))


def test_scores_and_slices_of_evaluate_are_compared(tmp_path: Path) -> None:
    """`traceai-vllm evaluate STORE` scores what is stored; the gate reads it, also the cohort slices found then."""

    def make(draw: Draw) -> Request:
        return Request(baseline=said("yes, please"), candidate=said(draw.one_of("yes, please", "no")))

    store = write_store(tmp_path / "spans", requests(60, make))

    evaluate_store(store, [Politeness()], slices=SliceSettings(regulated_routes=["support"]))

    comparison = compared(store)
    cell = comparison.cell((), "Politeness")
    assert cell is not None
    assert cell.baseline == 0
    assert cell.candidate > 0.3
    assert cell.verdict == "regressed"
    regulated = comparison.cell((("slice", "regulated"),), "Politeness")
    assert regulated is not None
    assert regulated.evidence.pairs == 60


def test_paired_checks_are_compared_and_their_noise_is_subtracted(tmp_path: Path) -> None:
    """`evaluate --paired` scores the candidate and the baseline's repeats; both are read."""

    def make(draw: Draw) -> Request:
        refused = draw.one_of(True, False)
        answer = "I cannot help with that request." if refused else "The limit is 40 euros for each of the claims."
        return Request(baseline=said("The limit is 40 euros for each of the claims."), candidate=said(answer))

    store = write_store(tmp_path / "spans", requests(40, make))

    assert main(["evaluate", str(store), "--paired", "--evaluators", "JSONValidation"]) == 0

    policy = "version: 1\nmeasures: {RefusalAgreement: {margin: 0.1}}\nguard: [all]\n"
    cell = compared(store, policy).cell((), "RefusalAgreement")
    assert cell is not None
    assert cell.verdict == "regressed"
    assert (cell.baseline, cell.better) == (0, 0)


def test_a_score_of_an_evaluator_is_evidence_when_it_comes(tmp_path: Path) -> None:
    """Late scores enter in order of arrival, whatever the order of the answers; the age of evidence is the answers'."""
    store = write_store(tmp_path / "spans", [Request(baseline=UNSCORED, candidate=UNSCORED) for _ in range(3)])
    with EvaluationWriter(store) as writer:
        for place in (2, 0, 1):
            ids = [(f"{place + 1:032x}", f"{place * 8 + 2 + arm:016x}") for arm in (0, 1)]
            fails = place == 2
            writer.write(
                {
                    "trace_id": trace_id,
                    "span_id": span_id,
                    "evaluator": "Politeness",
                    "status": "ok",
                    "score": float(not fails),
                    "passed": not fails,
                }
                for trace_id, span_id in ids
            )

    comparison = compared(store)

    assert comparison.frame.values["c:Politeness:fail"].tolist() == [1, 0, 0]
    assert comparison.end_ns is not None
    assert comparison.end_ns < 1_700_000_010 * 10**9


def test_lines_that_are_no_evaluations_are_reported(tmp_path: Path) -> None:
    """A writer that was killed leaves half a line: it is skipped, and said."""
    store = write_store(tmp_path / "spans", [Request() for _ in range(3)])
    (store / "evaluations-00000000000000000001-1-test.jsonl").write_text('{"trace_id": "00')

    problems = open_source(store).problems

    assert any("1 lines are no evaluations" in problem for problem in problems)
