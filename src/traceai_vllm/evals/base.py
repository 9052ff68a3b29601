"""What an evaluator is, and what ours share.

Any object with a ``name`` and an ``evaluate`` method is an evaluator. ``evaluate`` takes what it needs as keyword
arguments, under the names of :data:`INPUTS`, and returns an :class:`EvaluationResult`, a number from 0 to 1, a
``bool``, or a mapping with ``score``.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol, runtime_checkable

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from traceai_vllm.evals.result import EvaluationResult

#: The inputs that the pipeline has to give, by the name under which an evaluator asks for them.
INPUTS: Mapping[str, str] = {
    "response": "the answer: text, or a message with tool calls",
    "context": "the retrieved documents, a string or a sequence of strings",
    "question": "the user's question",
    "schema": "the JSON schema that the answer must meet",
    "tools": "the tool definitions of the request",
    "tool_choice": "whether the request asks for a call, or of which tool",
    "expected": "the tool calls that are right",
    "baseline": "the baseline's answer to the same request",
    "finish_reason": "why generation ended, e.g. `stop` or `length`",
    "route": "the application's route",
}


@runtime_checkable
class Evaluator(Protocol):
    """Anything with a name and ``evaluate``."""

    @property
    def name(self) -> str:
        """The name of its scores; an attribute of the object or of its class."""

    def evaluate(self, *args: Any, **inputs: Any) -> Any:
        """Score one answer."""


class BaseEvaluator(ABC):
    """Base of the evaluators here: a threshold, and the asynchronous and batch forms.

    Args:
        threshold: the least score that passes, from 0 to 1; by default the evaluator's own.

    Attributes:
        needs: names of inputs without which the span pipeline does not ask this evaluator, though ``evaluate`` could
            do without.
        timeout_s: how long the span pipeline waits for an evaluation, in seconds, where that is longer than its own.
        reads_tool_calls: whether the span pipeline gives it an answer with tool calls as a message, and not as text.

    Raises:
        ValueError: the threshold is not from 0 to 1.
    """

    name: ClassVar[str]
    default_threshold: ClassVar[float] = 0.5
    reads_tool_calls: ClassVar[bool] = False
    timeout_s: float | None = None
    needs: tuple[str, ...] = ()

    def __init__(self, *, threshold: float | None = None) -> None:
        self.threshold = self.default_threshold if threshold is None else threshold
        if not 0.0 <= self.threshold <= 1.0:
            raise ValueError(f"the threshold of {self.name} must be from 0 to 1, not {self.threshold!r}")

    @abstractmethod
    def evaluate(self, *args: Any, **inputs: Any) -> EvaluationResult:
        """Score one answer; each evaluator names the inputs that it takes."""

    async def aevaluate(self, **inputs: Any) -> EvaluationResult:
        """Score one answer in a worker thread; the same arguments and result as :meth:`evaluate`."""
        return await asyncio.to_thread(self.evaluate, **inputs)

    def evaluate_batch(
        self, rows: Iterable[Mapping[str, Any]], *, errors: Literal["raise", "return"] = "raise"
    ) -> list[EvaluationResult | Exception]:
        """Score many answers, in order.

        Args:
            rows: the keyword arguments of :meth:`evaluate`, one mapping for each answer.
            errors: ``raise`` stops at the first evaluation that fails; ``return`` puts its exception in its place.
        """
        results: list[EvaluationResult | Exception] = []
        for row in rows:
            try:
                results.append(self.evaluate(**row))
            except Exception as error:
                if errors == "raise":
                    raise
                results.append(error)
        return results
