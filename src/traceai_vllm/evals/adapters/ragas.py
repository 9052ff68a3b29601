"""Ragas."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

from traceai_vllm.evals.adapters.base import Adapter, expected_text, package, texts
from traceai_vllm.evals.errors import EvaluationError
from traceai_vllm.evals.untraced import untraced

if TYPE_CHECKING:
    from collections.abc import Sequence

    from traceai_vllm.evals.result import EvaluationResult


class RagasEvaluator(Adapter):
    """One metric of Ragas: of ``ragas.metrics.collections`` (``score(**inputs)``), or one that scores a single turn.

    Args:
        metric: the metric, with its language model if it needs one.
        threshold: the least score that passes.
        lower_is_better: as with ``NoiseSensitivity``; the score is then turned round.

    Raises:
        MissingExtra: ragas is not installed.
    """

    def __init__(self, metric: Any, *, threshold: float | None = None, lower_is_better: bool = False) -> None:
        package("ragas", "ragas")
        super().__init__(f"ragas.{metric.name}", threshold=threshold, lower_is_better=lower_is_better)
        self._metric = metric

    def evaluate(
        self,
        *,
        response: str,
        context: str | Sequence[str] | None = None,
        question: str | None = None,
        expected: Any = None,
    ) -> EvaluationResult:
        """Evaluate; the inputs are Ragas' ``response``, ``retrieved_contexts``, ``user_input`` and ``reference``.

        Raises:
            EvaluationError: the metric has no score from 0 to 1.
        """
        given = {
            "response": response,
            "retrieved_contexts": texts(context) or None,
            "user_input": question,
            "reference": expected_text(expected),
        }
        inputs = {name: value for name, value in given.items() if value is not None}
        with untraced():
            if hasattr(self._metric, "single_turn_score"):
                sample = package("ragas.dataset_schema", "ragas").SingleTurnSample(**inputs)
                return self.result(self._metric.single_turn_score(sample))
            found = self._metric.score(**{name: inputs[name] for name in self._wanted() if name in inputs})
        if found.value is None:
            raise EvaluationError(f"{self.name} has no score")
        return self.result(found.value, reason=found.reason)

    def _wanted(self) -> list[str]:
        return list(inspect.signature(self._metric.ascore).parameters)
