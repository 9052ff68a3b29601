"""The embedded checker: claims, their probabilities, and the words that are not supported."""

from __future__ import annotations

import functools
import json
import math
from dataclasses import dataclass, replace
from importlib import resources
from typing import TYPE_CHECKING, Any, NamedTuple

from traceai_vllm.evals.errors import UnusableInput
from traceai_vllm.evals.grounding.citations import without_citations
from traceai_vllm.evals.grounding.claims import claims
from traceai_vllm.evals.grounding.evidence import Evidence
from traceai_vllm.evals.grounding.features import AnswerView, ClaimView, NameView, NumberView
from traceai_vllm.evals.grounding.letters import composed, readable
from traceai_vllm.evals.grounding.markup import plain
from traceai_vllm.evals.grounding.quantities import quantities
from traceai_vllm.evals.grounding.trees import Linear, Trees
from traceai_vllm.evals.grounding.words import lexicon
from traceai_vllm.evals.notation import minus_before

if TYPE_CHECKING:
    from collections.abc import Iterator

    from traceai_vllm.evals.grounding.words import Words

WEIGHTS = "groundedness.json"
_MOST_WORDS = 50_000_000  # of the answer times those of the context
_MOST_NUMBERS = 500_000
FLAG = 0.5  # from this probability on a claim counts as unsupported
CERTAIN = 0.95  # how likely a claim is unsupported that the context contradicts in so many words
_UNLIKE = 0.35  # a word of which the context has nothing nearer is named
_SHARPNESS = 2.0  # how much the worst claim outweighs the others
# Both evaluators ask about one answer, and the answers of both variants have one context: the last few are kept.
_KEPT = 4
_MOST_KEPT = 200_000  # characters


@dataclass(frozen=True, slots=True)
class Finding:
    """Words of a claim that nothing supports: where they stand, and why, as a clause."""

    start: int
    end: int
    why: str


class Doubts(NamedTuple):
    """How likely each of these is wrong: a claim's words, each of its numbers and names, what it denies."""

    words: float
    numbers: list[float]
    names: list[float]
    polarity: float

    @property
    def most(self) -> float:
        """The greatest of them."""
        return max(self.words, self.polarity, *self.numbers, *self.names)


@dataclass(frozen=True, slots=True)
class ClaimVerdict:
    """One claim: where it stands, how likely it is unsupported, and if it seems so, which words."""

    start: int
    end: int
    unsupported: float
    findings: tuple[Finding, ...] = ()


def answer_view(response: str, context: str, question: str | None = None) -> AnswerView:
    """Return the features of an answer's claims, which need no learned weights.

    Raises:
        UnusableInput: the two are so large that it would take seconds and gigabytes.
    """
    known = lexicon()
    words, evidence = known.read(response), _evidence(context)
    figures = quantities(words)
    size = len(words.lower) * len(evidence.words.lower)
    if size > _MOST_WORDS or len(figures) * len(evidence.quantities) > _MOST_NUMBERS:
        there = f"an answer of {len(words.lower):,} words and a context of {len(evidence.words.lower):,}"
        raise UnusableInput(f"{there} are too large together")
    asked = known.read(readable(question)) if question else None
    return AnswerView(
        words,
        claims(response),
        figures,
        evidence,
        question=asked,
        asked=quantities(asked) if asked else [],
    )


def _evidence(context: str) -> Evidence:
    return _kept_evidence(context) if len(context) <= _MOST_KEPT else _read_evidence(context)


@functools.lru_cache(maxsize=_KEPT)
def _kept_evidence(context: str) -> Evidence:
    return _read_evidence(context)


def _read_evidence(context: str) -> Evidence:
    return Evidence(*plain(readable(context)), lexicon())


class EmbeddedChecker:
    """Lays an answer's claims against its context. Stateless after loading; safe to share between threads.

    Args:
        weights: the learned weights, as scripts/train_groundedness.py writes them; by default those of the package.
    """

    def __init__(self, weights: dict[str, Any] | None = None) -> None:
        self._given = weights
        self._weights = weights or packaged_weights()
        numpy = lexicon().numpy
        self._words = Trees(self._weights["words"], numpy)
        self._linear = Linear(self._weights["words_linear"], numpy)
        self._numbers = Trees(self._weights["numbers"], numpy)
        self._names = Trees(self._weights["names"], numpy)
        self._polarity = Trees(self._weights["polarity"], numpy)
        self._mix = {name: (mix["scale"], mix["offset"]) for name, mix in self._weights["mix"].items()}
        self._prior = float(self._weights["prior"])
        self._kept = functools.lru_cache(maxsize=_KEPT)(self._judged)

    def __reduce__(self) -> Any:
        # The stemmer is C memory: another process loads its own.
        return (embedded_checker, ()) if self._given is None else (EmbeddedChecker, (self._given,))

    @property
    def version(self) -> str:
        """The version of the weights."""
        return str(self._weights["version"])

    def check(self, response: str, context: str, question: str | None = None) -> list[ClaimVerdict]:
        """Return a verdict for each claim, in order; none where the answer claims nothing.

        Args:
            response: the answer.
            context: the documents, joined.
            question: what was asked; words of it need no support.
        """
        short = len(response) + len(context) <= _MOST_KEPT
        return list((self._kept if short else self._judged)(response, context, question))

    def _judged(self, response: str, context: str, question: str | None) -> list[ClaimVerdict]:
        text, origins = composed(response)
        # No answer that the weights were learned from cites its sources in this way.
        view = answer_view(without_citations(text), context, question)
        rows = [claim.features for claim in view.claims]
        words = zip(self._words.log_odds(rows), self._linear.log_odds(rows), strict=True)
        numbers = iter(self._numbers.log_odds([number.features for claim in view.claims for number in claim.numbers]))
        names = iter(self._names.log_odds([name.features for claim in view.claims for name in claim.names]))
        polarity = self._polarity.log_odds([claim.contrast.features for claim in view.claims])
        verdicts = [
            self._verdict(
                view.words,
                claim,
                Doubts(
                    self._believed("words", (tree + line) / 2),
                    [self._believed("numbers", next(numbers)) for _ in claim.numbers],
                    [self._believed("names", next(names)) for _ in claim.names],
                    self._believed("polarity", denial),
                ),
            )
            for claim, (tree, line), denial in zip(view.claims, words, polarity, strict=True)
        ]
        return verdicts if origins is None else [_moved(verdict, origins) for verdict in verdicts]

    def _verdict(self, words: Words, claim: ClaimView, doubts: Doubts) -> ClaimVerdict:
        """Any of the four makes a claim unsupported (noisy-or: Pearl 1988, section 4.3).

        Half of what they learned from is unsupported, and less of what models say is: the odds are moved by the ratio
        (Elkan 2001, "The Foundations of Cost-Sensitive Learning", theorem 2).
        """
        right = (1.0 - doubts.words) * (1.0 - doubts.polarity)
        for several in (doubts.numbers, doubts.names):
            right *= 1.0 - max(several, default=0.0)
        if claim.contradictions:
            right *= 1.0 - CERTAIN
        unsupported = probability(math.log((1.0 - right) / right) + self._prior)
        findings = tuple(_findings(words, claim, doubts)) if unsupported >= FLAG else ()
        return ClaimVerdict(claim.span.start, claim.span.end, unsupported, findings)

    def _believed(self, part: str, odds: float) -> float:
        scale, offset = self._mix[part]
        return probability(scale * odds + offset)


def _moved(verdict: ClaimVerdict, origins: list[int]) -> ClaimVerdict:
    """Return a verdict with the places of the text as it was given."""
    found = tuple(replace(each, start=origins[each.start], end=origins[each.end]) for each in verdict.findings)
    return replace(verdict, start=origins[verdict.start], end=origins[verdict.end], findings=found)


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


def _findings(words: Words, claim: ClaimView, doubts: Doubts) -> list[Finding]:
    """Name what is doubted, or if nothing is by itself, what is doubted most."""
    certain = [Finding(*words.characters(first, last), why) for first, last, why in claim.contradictions]
    flag = FLAG if certain else min(FLAG, doubts.most)
    numbers = zip(claim.numbers, doubts.numbers, strict=True)
    found = certain + [_number(words, number) for number, doubt in numbers if doubt >= flag]
    found += [_name(words, name) for name, doubt in zip(claim.names, doubts.names, strict=True) if doubt >= flag]
    if doubts.polarity >= flag:
        found.append(_denial(words, claim))
    if doubts.words >= flag:
        found.extend(_unlike(words, claim))
    return sorted(found or [Finding(*claim.span, "is not said by the context in this way")], key=lambda f: f.start)


def _unlike(words: Words, claim: ClaimView) -> Iterator[Finding]:
    taken = {index for number in claim.numbers for index in range(number.quantity.first, number.quantity.last + 1)}
    for index, near in zip(claim.told, claim.near, strict=True):
        if near <= _UNLIKE and index not in taken:
            yield Finding(*words.characters(index, index), "is not in the context")


def _denial(words: Words, claim: ClaimView) -> Finding:
    if claim.contrast.word is None:
        return Finding(*claim.span, "leaves out a denial that the context has")
    return Finding(*words.characters(claim.contrast.word, claim.contrast.word), "denies what the context says")


def _number(words: Words, number: NumberView) -> Finding:
    quantity = number.quantity
    start, end = words.characters(quantity.first, _last_word(words, quantity.last, quantity.unit))
    if quantity.value < 0:
        start -= minus_before(words.text, start)
    if number.features[0]:
        return Finding(start, end, "is not in the context")
    instead = f"; there it is {number.rival.value:g}" if number.rival else ""
    return Finding(start, end, f"is not what the context gives for this{instead}")


def _name(words: Words, name: NameView) -> Finding:
    start, end = words.characters(*name.name)
    if name.features[0]:
        return Finding(start, end, "is not in the context")
    instead = f"; there it may be {name.rival}" if name.rival else ""
    return Finding(start, end, f"may not be the name that the context gives for this{instead}")


def _last_word(words: Words, last: int, unit: str) -> int:
    """The noun counted is no part of the quantity, and yet belongs to what is named: `3 visits`."""
    return last + 1 if unit.startswith("noun:") and last + 1 < len(words.lower) else last
