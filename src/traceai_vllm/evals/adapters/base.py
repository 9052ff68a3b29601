"""What the adapters share."""

from __future__ import annotations

import importlib
import math
from typing import Any

from traceai_vllm.evals.base import BaseEvaluator
from traceai_vllm.evals.errors import EvaluationError, MissingExtra
from traceai_vllm.evals.result import EvaluationResult


def package(module: str, distribution: str) -> Any:
    """Import a module of another evaluation package.

    Raises:
        MissingExtra: it is not installed, or cannot be imported.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingExtra(
            f"this adapter needs {module}, which cannot be imported ({error}). Type: pip install {distribution}"
        ) from error


class Adapter(BaseEvaluator):
    """An evaluator of another package.

    Args:
        name: what results are called.
        threshold: the least score that passes.
        lower_is_better: whether the other's score is 0 for the best answer; it is then turned round.
    """

    timeout_s = 60.0  # most ask a language model, some more than once

    def __init__(self, name: str, *, threshold: float | None, lower_is_better: bool = False) -> None:
        super().__init__(threshold=threshold)
        self.name = name  # type: ignore[misc]  # one class for all evaluators of a package
        self._lower_is_better = lower_is_better

    def result(self, score: Any, *, label: Any = None, reason: Any = None) -> EvaluationResult:
        """Return a result of ours.

        Raises:
            EvaluationError: there is no score, or it is not from 0 to 1.
        """
        if isinstance(score, bool):
            score = float(score)
        if not isinstance(score, (int, float)) or not math.isfinite(score) or not 0.0 <= score <= 1.0:
            raise EvaluationError(f"{self.name} has no score from 0 to 1: {score!r}")
        better = 1.0 - score if self._lower_is_better else float(score)
        said = str(label) if label else ("pass" if better >= self.threshold else "fail")
        return EvaluationResult(self.name, better, said, self.threshold, str(reason or ""))


def texts(context: Any) -> list[str]:
    """Return context as a list of texts."""
    return [context] if isinstance(context, str) else [str(part) for part in context or ()]


def expected_text(expected: Any) -> str | None:
    """Return what is expected, where that is a text; in the span pipeline it is tool calls, of no text metric."""
    return expected if isinstance(expected, str) else None
