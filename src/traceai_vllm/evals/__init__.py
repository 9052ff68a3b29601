"""Evaluators: a score for an answer, why, and where. They need neither vLLM nor a span.

    from traceai_vllm.evals import Groundedness

    result = Groundedness().evaluate(
        response="Plan B covers dental claims after 90 days.",
        context=["Plan B covers dental claims after 180 days."],
    )
    result.score  # low: 90 days is not supported

Higher is better for all of them, and an evaluation that fails raises: it is never a score.
"""

from traceai_vllm.evals.base import BaseEvaluator, Evaluator
from traceai_vllm.evals.calling import run_evaluator
from traceai_vllm.evals.errors import EvaluationError, MissingExtra, MissingInput, UnusableInput
from traceai_vllm.evals.groundedness import Groundedness, HallucinationScore
from traceai_vllm.evals.json_validation import JSONValidation
from traceai_vllm.evals.result import EvaluationResult, TextRange
from traceai_vllm.evals.tool_selection import ToolSelectionAccuracy

__all__ = [
    "BaseEvaluator",
    "EvaluationError",
    "EvaluationResult",
    "Evaluator",
    "Groundedness",
    "HallucinationScore",
    "JSONValidation",
    "MissingExtra",
    "MissingInput",
    "TextRange",
    "ToolSelectionAccuracy",
    "UnusableInput",
    "run_evaluator",
]
