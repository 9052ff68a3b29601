"""What is looked at in a claim: how much of it the context says, in one place, in this order, with these names."""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from traceai_vllm.evals.grounding.numbers import Candidate, number_features, surroundings
from traceai_vllm.evals.grounding.words import NEGATIONS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from traceai_vllm.evals.grounding.claims import Span
    from traceai_vllm.evals.grounding.evidence import Evidence
    from traceai_vllm.evals.grounding.quantities import Quantity
    from traceai_vllm.evals.grounding.words import Words

#: Claims about the context itself, or that hold back: they assert little.
_META = re.compile(
    r"\b(passages?|context|documents?|text|article|sources?|information|provided|given)\b.{0,60}"
    r"\b(not|no|n't|unable|doesn't|don't|cannot|without|insufficient)\b|"
    r"\b(unable|cannot|can't|not possible|no (mention|information))\b.{0,60}"
    r"\b(answer|passages?|context|information|provided|given|mention)\b",
    re.I | re.S,
)
_STRONG = frozenset(
    """all every always never only must first last most least best worst entirely completely exactly immediately
    definitely certainly solely fully""".split()  # noqa: SIM905
)

CLAIM_FEATURES = (
    "exact",
    "soft",
    "best_sentence",
    "two_sentences",
    "pairs",
    "triples",
    "run",
    "worst_word",
    "lost_weight",
    "lost_names",
    "lost_name_share",
    "names_together",
    "number_worst",
    "number_sum",
    "numbers_absent",
    "negation",
    "strong",
    "length",
    "meta",
    "in_question",
    "lowest_three",
    "scatter",
    "position",
    "lost_rare",
)
# How each may move the probability that the claim is unsupported: 1 up, -1 down, 0 either way.
CLAIM_DIRECTIONS = (-1, -1, -1, -1, -1, -1, -1, 1, 1, 1, 1, -1, 1, 1, 1, 1, 1, 0, 0, 0, -1, 1, 0, 1)


@dataclass(slots=True)
class NumberView:
    """One number of a claim, its features, and the number of the context that may belong in its place."""

    quantity: Quantity
    features: list[float]
    rival: Candidate | None
    wrong: float = 0.0


@dataclass(slots=True)
class ClaimView:
    """One claim beside the context."""

    span: Span
    first: int
    last: int
    numbers: list[NumberView]
    told: list[int]
    near: list[float]
    values: dict[str, float]
    negation: int | None = None


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
        told = dict.fromkeys(stem for stem, weight in zip(words.stems, words.weights, strict=True) if weight > 0)
        stems = list(told)
        self._row = {stem: row for row, stem in enumerate(stems)}
        self._nearness = evidence.nearness(stems)
        self._near, self._by_sentence = self._nearness.best, self._nearness.by_sentence
        self._to_numbers: Any = evidence.around_numbers(self._nearness.each) if quantities else None
        self.claims = [self._claim(n, span, len(spans), quantities) for n, span in enumerate(spans)]

    def _claim(self, number: int, span: Span, count: int, quantities: Sequence[Quantity]) -> ClaimView:
        words = self.words
        first, last = _range(words, span)
        told = [index for index in range(first, last) if words.weights[index] > 0]
        rows = [self._row[words.stems[index]] for index in told]
        near = [float(self._near[row]) for row in rows]
        view = ClaimView(span, first, last, [], told, near, {})
        weights = [words.weights[index] for index in told]
        total = sum(weights) or 1.0
        by_sentence = self._by_sentence[rows].T @ weights / total if rows else None
        self._lexical(view, weights, total, by_sentence)
        self._order(view)
        self._named(view, rows)
        self._contradictions(view, by_sentence)
        view.values["position"] = number / max(1, count - 1)
        inside = [q for q in quantities if first <= q.core < last]
        view.numbers = [self._number(view, q, inside, by_sentence) for q in inside if not q.label]
        return view

    def _lexical(self, view: ClaimView, weights: list[float], total: float, by_sentence: Any) -> None:
        stems, near, values = self.words.stems, view.near, view.values
        known = self._evidence.stems
        lost = [weight * (1.0 - n) for weight, n in zip(weights, near, strict=True)]
        values["exact"] = sum(w for i, w in zip(view.told, weights, strict=True) if stems[i] in known) / total
        values["soft"] = 1.0 - sum(lost) / total
        best = float(by_sentence.max()) if by_sentence is not None and by_sentence.size else 0.0
        values["best_sentence"] = best
        values["two_sentences"] = self._two(view, weights, total, by_sentence)
        values["worst_word"] = max(lost, default=0.0)
        values["lost_weight"] = min(sum(lost), 12.0)
        values["lost_rare"] = float(sum(value > 0.75 for value in lost))
        lowest = sorted(near)[:3]
        values["lowest_three"] = sum(lowest) / len(lowest) if lowest else 1.0
        values["scatter"] = values["soft"] - best
        values["length"] = float(min(view.last - view.first, 60))
        asked = [stems[i] in self._question for i in view.told]
        values["in_question"] = sum(asked) / len(asked) if asked else 0.0

    def _two(self, view: ClaimView, weights: list[float], total: float, by_sentence: Any) -> float:
        """The share that the best sentence and the best one beside it cover together."""
        if by_sentence is None or not by_sentence.size:
            return 0.0
        rows = [self._row[self.words.stems[index]] for index in view.told]
        table = self._by_sentence[rows]
        with_best = table[:, [int(by_sentence.argmax())]]
        together = (table - with_best).clip(0) + with_best
        return float((together.T @ weights).max() / total)

    def _order(self, view: ClaimView) -> None:
        stems = self.words.stems[view.first : view.last]
        pairs = list(itertools.pairwise(stems))
        triples = list(zip(stems, stems[1:], stems[2:], strict=False))
        values = view.values
        values["pairs"] = sum(pair in self._evidence.pairs for pair in pairs) / max(1, len(pairs))
        in_context = [triple in self._evidence.triples for triple in triples]
        values["triples"] = sum(in_context) / max(1, len(triples))
        longest = run = 0
        for found in in_context:
            run = run + 1 if found else 0
            longest = max(longest, run)
        values["run"] = (longest + 2) / max(3, len(stems)) if longest else 0.0

    def _named(self, view: ClaimView, rows: list[int]) -> None:
        words, values = self.words, view.values
        places = [n for n, index in enumerate(view.told) if words.names[index]]
        lost = [n for n in places if view.near[n] < 1.0 and words.stems[view.told[n]] not in self._question]
        values["lost_names"] = float(min(len(lost), 8))
        values["lost_name_share"] = len(lost) / len(places) if places else 0.0
        if not places or not self._by_sentence.size:
            values["names_together"] = 1.0
            return
        table = self._by_sentence[[rows[n] for n in places]]
        values["names_together"] = float(table.mean(axis=0).max())

    def _contradictions(self, view: ClaimView, by_sentence: Any) -> None:
        words = self.words.lower[view.first : view.last]
        text = " ".join(words)
        view.values["meta"] = float(_META.search(text) is not None)
        if by_sentence is None or not by_sentence.size:
            view.values["negation"] = view.values["strong"] = 0.0
            return
        sentence = set(self._evidence.sentence_words(int(by_sentence.argmax())))
        best = float(by_sentence.max())
        denied = [n for n, word in enumerate(words) if word in NEGATIONS or word.endswith("n't")]
        denies = any(word in NEGATIONS or word.endswith("n't") for word in sentence)
        differ = bool(denied) != denies
        view.values["negation"] = best if differ else 0.0
        if differ:
            view.negation = view.first + denied[0] if denied else -1
        view.values["strong"] = float(sum(word in _STRONG and word not in sentence for word in words))

    def _number(self, view: ClaimView, quantity: Quantity, inside: Sequence[Quantity], by_sentence: Any) -> NumberView:
        coverage = [0.0] * len(self._evidence.firsts)
        if by_sentence is not None:
            for number, share in zip(self._evidence.owned, by_sentence.tolist(), strict=False):
                coverage[number] = share
        asked = any(quantity.same(each) for each in self._asked)
        around = surroundings(self.words, (view.first, view.last), quantity, inside)
        rows = [self._row[stem] for stem in around]
        near = list(around.values()) @ self._to_numbers[rows] / sum(around.values()) if rows else None
        row, rival = number_features(
            self.words,
            claim=(view.first, view.last),
            quantity=quantity,
            claim_quantities=inside,
            evidence=self._evidence,
            coverage=coverage,
            near=near.tolist() if near is not None else [0.0] * len(self._evidence.quantities),
            asked=asked,
        )
        return NumberView(quantity, row, rival)


def claim_row(view: ClaimView) -> list[float]:
    """Return the claim's features once its numbers have been judged."""
    wrong = [number.wrong for number in view.numbers]
    view.values["number_worst"] = max(wrong, default=0.0)
    view.values["number_sum"] = min(sum(wrong), 3.0)
    view.values["numbers_absent"] = float(min(3, sum(number.features[0] for number in view.numbers)))
    return [view.values[name] for name in CLAIM_FEATURES]


def _range(words: Words, span: Span) -> tuple[int, int]:
    inside = [index for index, (start, end) in enumerate(words.spans) if start >= span.start and end <= span.end]
    return (inside[0], inside[-1] + 1) if inside else (0, 0)
