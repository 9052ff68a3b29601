"""Adapters of other packages' evaluators. The packages themselves: `make compat-evals`."""

import subprocess
import sys
from types import ModuleType, SimpleNamespace

import pytest

from traceai_vllm.evals import EvaluationError, MissingExtra, run_evaluator
from traceai_vllm.evals.adapters import DeepEvalEvaluator, FutureAGIEvaluator, PhoenixEvaluator, RagasEvaluator


def pretend(monkeypatch, name, **contents):
    """Put a module in the place of one that is not installed here."""
    module = ModuleType(name)
    vars(module).update(contents)
    monkeypatch.setitem(sys.modules, name, module)


@pytest.mark.parametrize(
    ("make", "fix"),
    [
        (lambda: FutureAGIEvaluator("faithfulness"), "pip install ai-evaluation"),
        (lambda: RagasEvaluator(SimpleNamespace(name="m")), "pip install ragas"),
        (lambda: DeepEvalEvaluator(SimpleNamespace()), "pip install deepeval"),
        (lambda: PhoenixEvaluator(SimpleNamespace(name="m")), "pip install arize-phoenix-evals"),
    ],
)
def test_a_missing_package_is_named_with_the_line_to_type(monkeypatch, make, fix):
    for name in ("fi", "fi.evals", "ragas", "deepeval", "phoenix", "phoenix.evals"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MissingExtra, match=fix):
        make()


def test_nothing_of_them_is_imported_ahead():
    code = (
        "import sys, traceai_vllm.evals.adapters\n"
        "print([m for m in ('fi', 'ragas', 'deepeval', 'phoenix') if m in sys.modules])"
    )
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert printed.strip() == "[]"


def found(**fields):
    return SimpleNamespace(**{"score": 0.8, "reason": "it says so", "status": "completed", "error": None, **fields})


@pytest.mark.parametrize(
    "failure",
    [
        {"score": 0.0, "reason": "Input validation failed: 1 validation error for RAGInput"},
        {"status": "failed", "score": 0.0},
        {"error": "no network", "score": 0.0},
        {"score": None},
        {"score": 1.7},
        {"score": float("nan")},
    ],
)
def test_what_fi_evals_calls_a_score_of_zero_is_a_failure_here(monkeypatch, failure):
    pretend(monkeypatch, "fi")
    pretend(monkeypatch, "fi.evals", evaluate=lambda metric, **inputs: found(**failure))
    with pytest.raises(EvaluationError, match=r"futureagi\.groundedness"):
        FutureAGIEvaluator("groundedness").evaluate(response="After 90 days.")


def test_the_inputs_of_the_pipeline_reach_fi_evals(monkeypatch):
    asked = {}
    pretend(monkeypatch, "fi")
    pretend(monkeypatch, "fi.evals", evaluate=lambda metric, **inputs: asked.update(inputs, metric=metric) or found())
    inputs = {"response": "After 90 days.", "context": ["A", "B"], "question": "When?", "route": "claims"}
    result = run_evaluator(FutureAGIEvaluator("faithfulness", threshold=0.9), inputs)
    assert asked == {
        "metric": "faithfulness",
        "output": "After 90 days.",
        "context": "A\n\nB",
        "query": "When?",
        "input": "When?",
        "engine": "local",
    }
    assert (result.name, result.score, result.label, result.explanation) == (
        "futureagi.faithfulness",
        0.8,
        "fail",
        "it says so",
    )


def test_expected_tool_calls_are_no_text_that_is_expected(monkeypatch):
    """The calls of `tags(expected=[...])` are ToolSelectionAccuracy's; DeepEval and Ragas refuse them."""
    asked = []
    for name in ("deepeval", "phoenix", "phoenix.evals", "ragas"):
        pretend(monkeypatch, name)
    pretend(monkeypatch, "deepeval.test_case", LLMTestCase=lambda **inputs: asked.append(inputs["expected_output"]))
    metric = SimpleNamespace(score=1.0, reason="", measure=lambda case, **options: None)
    score = SimpleNamespace(score=1.0, label="", explanation="", direction="maximize")
    phoenix = SimpleNamespace(
        name="m", evaluate=lambda inputs, mapping: asked.append(inputs.get("expected")) or [score]
    )
    ragas = SimpleNamespace(
        name="m",
        ascore=lambda response, reference=None: None,
        score=lambda response, reference=None: asked.append(reference) or SimpleNamespace(value=1.0, reason=""),
    )
    for expected, told in (([{"name": "f", "arguments": {}}], None), ([], None), ("Oslo", "Oslo")):
        asked.clear()
        for evaluator in (DeepEvalEvaluator(metric), PhoenixEvaluator(phoenix), RagasEvaluator(ragas)):
            assert run_evaluator(evaluator, {"response": "Hi.", "expected": expected}).passed
        assert asked == [told] * 3


def test_a_lower_score_that_is_better_is_turned_round(monkeypatch):
    pretend(monkeypatch, "phoenix")
    pretend(monkeypatch, "phoenix.evals")
    score = SimpleNamespace(score=0.75, label="toxic", explanation="rude", direction="minimize")
    toxic = SimpleNamespace(name="toxicity", evaluate=lambda inputs, mapping: [score])
    assert PhoenixEvaluator(toxic).evaluate(response="Go away.").score == 0.25

    pretend(monkeypatch, "ragas")
    noise = SimpleNamespace(
        name="noise", ascore=lambda response: None, score=lambda response: SimpleNamespace(value=1.0, reason=None)
    )
    assert RagasEvaluator(noise, lower_is_better=True).evaluate(response="Yes.", context="No.").label == "fail"
