"""Call any evaluator, ours or the user's, with what a request has, and get a checked result."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from numbers import Real
from typing import TYPE_CHECKING, Any

from traceai_vllm.evals.coroutines import outcome_of
from traceai_vllm.evals.errors import EvaluationError, MissingInput
from traceai_vllm.evals.result import EvaluationResult

if TYPE_CHECKING:
    from traceai_vllm.evals.base import Evaluator

_DEFAULT_THRESHOLD = 0.5
_BOOLEANS = frozenset({"bool", "bool_"})  # NumPy's, of 2 and of 1: what comparing its numbers gives


def run_evaluator(evaluator: Evaluator, inputs: Mapping[str, Any]) -> EvaluationResult:
    """Evaluate with those of the inputs that the evaluator asks for.

    Args:
        evaluator: anything with a name and ``evaluate``; ``evaluate`` may be a coroutine function.
        inputs: what the request has, by the names of :data:`traceai_vllm.evals.base.INPUTS`.

    Raises:
        MissingInput: a required parameter of ``evaluate`` is not among the inputs.
        EvaluationError: what came back is no result, or its score is not from 0 to 1.
        Exception: whatever the evaluator raises.
    """
    returned = evaluator.evaluate(**_wanted(evaluator, inputs))
    if inspect.isawaitable(returned):
        returned = outcome_of(returned)
    return as_result(evaluator, returned)


def check_evaluator(evaluator: object) -> None:
    """Refuse what is no evaluator.

    Raises:
        TypeError: it has no name, or no ``evaluate``, or is a class; the message says what to give instead.
    """
    if isinstance(evaluator, type):
        raise TypeError(f"{evaluator.__name__} is a class, and an evaluator is an object: {evaluator.__name__}()")
    if not isinstance(getattr(evaluator, "name", None), str) or not callable(getattr(evaluator, "evaluate", None)):
        raise TypeError(f"an evaluator has a `name` and a method `evaluate(self, *, response)`, unlike {evaluator!r}")


def as_result(evaluator: Evaluator, returned: object) -> EvaluationResult:
    """Turn what an evaluator returned into a result: a result, a number, a bool, or a mapping with ``score``.

    Raises:
        EvaluationError: it is none of these, or the score is not from 0 to 1.
    """
    if isinstance(returned, EvaluationResult):
        if not isinstance(returned.label, str) or not isinstance(returned.explanation, str):
            raise EvaluationError(f"the label and the explanation of {evaluator.name} must be texts")
        return returned
    fields: dict[str, Any] = dict(returned) if isinstance(returned, Mapping) else {"score": returned}
    score = fields.get("score")
    if isinstance(score, bool) or type(score).__name__ in _BOOLEANS:
        score = float(bool(score))
    if not isinstance(score, Real):  # NumPy's numbers too
        raise EvaluationError(f"{evaluator.name} returned {type(returned).__name__} and not a result with a score")
    score = float(score)
    try:
        threshold = float(fields.get("threshold", getattr(evaluator, "threshold", _DEFAULT_THRESHOLD)))
        return EvaluationResult(
            name=evaluator.name,
            score=score,
            label=str(fields.get("label") or ("pass" if score >= threshold else "fail")),
            threshold=threshold,
            explanation=str(fields.get("explanation") or fields.get("reason") or ""),
        )
    except (TypeError, ValueError) as error:
        raise EvaluationError(str(error)) from error


def _wanted(evaluator: Evaluator, inputs: Mapping[str, Any]) -> dict[str, Any]:
    parameters = inspect.signature(evaluator.evaluate).parameters.values()
    given = {name: value for name, value in inputs.items() if value is not None}
    named = [p for p in parameters if p.kind in {p.KEYWORD_ONLY, p.POSITIONAL_OR_KEYWORD}]
    missing = [p.name for p in named if p.default is p.empty and p.name not in given]
    if missing:
        raise MissingInput(f"{evaluator.name} needs {' and '.join(missing)}, which this request does not have")
    if any(p.kind is p.VAR_KEYWORD for p in parameters):
        return given
    return {p.name: given[p.name] for p in named if p.name in given}
