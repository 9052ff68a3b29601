"""Runs the paired checks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from traceai_vllm.evals.base import BaseEvaluator
from traceai_vllm.evals.errors import MissingInput
from traceai_vllm.evals.paired import facts, form, language, looping, refusal, wording
from traceai_vllm.evals.paired.answer import answer_of
from traceai_vllm.evals.paired.settings import PairedSettings

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from traceai_vllm.evals.paired.answer import Answer
    from traceai_vllm.evals.result import EvaluationResult

    Check = Callable[[Answer, Answer, PairedSettings, str | None], EvaluationResult | None]

#: The checks by name, in the order in which they are made.
CHECKS: Mapping[str, Check] = {
    module.NAME: module.check for module in (refusal, wording, facts, language, form, looping)
}
_DEFAULTS = PairedSettings()


def run_paired_checks(
    baseline: Any, candidate: Any, settings: PairedSettings | None = None, *, route: str | None = None
) -> list[EvaluationResult]:
    """Compare two answers to one request.

    Args:
        baseline: the baseline's answer: its text; a message with ``content`` and ``tool_calls``; or an
            :class:`~traceai_vllm.evals.paired.Answer`.
        candidate: the candidate's, likewise.
        settings: what is looked for; the defaults when None.
        route: the route of the request, for the wordings that it requires.

    Returns:
        One result for each check that has something to compare, in the order of :data:`CHECKS`; a check without is left
        out, so that it does not count as passed. ``unsupported`` has ranges of the candidate's text,
        ``details["baseline_ranges"]`` of the baseline's, both in Unicode's form NFC. Two identical answers always pass.

    Raises:
        MissingInput: one of the answers is neither text nor a message.
    """
    settings = settings or _DEFAULTS
    before, after = (answer_of(given, settings.max_characters) for given in (baseline, candidate))
    results = (check(before, after, settings, route) for check in CHECKS.values())
    return [result for result in results if result is not None]


class PairedCheck(BaseEvaluator):
    """One paired check as an evaluator, for the span pipeline and wherever else evaluators go.

    Args:
        name: a name of :data:`CHECKS`.
        settings: what is looked for; the defaults when None.

    Raises:
        ValueError: there is no check of that name.
    """

    needs = ("baseline",)

    def __init__(self, name: str, settings: PairedSettings | None = None) -> None:
        if name not in CHECKS:
            raise ValueError(f"there is no paired check {name!r}; there are {', '.join(CHECKS)}")
        self.name = name  # type: ignore[misc]  # one class for all checks, so the name is the instance's
        self._settings = settings or _DEFAULTS
        super().__init__(threshold=1.0)

    def evaluate(self, *, response: Any, baseline: Any, route: str | None = None) -> EvaluationResult:
        """Compare an answer with the baseline's.

        Args:
            response: the candidate's answer: text, or a message.
            baseline: the baseline's.
            route: of the request.

        Raises:
            MissingInput: the check has nothing to compare in these two.
        """
        before, after = (answer_of(given, self._settings.max_characters) for given in (baseline, response))
        result = CHECKS[self.name](before, after, self._settings, route)
        if result is None:
            raise MissingInput(f"{self.name} has nothing to compare in these two answers")
        return result
