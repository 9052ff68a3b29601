"""FutureAGI's ``fi.evals``, from the package ai-evaluation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from traceai_vllm.evals.adapters.base import Adapter, package, texts
from traceai_vllm.evals.errors import EvaluationError
from traceai_vllm.evals.untraced import untraced

if TYPE_CHECKING:
    from collections.abc import Sequence

    from traceai_vllm.evals.result import EvaluationResult

# Of inputs that do not fit a metric, `fi.evals` makes a completed result with score 0 and this as its reason.
_FAILED = ("input validation failed", "error", "failed", "evaluation failed")


class FutureAGIEvaluator(Adapter):
    """One metric of ``fi.evals``, computed in this process (``engine="local"``) unless told otherwise.

    Args:
        metric: its name, e.g. ``faithfulness`` or ``hallucination_score``.
        threshold: the least score that passes.
        lower_is_better: see :class:`~traceai_vllm.evals.adapters.base.Adapter`.
        **options: more arguments of ``fi.evals.evaluate``, e.g. ``engine`` or ``model``.

    Raises:
        MissingExtra: ai-evaluation is not installed.
    """

    def __init__(
        self, metric: str, *, threshold: float | None = None, lower_is_better: bool = False, **options: Any
    ) -> None:
        super().__init__(f"futureagi.{metric}", threshold=threshold, lower_is_better=lower_is_better)
        self._metric = metric
        self._options = {"engine": "local", **options}
        package("fi.evals", "ai-evaluation")

    def evaluate(
        self,
        *,
        response: str,
        context: str | Sequence[str] | None = None,
        question: str | None = None,
        schema: Any = None,
        expected: Any = None,
    ) -> EvaluationResult:
        """Evaluate; the inputs go by their names in ``fi.evals``: output, context, query and input, schema, expected.

        Raises:
            EvaluationError: the metric failed, which ``fi.evals`` may call a score of 0.
        """
        given = {
            "context": "\n\n".join(texts(context)) or None,
            "query": question,
            "input": question,
            "schema": schema,
            "expected_response": expected,
        }
        inputs = {name: value for name, value in given.items() if value is not None}
        with untraced():
            found = package("fi.evals", "ai-evaluation").evaluate(
                self._metric, output=response, **inputs, **self._options
            )
        reason = str(found.reason or "")
        if found.status != "completed" or found.error or reason.lower().startswith(_FAILED):
            raise EvaluationError(f"{self.name} failed: {type(found.error or found).__name__}")
        return self.result(found.score, reason=reason)
