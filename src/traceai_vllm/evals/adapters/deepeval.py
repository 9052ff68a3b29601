"""DeepEval."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from traceai_vllm.evals.adapters.base import Adapter, expected_text, package, texts
from traceai_vllm.evals.untraced import untraced

if TYPE_CHECKING:
    from collections.abc import Sequence

    from traceai_vllm.evals.result import EvaluationResult


class DeepEvalEvaluator(Adapter):
    """One metric of DeepEval. A metric keeps its last outcome, so one thread at a time uses it.

    Args:
        metric: the metric, with its language model if it needs one.
        threshold: the least score that passes; the metric's own when None.
        lower_is_better: before DeepEval 4, for Hallucination, Bias, Toxicity and Misuse; since then 1 is best for all.

    Raises:
        MissingExtra: deepeval is not installed.
    """

    def __init__(self, metric: Any, *, threshold: float | None = None, lower_is_better: bool = False) -> None:
        package("deepeval", "deepeval")
        own = getattr(metric, "threshold", None)
        super().__init__(
            f"deepeval.{type(metric).__name__.removesuffix('Metric')}",
            threshold=own if threshold is None else threshold,
            lower_is_better=lower_is_better,
        )
        self._metric = metric
        self._lock = threading.Lock()

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_lock": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _lock=threading.Lock())

    def evaluate(
        self,
        *,
        response: str,
        context: str | Sequence[str] | None = None,
        question: str | None = None,
        expected: Any = None,
    ) -> EvaluationResult:
        """Evaluate; context is both DeepEval's ``context`` and its ``retrieval_context``.

        Raises:
            EvaluationError: the metric has no score from 0 to 1.
            Exception: what the metric raises, e.g. for an input that it needs.
        """
        documents = texts(context) or None
        case = package("deepeval.test_case", "deepeval").LLMTestCase(
            input=question or "",
            actual_output=response,
            expected_output=expected_text(expected),
            context=documents,
            retrieval_context=documents,
        )
        with self._lock, untraced():
            self._metric.measure(case, _show_indicator=False)
            return self.result(self._metric.score, reason=self._metric.reason)
