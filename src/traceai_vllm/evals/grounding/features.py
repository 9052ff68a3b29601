"""What is looked at in a claim: how much of it the context says, in one place, in this order, with these names."""

from __future__ import annotations

import itertools
from bisect import bisect_left
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from traceai_vllm.evals.grounding.numbers import Candidate, number_features, surroundings
from traceai_vllm.evals.grounding.polarity import Contrast, contrast

if TYPE_CHECKING:
    from collections.abc import Sequence

    from traceai_vllm.evals.grounding.claims import Span
    from traceai_vllm.evals.grounding.evidence import Evidence
    from traceai_vllm.evals.grounding.quantities import Quantity
    from traceai_vllm.evals.grounding.words import Words

_LOST_AT_MOST = 12.0
_PART = 5  # telling words in a row

#: Each feature, and how it may move the probability that the words of a claim are unsupported: 1 up, -1 down.
CLAIM_FEATURES = {
    "covered": -1,  # the share that the context has anywhere
    "lost": 1,  # how much it has not, by weight
    "lost_part": 1,  # the same for the worst few words in a row
    "weakest_part": -1,  # what the best sentence has of the worst few words in a row
    "bonds": -1,  # whether words next to each other stand in one sentence of the context too
    "pairs": -1,  # the share of neighbours that are neighbours there
    "meaning": -1,  # how near the nearest sentence is in meaning
    "lost_names": 1,
    "absent_numbers": 1,
}


@dataclass(slots=True)
class NumberView:
    """One number of a claim, its features, and the number of the context that may belong in its place."""

    quantity: Quantity
    features: list[float]
    rival: Candidate | None


@dataclass(slots=True)
class ClaimView:
    """One claim beside the context.

    Attributes:
        span: its characters.
        first: its first word.
        last: the word after its last.
        told: its telling words, by index.
        near: how near the context comes to each of them.
        features: those of :data:`CLAIM_FEATURES`, in order.
        numbers: its numbers.
        contrast: what is denied in the claim and not in the context, or the other way round.
    """

    span: Span
    first: int
    last: int
    told: list[int]
    near: list[float]
    features: list[float]
    numbers: list[NumberView]
    contrast: Contrast


class AnswerView:
    """An answer's claims beside the context; features that need no learned model.

    Args:
        words: the answer's words.
        spans: its claims.
        quantities: its numbers.
        evidence: the context.
        question: the words of the question, or None.
        asked: the numbers of the question.
    """

    def __init__(
        self,
        words: Words,
        spans: Sequence[Span],
        quantities: Sequence[Quantity],
        evidence: Evidence,
        *,
        question: Words | None,
        asked: Sequence[Quantity],
    ) -> None:
        self.words = words
        self._evidence = evidence
        self._question = set(question.stems) if question else set()
        self._asked = asked
        self._starts = [start for start, _ in words.spans]
        told = dict.fromkeys(stem for stem, weight in zip(words.stems, words.weights, strict=True) if weight > 0)
        stems = list(told)
        self._row = {stem: row for row, stem in enumerate(stems)}
        self._nearness = evidence.nearness(stems)
        self._to_numbers: Any = evidence.around_numbers(self._nearness.each) if quantities else None
        self.claims = [self._claim(span, quantities) for span in spans]

    def _claim(self, span: Span, quantities: Sequence[Quantity]) -> ClaimView:
        words, np = self.words, self._evidence.numpy
        first, last = bisect_left(self._starts, span.start), bisect_left(self._starts, span.end)
        told = [index for index in range(first, last) if words.weights[index] > 0]
        rows = [self._row[words.stems[index]] for index in told]
        near = self._nearness.best[rows]
        weights = np.array([words.weights[index] for index in told])
        table = self._nearness.by_sentence[rows]
        coverage = weights @ table / (weights.sum() or 1.0)
        inside = [quantity for quantity in quantities if first <= quantity.core < last]
        numbers = [self._number((first, last), each, inside, coverage) for each in inside if not each.label]
        values = {
            **self._covered(near, weights, table),
            "pairs": self._pairs(first, last),
            "meaning": self._evidence.meaning([words.stems[index] for index in told], weights),
            "lost_names": self._lost_names(told, near),
            "absent_numbers": float(min(3, sum(number.features[0] for number in numbers))),
        }
        features = [values[name] for name in CLAIM_FEATURES]
        found = contrast(words, (first, last), self._evidence, coverage)
        return ClaimView(span, first, last, told, near.tolist(), features, numbers, found)

    def _covered(self, near: Any, weights: Any, table: Any) -> dict[str, float]:
        np = self._evidence.numpy
        if not len(near):
            return {"covered": 1.0, "lost": 0.0, "lost_part": 0.0, "weakest_part": 1.0, "bonds": 1.0}
        lost = weights * (1.0 - near)
        covered = 1.0 - float(lost.sum() / weights.sum())
        values = {"covered": covered, "lost": min(float(lost.sum()), _LOST_AT_MOST)}
        values["lost_part"] = float(_in_a_row(np, lost[:, None]).max())
        if not table.shape[1]:
            return values | {"weakest_part": 0.0, "bonds": 0.0}
        parts = _in_a_row(np, weights[:, None] * table).max(axis=1) / _in_a_row(np, weights[:, None])[:, 0]
        together = np.minimum(table[:-1], table[1:]) if len(table) > 1 else table
        return values | {"weakest_part": float(parts.min()), "bonds": float(together.max(axis=1).mean())}

    def _lost_names(self, told: list[int], near: Any) -> float:
        """How many names the context has not; those of the question are no claim of the answer's."""
        words = self.words
        lost = (
            words.named(index) and words.stems[index] not in self._question
            for index, found in zip(told, near, strict=True)
            if found < 1.0
        )
        return float(min(sum(lost), 8))

    def _pairs(self, first: int, last: int) -> float:
        pairs = [pair in self._evidence.pairs for pair in itertools.pairwise(self.words.stems[first:last])]
        return sum(pairs) / max(1, len(pairs))

    def _number(
        self, claim: tuple[int, int], quantity: Quantity, inside: Sequence[Quantity], coverage: Any
    ) -> NumberView:
        by_sentence = [0.0] * len(self._evidence.firsts)
        for number, share in zip(self._evidence.owned, coverage.tolist(), strict=True):
            by_sentence[number] = share
        around = surroundings(self.words, claim, quantity, inside)
        rows = [self._row[stem] for stem in around]
        near = list(around.values()) @ self._to_numbers[rows] / sum(around.values()) if rows else None
        row, rival = number_features(
            self.words,
            claim=claim,
            quantity=quantity,
            claim_quantities=inside,
            evidence=self._evidence,
            coverage=by_sentence,
            near=near.tolist() if near is not None else [0.0] * len(self._evidence.quantities),
            asked=any(quantity.same(each) for each in self._asked),
        )
        return NumberView(quantity, row, rival)


def _in_a_row(np: Any, values: Any) -> Any:
    """Return the column sums over each few rows that follow each other."""
    size = min(_PART, len(values))
    sums = np.cumsum(values, axis=0)
    sums[size:] = sums[size:] - sums[:-size]
    return sums[size - 1 :]
