"""Groundedness and HallucinationScore: does the context say what the answer says?"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from traceai_vllm.content.messages import context_documents
from traceai_vllm.evals.base import BaseEvaluator
from traceai_vllm.evals.errors import MissingInput
from traceai_vllm.evals.grounding.checker import FLAG, ClaimVerdict, embedded_checker, together
from traceai_vllm.evals.result import EvaluationResult, TextRange

if TYPE_CHECKING:
    from collections.abc import Iterable

_SHOWN = 4


class Checker(Protocol):
    """What finds the unsupported claims of an answer; the embedded one, or a model behind it."""

    def check(self, response: str, context: str, question: str | None = None) -> list[ClaimVerdict]:
        """Return a verdict for each claim."""


class _Grounded(BaseEvaluator):
    """What the two have in common.

    Args:
        checker: what judges the claims; by default the embedded one, which needs no download.
        threshold: the least score that passes.

    Raises:
        MissingExtra: a package of the embedded checker is not installed.
    """

    _good: ClassVar[str]
    _bad: ClassVar[tuple[str, str]]  # some claims unsupported, all of them

    def __init__(self, *, checker: Checker | None = None, threshold: float | None = None) -> None:
        super().__init__(threshold=threshold)
        self._checker: Checker = checker or embedded_checker()
        self.timeout_s = getattr(checker, "timeout_s", None)

    def evaluate(
        self,
        *,
        response: str,
        context: str | Mapping[str, Any] | Iterable[Any],
        question: str | None = None,
    ) -> EvaluationResult:
        """Check one answer against its context.

        Args:
            response: the text of the answer.
            context: the retrieved documents, one or several: strings, dictionaries with ``text`` or ``content``, or
                documents of LangChain or LlamaIndex.
            question: what was asked; words of it need no support.

        Raises:
            MissingInput: there is no context, so that nothing can be said; or no text to check.
        """
        text = _text(response, self.name)
        verdicts = self._checker.check(text, _joined(context, self.name), question)
        if not verdicts:
            return EvaluationResult(
                self.name, 1.0, self._good, self.threshold, "the answer claims nothing", _counts([])
            )
        score = round(1.0 - self._risk(verdicts), 4)
        return self._result(text, verdicts, score)

    @abstractmethod
    def _risk(self, verdicts: list[ClaimVerdict]) -> float:
        """Return the probability that an answer with these claims is unsupported."""

    def _result(self, text: str, verdicts: list[ClaimVerdict], score: float) -> EvaluationResult:
        flagged = [verdict for verdict in verdicts if verdict.unsupported >= FLAG]
        passed = score >= self.threshold
        if not passed and not flagged:  # many doubtful claims and no bad one: show the worst
            flagged = [max(verdicts, key=lambda verdict: verdict.unsupported)]
        label = self._good if passed else self._bad[len(flagged) == len(verdicts)]
        ranges = _ranges(flagged)
        details = {
            "claims": [{"start": v.start, "end": v.end, "unsupported": round(v.unsupported, 4)} for v in verdicts],
            **getattr(verdicts, "details", {}),  # what a checker has to say beside them, such as its cost
        }
        return EvaluationResult(
            self.name,
            score,
            label,
            self.threshold,
            _explained(text, flagged, len(verdicts)),
            _counts(verdicts),
            ranges,
            details,
        )


class Groundedness(_Grounded):
    """Score how well the context supports the answer, from 0 to 1.

    The answer is split into claims; each is laid against the context. The score is that of the worst claim, lowered by
    further doubtful ones. Labels: ``grounded``, ``partly_grounded``, ``ungrounded``.
    """

    name: ClassVar[str] = "Groundedness"
    _good = "grounded"
    _bad = ("partly_grounded", "ungrounded")

    def _risk(self, verdicts: list[ClaimVerdict]) -> float:
        return together(verdicts)


class HallucinationScore(_Grounded):
    """Score how sure it is that the answer has no unsupported claim: 1 is none, as in FutureAGI's ``fi.evals``.

    The score is that of the worst claim alone. Labels: ``no_hallucination``, ``hallucination``.
    """

    name: ClassVar[str] = "HallucinationScore"
    _good = "no_hallucination"
    _bad = ("hallucination", "hallucination")

    def _risk(self, verdicts: list[ClaimVerdict]) -> float:
        return max(verdict.unsupported for verdict in verdicts)


def _text(response: Any, name: str) -> str:
    if not isinstance(response, str):
        raise MissingInput(f"{name} needs the text of an answer, not {type(response).__name__}")
    if not response.strip():  # it claims nothing, and is no good answer: a variant that fell silent would look best
        raise MissingInput(f"{name} needs the text of an answer, and there is none")
    return response


def _joined(context: Any, name: str) -> str:
    documents = context if isinstance(context, (str, Mapping)) else list(context or ())
    parts = [document["content"] for document in context_documents(documents, "")]
    joined = "\n\n".join(part for part in parts if part)
    if not joined.strip():
        raise MissingInput(f"{name} needs context, and there is none")
    return joined


def _counts(verdicts: list[ClaimVerdict]) -> dict[str, int]:
    bad = sum(verdict.unsupported >= FLAG for verdict in verdicts)
    return {"claims": len(verdicts), "supported": len(verdicts) - bad, "unsupported": bad}


def _ranges(flagged: list[ClaimVerdict]) -> tuple[TextRange, ...]:
    spans = sorted((finding.start, finding.end) for verdict in flagged for finding in verdict.findings)
    if not spans:
        spans = sorted((verdict.start, verdict.end) for verdict in flagged)
    merged: list[TextRange] = []
    for start, end in spans:
        if merged and start <= merged[-1].end + 1:
            merged[-1] = TextRange(merged[-1].start, max(end, merged[-1].end))
        else:
            merged.append(TextRange(start, end))
    return tuple(merged)


def _explained(text: str, flagged: list[ClaimVerdict], claims: int) -> str:
    if not flagged:
        return f"the context supports {'the claim' if claims == 1 else f'all {claims} claims'}"
    said = [
        f'"{text[finding.start : finding.end]}" {finding.why}'
        for verdict in flagged
        for finding in (verdict.findings or ())
    ] or [f'"{text[verdict.start : verdict.end]}" is not supported' for verdict in flagged]
    more = f"; and {len(said) - _SHOWN} more" if len(said) > _SHOWN else ""
    return f"{len(flagged)} of {claims} claims unsupported: {'; '.join(said[:_SHOWN])}{more}"
