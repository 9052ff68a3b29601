"""Was wording lost that a route requires, such as a disclaimer?"""

from __future__ import annotations

from typing import TYPE_CHECKING

from traceai_vllm.evals.paired.answer import pairs, quoted
from traceai_vllm.evals.phrases import phrase
from traceai_vllm.evals.result import EvaluationResult, TextRange

if TYPE_CHECKING:
    from traceai_vllm.evals.paired.answer import Answer
    from traceai_vllm.evals.paired.settings import PairedSettings

NAME = "RequiredWording"


def check(baseline: Answer, candidate: Answer, settings: PairedSettings, route: str | None) -> EvaluationResult | None:
    """Score the share of required wordings of the baseline's answer that the candidate's has too.

    None where the route requires none, or the baseline has none of them.

    Labels: ``kept``, ``lost``.
    """
    lost: list[str] = []
    ranges: list[TextRange] = []
    had = 0
    for wording in settings.wordings(route):
        pattern = phrase(wording)
        found = pattern.search(baseline.text) if pattern else None
        if pattern is None or found is None:
            continue
        had += 1
        if not pattern.search(candidate.text):
            lost.append(wording)
            ranges.append(TextRange(*found.span()))
    if not had:
        return None
    counts = {"required": had, "lost": len(lost)}
    if not lost:
        return EvaluationResult(NAME, 1.0, "kept", 1.0, "the required wording is kept", counts)
    said = f"the candidate lost {', '.join(map(quoted, lost))}"
    details = {"baseline_ranges": pairs(ranges)}
    return EvaluationResult(NAME, round(1 - len(lost) / had, 4), "lost", 1.0, said, counts, details=details)
