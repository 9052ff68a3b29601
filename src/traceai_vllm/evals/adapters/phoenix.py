"""Arize Phoenix: the package arize-phoenix-evals."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from traceai_vllm.evals.adapters.base import Adapter, expected_text, package, texts
from traceai_vllm.evals.errors import EvaluationError
from traceai_vllm.evals.untraced import untraced

if TYPE_CHECKING:
    from collections.abc import Sequence

    from traceai_vllm.evals.result import EvaluationResult


class PhoenixEvaluator(Adapter):
    """One evaluator of ``phoenix.evals``. Its score says itself whether lower is better (``direction``).

    Args:
        evaluator: the evaluator, with its language model if it needs one.
        threshold: the least score that passes.
        input_mapping: from the fields that it reads to ours: ``input`` (the question), ``output`` (the answer),
            ``context`` and ``expected``; only where their names differ.

    Raises:
        MissingExtra: arize-phoenix-evals is not installed.
    """

    def __init__(
        self, evaluator: Any, *, threshold: float | None = None, input_mapping: dict[str, str] | None = None
    ) -> None:
        package("phoenix.evals", "arize-phoenix-evals")
        super().__init__(f"phoenix.{evaluator.name}", threshold=threshold)
        self._evaluator = evaluator
        self._mapping = input_mapping

    def evaluate(
        self,
        *,
        response: str,
        context: str | Sequence[str] | None = None,
        question: str | None = None,
        expected: Any = None,
    ) -> EvaluationResult:
        """Evaluate.

        Raises:
            EvaluationError: the first score that came back is none from 0 to 1.
            Exception: what the evaluator raises, e.g. for an input that it needs.
        """
        given = {
            "output": response,
            "input": question,
            "context": "\n\n".join(texts(context)) or None,
            "expected": expected_text(expected),
        }
        inputs = {name: value for name, value in given.items() if value is not None}
        with untraced():
            scores = self._evaluator.evaluate(inputs, self._mapping)
        if not scores:
            raise EvaluationError(f"{self.name} has no score")
        first = scores[0]
        score = first.score
        if first.direction == "minimize" and isinstance(score, (int, float)):
            score = 1.0 - score
        return self.result(score, label=first.label, reason=first.explanation)
