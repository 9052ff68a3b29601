"""What is looked at in a claim: how much of it the context says, in one place, in this order, with these names."""

from __future__ import annotations

import itertools
from bisect import bisect_right
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from traceai_vllm.evals.grounding.anchors import Alike, Place, around
from traceai_vllm.evals.grounding.directions import back, turned
from traceai_vllm.evals.grounding.drafts import Draft, Told
from traceai_vllm.evals.grounding.names import Name, name_features, names
from traceai_vllm.evals.grounding.numbers import after, number_features
from traceai_vllm.evals.grounding.polarity import Contrast, contrast, denies
from traceai_vllm.evals.grounding.quantities import other_unit
from traceai_vllm.evals.grounding.words import TITLES

if TYPE_CHECKING:
    from collections.abc import Container, Iterator, Sequence

    from traceai_vllm.evals.grounding.anchors import Surroundings
    from traceai_vllm.evals.grounding.claims import Span
    from traceai_vllm.evals.grounding.evidence import Evidence
    from traceai_vllm.evals.grounding.quantities import Quantity
    from traceai_vllm.evals.grounding.tables import Placed
    from traceai_vllm.evals.grounding.words import Words

_T = TypeVar("_T")
_LOST_AT_MOST = 12.0
_SAME_PLACE = 0.5  # of a claim that a sentence of the context covers
_MOST_NAMES = 2_000_000  # of the answer times those of the context; more are not compared

#: Each feature, and how it may move the probability that the words of a claim are unsupported: 1 up, -1 down.
CLAIM_FEATURES = {
    "covered": -1,  # the share that the context has anywhere
    "lost": 1,  # how much it has not, by weight
    "lost_part": 1,  # the same for the worst few words in a row
    "weakest_part": -1,  # what the best sentence has of the worst few words in a row
    "bonds": -1,  # whether words next to each other stand in one sentence of the context too
    "both": -1,  # the share that two sentences in a row have
    "ordered": -1,  # the share that two sentences in a row have in this order
    "meaning": -1,  # how near the nearest sentence is in meaning
    "spread": 1,  # how far apart the sentences stand that come nearest to its words
    "lost_names": 1,
    "absent_numbers": 1,
}


@dataclass(slots=True)
class NumberView:
    """One number of a claim, its features, and the number of the context that may belong in its place."""

    quantity: Quantity
    features: list[float]
    rival: Quantity | None


@dataclass(slots=True)
class NameView:
    """One name of a claim, its features, and the words of the name that may belong in its place."""

    name: Name
    features: list[float]
    rival: str | None


class Contradiction(NamedTuple):
    """Words ``[first, last]`` of a claim that the context contradicts for certain, and why, as a clause."""

    first: int
    last: int
    why: str


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
        numbers: its numbers, without those that a table has for what the claim names.
        names: its names.
        contrast: what is denied in the claim and not in the context, or the other way round.
        contradictions: what needs no learned model.
    """

    span: Span
    first: int
    last: int
    told: list[int]
    near: list[float]
    features: list[float]
    numbers: list[NumberView]
    names: list[NameView]
    contrast: Contrast
    contradictions: list[Contradiction]


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
        self._quantities = quantities
        told = dict(itertools.compress(zip(words.stems, words.rows, strict=True), words.weights))
        self._row = {stem: row for row, stem in enumerate(told)}
        self._nearness = evidence.nearness(told)
        self._ids = evidence.numbered(words.stems)
        self._numbers_of_stems = evidence.numpy.array(self._ids, dtype=evidence.numpy.int64)
        answer = Told(evidence.numpy, words, self._row, self._nearness)
        drafts = [Draft(span, words, answer) for span in spans]
        numbers, named = self._numbers(drafts), self._named(drafts)
        meanings = self._meanings(drafts)
        self.claims = [self._claim(*each) for each in zip(drafts, numbers, named, meanings, strict=True)]

    def _meanings(self, drafts: list[Draft]) -> list[float]:
        weights = self._evidence.numpy.zeros((len(drafts), len(self._row)))
        for claim, draft in enumerate(drafts):
            for _, row, weight in draft.weighed:
                weights[claim, row] += weight
        found: list[float] = self._evidence.meaning(weights, self._nearness.vectors).tolist()
        return found

    def _claim(self, draft: Draft, numbers: list[NumberView], named: list[NameView], meaning: float) -> ClaimView:
        values = {
            **self._covered(draft),
            **self._said(draft),
            "meaning": meaning,
            "lost_names": self._lost_names(draft),
            "absent_numbers": float(min(3, sum(number.features[0] for number in numbers))),
        }
        features = [values[name] for name in CLAIM_FEATURES]
        # A number of a table that stands where it belongs needs no learned model.
        claim = (draft.first, draft.last)
        in_tables = self._evidence.tables.placed(self.words, claim, [each.quantity for each in numbers])
        doubtful = [each for each in numbers if each.quantity not in in_tables.right]
        found = contrast(self.words, (draft.first, draft.last), self._evidence, draft.covered)
        return ClaimView(
            draft.span,
            draft.first,
            draft.last,
            draft.told,
            draft.near,
            features,
            doubtful,
            named,
            found,
            list(self._contradictions(draft, numbers, named, in_tables)),
        )

    def _contradictions(
        self, draft: Draft, numbers: list[NumberView], named: list[NameView], in_tables: Placed
    ) -> Iterator[Contradiction]:
        words, evidence = self.words, self._evidence
        opposite = turned(words, (draft.first, draft.last), evidence, draft.covered)
        if opposite is not None:
            yield Contradiction(opposite, opposite, "is the opposite of what the context says")
        for one, other in back(words, [each.quantity for each in numbers], evidence):
            yield Contradiction(one.first, other.last, "goes the other way in the context")
        for quantity, said in in_tables.wrong:
            why = f"is not what the table gives for this; there it is {said}"
            yield Contradiction(quantity.first, quantity.last, why)
        for number in numbers:
            if number.features[0] and self._has_other_unit(draft, number.quantity):
                yield Contradiction(number.quantity.first, number.quantity.last, "has another unit in the context")
        for each in named:
            first, last = each.name
            if each.features[0] and first and words.lower[first - 1] in TITLES and not self._asked_for(each.name):
                yield Contradiction(first - 1, last, "is not in the context")

    def _has_other_unit(self, draft: Draft, quantity: Quantity) -> bool:
        """Whether the context says this with the number in another unit; not where the claim denies or repeats it."""
        evidence = self._evidence
        if denies(self.words, draft.first, draft.last) or any(quantity.same(each) for each in self._asked):
            return False
        there = {evidence.sentence_of(each.core) for each in evidence.quantities if other_unit(quantity, each)}
        covered = zip(evidence.owned, draft.covered.tolist(), strict=True)
        return any(sentence in there and share >= _SAME_PLACE for sentence, share in covered)

    def _asked_for(self, name: Name) -> bool:
        return all(self.words.stems[place] in self._question for place in range(name.first, name.last + 1))

    def _covered(self, draft: Draft) -> dict[str, float]:
        if not draft.told:
            return {"covered": 1.0, "lost": 0.0, "lost_part": 0.0, "weakest_part": 1.0, "bonds": 1.0}
        lost, lost_part, weakest_part = draft.parts()
        return {
            "covered": 1.0 - lost / draft.total,
            "lost": min(lost, _LOST_AT_MOST),
            "lost_part": lost_part,
            "weakest_part": weakest_part,
            "bonds": draft.bonds() if len(draft.covered) else 0.0,
        }

    def _said(self, draft: Draft) -> dict[str, float]:
        """How much of the claim one place of the context says, and how literally."""
        ids, evidence, sentences = self._ids[draft.first : draft.last], self._evidence, len(draft.covered)
        if not sentences:
            return {"both": 0.0, "ordered": 0.0, "spread": 0.0}
        both = draft.by_two()
        best = int(both.argmax())
        start, end = evidence.sentence(best)[0], evidence.sentence(min(best + 1, sentences - 1))[1]
        ordered = _in_order(ids, evidence.ids[start:end]) / max(1, len(ids))
        return {"both": float(both[best]), "ordered": ordered, "spread": draft.spread()}

    def _lost_names(self, draft: Draft) -> float:
        """How many names the context has not; those of the question are no claim of the answer's."""
        words = self.words
        lost = (
            words.named(index) and words.stems[index] not in self._question
            for index, found in zip(draft.told, draft.near, strict=True)
            if found < 1.0
        )
        return float(min(sum(lost), 8))

    def _place(self, draft: Draft, core: int, before: int, after: int, left_out: Container[int]) -> Place:
        return Place(around(draft.weighed, core, left_out), (draft.first, before, after, draft.last))

    def _alike(self, there: Surroundings, places: list[Place], covered: list[Any]) -> Alike:
        """How alike the places of numbers or names are to those of the context."""
        np, evidence = self._evidence.numpy, self._evidence
        weights = np.zeros((len(places), len(self._row)), dtype=np.float32)
        for index, place in enumerate(places):
            total = sum(place.around.values())
            for row, weight in place.around.items():
                weights[index, row] = weight / total
        said = np.zeros((len(places), len(evidence.firsts)))
        said[:, evidence.owned] = covered
        return there.alike(self._numbers_of_stems, places, weights @ there.near(self._nearness.each), said)

    def _numbers(self, drafts: list[Draft]) -> list[list[NumberView]]:
        """Lay the numbers of each claim against the numbers of the context."""
        words, evidence, np = self.words, self._evidence, self._evidence.numpy
        inside = _by_claim(drafts, self._quantities, [each.core for each in self._quantities])
        items = [(claim, each) for claim, several in enumerate(inside) for each in several]
        views: list[list[NumberView]] = [[] for _ in drafts]
        if not items:
            return views
        inside_numbers = {index for each in self._quantities for index in range(each.first, each.last + 1)}
        digits = inside_numbers.intersection(words.digits)
        places = [self._place(drafts[c], q.core, q.core - 1, after(words, q), digits) for c, q in items]
        compared = evidence.figures.compare([q for _, q in items])
        # A number that the claim gives as well, for something else, is no rival.
        owners = np.array([claim for claim, _ in items])
        given = np.zeros((len(drafts), compared.same.shape[1]), dtype=bool)
        np.logical_or.at(given, owners, compared.same)
        rows, rivals = number_features(
            np,
            words,
            [q for _, q in items],
            same=compared.same,
            others=compared.rivals & ~given[owners],
            alike=self._alike(evidence.by_numbers, places, [drafts[c].covered for c, _ in items]),
            same_unit=(compared.same & compared.unit).any(axis=1),
            repeated=[any(q.same(each) for each in inside[c] if each is not q) for c, q in items],
            asked=[any(q.same(each) for each in self._asked) for _, q in items],
        )
        for (claim, quantity), row, rival in zip(items, rows, rivals, strict=True):
            if not quantity.label:
                views[claim].append(NumberView(quantity, row, None if rival is None else evidence.quantities[rival]))
        return views

    def _named(self, drafts: list[Draft]) -> list[list[NameView]]:
        """Lay the names of each claim against the names of the context."""
        words, evidence, np = self.words, self._evidence, self._evidence.numpy
        found = names(words, evidence.name_stems)
        if len(found) * len(evidence.names) > _MOST_NAMES:
            found = []
        inside = _by_claim(drafts, found, [each.first for each in found])
        items = [(claim, each) for claim, several in enumerate(inside) for each in several]
        views: list[list[NameView]] = [[] for _ in drafts]
        if not items:
            return views
        places, covered, asked, shared = [], [], [], []
        for claim, name in items:
            draft, own = drafts[claim], range(name.first, name.last + 1)
            places.append(self._place(draft, name.last, name.first - 1, name.last + 1, own))
            covered.append(draft.covered_without(name.first, name.last))
            asked.append(self._asked_for(name))
            shared.append(evidence.sharing({self._ids[place] for place in own}))
        same = np.zeros((len(items), len(evidence.names)), dtype=bool)
        given = np.zeros((len(drafts), len(evidence.names)), dtype=bool)
        for index, ((claim, _), names_there) in enumerate(zip(items, shared, strict=True)):
            same[index, list(names_there)] = given[claim, list(names_there)] = True
        others = ~given.take([claim for claim, _ in items], axis=0)
        there = evidence.by_names.sentences.tolist()
        best = [evidence.best_sentence(each) for each in covered]
        rows, rivals = name_features(
            np,
            [name for _, name in items],
            same=same,
            others=others,
            alike=self._alike(evidence.by_names, places, covered),
            partly=[
                max(common.values(), default=0) / (name.last - name.first + 1)
                for common, (_, name) in zip(shared, items, strict=True)
            ],
            away=[
                min((abs(there[each] - at) for each in common), default=99)
                for common, at in zip(shared, best, strict=True)
            ],
            first=[name.first == drafts[claim].first for claim, name in items],
            asked=asked,
        )
        for (claim, name), row, rival in zip(items, rows, rivals, strict=True):
            views[claim].append(NameView(name, row, None if rival is None else evidence.written(rival)))
        return views


def _by_claim(drafts: list[Draft], items: Sequence[_T], at: Sequence[int]) -> list[list[_T]]:
    """Return the items of each claim.

    Args:
        drafts: the claims.
        items: things of the answer.
        at: the word at which each of them stands.
    """
    firsts = [draft.first for draft in drafts]
    inside: list[list[_T]] = [[] for _ in drafts]
    for item, index in zip(items, at, strict=True):
        claim = bisect_right(firsts, index) - 1
        if claim >= 0 and index < drafts[claim].last:
            inside[claim].append(item)
    return inside


def _in_order(one: list[int], two: list[int]) -> int:
    """Return the length of the longest common subsequence.

    Bit by bit: Hyyro 2004, "Bit-parallel LCS-length computation revisited".
    """
    places: dict[int, int] = {}
    for index, word in enumerate(one):
        places[word] = places.get(word, 0) | 1 << index
    mask = (1 << len(one)) - 1
    state = mask
    for match in filter(None, map(places.get, two)):
        shared = state & match
        state = ((state + shared) | (state - shared)) & mask
    return len(one) - state.bit_count()
