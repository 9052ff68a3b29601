"""The embedded checker: claims, their probabilities, and the words that are not supported."""

from __future__ import annotations

import functools
import json
import math
from dataclasses import dataclass
from importlib import resources
from typing import TYPE_CHECKING, Any

from traceai_vllm.evals.grounding.claims import sentences
from traceai_vllm.evals.grounding.evidence import Evidence
from traceai_vllm.evals.grounding.features import AnswerView, ClaimView, NumberView, claim_row
from traceai_vllm.evals.grounding.quantities import quantities
from traceai_vllm.evals.grounding.trees import Linear, Trees
from traceai_vllm.evals.grounding.words import Lexicon, lexicon

if TYPE_CHECKING:
    from traceai_vllm.evals.grounding.words import Words

WEIGHTS = "groundedness.json"
_FLAG = 0.5
_UNLIKE = 0.35  # a word of which the context has nothing nearer is named
_SHARPNESS = 2.0  # how much the worst claim outweighs the others


@dataclass(frozen=True, slots=True)
class Finding:
    """Words of a claim that nothing supports: where they stand, and why, as a clause."""

    start: int
    end: int
    why: str


@dataclass(frozen=True, slots=True)
class ClaimVerdict:
    """One claim: where it stands, how likely it is unsupported, and if it seems so, which words."""

    start: int
    end: int
    unsupported: float
    findings: tuple[Finding, ...] = ()


class EmbeddedChecker:
    """Lays an answer's claims against its context. Stateless after loading; safe to share between threads.

    Args:
        weights: the learned weights, as scripts/train_groundedness.py writes them; by default those of the package.
    """

    def __init__(self, weights: dict[str, Any] | None = None) -> None:
        self._lexicon: Lexicon = lexicon()
        self._given = weights
        self._weights = weights or packaged_weights()
        numpy = self._lexicon.numpy
        self._numbers = Trees(self._weights["numbers"], numpy)
        self._claims = Trees(self._weights["claims"], numpy)
        self._linear = Linear(self._weights["claims_linear"], numpy)
        self._offset = float(self._weights["offset"])

    def __reduce__(self) -> Any:
        # The stemmer is C memory: another process loads its own.
        return (embedded_checker, ()) if self._given is None else (EmbeddedChecker, (self._given,))

    @property
    def version(self) -> str:
        """The version of the weights."""
        return str(self._weights["version"])

    def view(self, response: str, context: str, question: str | None = None) -> AnswerView:
        """Return the features of an answer's claims; what the training script starts from."""
        words = self._lexicon.read(response)
        asked = self._lexicon.read(question) if question else None
        return AnswerView(
            words,
            sentences(response),
            quantities(words),
            Evidence(context, self._lexicon),
            question=asked,
            asked=quantities(asked) if asked else [],
        )

    def check(self, response: str, context: str, question: str | None = None) -> list[ClaimVerdict]:
        """Return a verdict for each claim, in order; none where the answer claims nothing.

        Args:
            response: the answer.
            context: the documents, joined.
            question: what was asked; words of it need no support.
        """
        view = self.view(response, context, question)
        numbers = [number for claim in view.claims for number in claim.numbers]
        for number, wrong in zip(numbers, self._numbers.probabilities([n.features for n in numbers]), strict=True):
            number.wrong = wrong
        rows = [claim_row(claim) for claim in view.claims]
        odds = [
            (tree + line) / 2 + self._offset
            for tree, line in zip(self._claims.log_odds(rows), self._linear.log_odds(rows), strict=True)
        ]
        return [self._verdict(view.words, claim, value) for claim, value in zip(view.claims, odds, strict=True)]

    def _verdict(self, words: Words, claim: ClaimView, odds: float) -> ClaimVerdict:
        wrong = probability(odds)
        findings = tuple(_findings(words, claim)) if wrong >= _FLAG else ()
        return ClaimVerdict(claim.span.start, claim.span.end, wrong, findings)


def probability(odds: float) -> float:
    """Return the probability of log odds."""
    return 1.0 / (1.0 + math.exp(-max(-30.0, min(30.0, odds))))


def together(verdicts: list[ClaimVerdict]) -> float:
    """Return the probability that an answer is unsupported: that of its worst claim, raised by other doubtful ones."""
    odds = [math.log(v.unsupported / (1.0 - v.unsupported)) for v in verdicts]
    worst = max(odds)
    raised = math.log(sum(math.exp(_SHARPNESS * (value - worst)) for value in odds)) / _SHARPNESS
    return probability(worst + raised)


@functools.cache
def packaged_weights() -> dict[str, Any]:
    """Return the learned weights of the package."""
    file = resources.files("traceai_vllm.evals") / "data" / WEIGHTS
    loaded: dict[str, Any] = json.loads(file.read_text("utf-8"))
    return loaded


@functools.cache
def embedded_checker() -> EmbeddedChecker:
    """Return the process's checker; loaded at the first call."""
    return EmbeddedChecker()


def _findings(words: Words, claim: ClaimView) -> list[Finding]:
    found = [_number(words, number) for number in claim.numbers if number.wrong >= _FLAG]
    taken = {index for number in claim.numbers for index in range(number.quantity.first, number.quantity.last + 1)}
    for index, near in zip(claim.told, claim.near, strict=True):
        if near <= _UNLIKE and index not in taken:
            start, end = words.spans[index]
            found.append(Finding(start, end, "is not in the context"))
    if claim.negation is not None and not found:
        if claim.negation >= 0:
            start, end = words.spans[claim.negation]
            found.append(Finding(start, end, "denies what the context says"))
        else:
            found.append(Finding(*claim.span, "leaves out a denial that the context has"))
    if not found:
        found.append(Finding(*claim.span, "is not said by the context in this way"))
    return sorted(found, key=lambda finding: finding.start)


def _number(words: Words, number: NumberView) -> Finding:
    quantity = number.quantity
    start = words.spans[quantity.first][0]
    end = words.spans[_last_word(words, quantity.last, quantity.unit)][1]
    if number.features[0]:
        return Finding(start, end, "is not in the context")
    instead = f"; there it is {number.rival.quantity.value:g}" if number.rival else ""
    return Finding(start, end, f"is not what the context gives for this{instead}")


def _last_word(words: Words, last: int, unit: str) -> int:
    """The noun counted is no part of the quantity, and yet belongs to what is named: `3 visits`."""
    return last + 1 if unit.startswith("noun:") and last + 1 < len(words.spans) else last
