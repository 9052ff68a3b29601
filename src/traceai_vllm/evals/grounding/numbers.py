"""Is each number of a claim the one that the context gives for *that*? The hard case is a number from elsewhere in it.

Each number of the claim is compared with every number of the context that could stand for it, by the words around the
two: if a *different* number sits in the more similar surroundings, the claim has swapped it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from traceai_vllm.evals.grounding.evidence import Evidence
    from traceai_vllm.evals.grounding.quantities import Quantity
    from traceai_vllm.evals.grounding.words import Words

_REACH = 12
_FADE = 4.0

#: Each feature, and how it may move the probability of a wrong number: 1 up, -1 down, 0 either.
NUMBER_FEATURES = {
    "absent": 1,
    "absent_unit": 1,
    "same_near": -1,
    "other_near": 1,
    "lead": -1,
    "same_run": -1,
    "other_run": 1,
    "run_lead": -1,
    "same_left": -1,
    "other_left": 1,
    "same_right": -1,
    "other_right": 1,
    "same_sentence": -1,
    "other_sentence": 1,
    "sentence_lead": -1,
    "occurrences": -1,
    "others": 0,
    "has_unit": 0,
    "spelled": 0,
    "is_year": 0,
    "repeated": 0,
    "asked": 0,
}


@dataclass(slots=True)
class Candidate:
    """A number of the context beside one of the claim: how much their surroundings are alike."""

    quantity: Quantity
    near: float
    run: int
    left: float
    right: float
    sentence: float


def number_features(
    words: Words,
    *,
    claim: tuple[int, int],
    quantity: Quantity,
    claim_quantities: Sequence[Quantity],
    evidence: Evidence,
    coverage: Sequence[float],
    near: Sequence[float],
    asked: bool,
) -> tuple[list[float], Candidate | None]:
    """Return the features of one number of a claim, and the number of the context that it may have been swapped for.

    Args:
        words: the answer's words.
        claim: the range of the claim's words.
        quantity: the number.
        claim_quantities: all numbers of the claim.
        evidence: the context.
        coverage: how well each sentence of the context covers the claim, by the sentence's number.
        near: how alike the surroundings of each number of the context are.
        asked: whether the question has the number.
    """
    same, other = _candidates(
        words,
        claim=claim,
        quantity=quantity,
        claim_quantities=claim_quantities,
        evidence=evidence,
        coverage=coverage,
        nearness=near,
    )
    best = max(same, key=_rank, default=None)
    rival = max(other, key=_rank, default=None)
    unit_same = any(c.quantity.unit == quantity.unit for c in same)
    s = best or Candidate(quantity, 0.0, 0, 0.0, 0.0, 0.0)
    o = rival or Candidate(quantity, 0.0, 0, 0.0, 0.0, 0.0)
    s_run = max((c.run for c in same), default=0)
    o_run = max((c.run for c in other), default=0)
    s_sentence = max((c.sentence for c in same), default=0.0)
    o_sentence = max((c.sentence for c in other), default=0.0)
    row = [
        float(best is None),
        float(best is None or not unit_same),
        s.near,
        o.near,
        s.near - o.near,
        float(s_run),
        float(o_run),
        float(s_run - o_run),
        s.left,
        o.left,
        s.right,
        o.right,
        s_sentence,
        o_sentence,
        s_sentence - o_sentence,
        float(min(len(same), 5)),
        float(min(len(other), 20)),
        float(bool(quantity.unit)),
        float(words.lower[quantity.core][0].isalpha()),
        float(1900 <= quantity.value <= 2100 and not quantity.unit),
        float(sum(quantity.same(each) for each in claim_quantities) > 1),
        float(asked),
    ]
    return row, rival


def _rank(candidate: Candidate) -> float:
    return candidate.near + 0.15 * candidate.run + 0.2 * candidate.sentence


def surroundings(
    words: Words, claim: tuple[int, int], quantity: Quantity, others: Sequence[Quantity]
) -> dict[str, float]:
    """Return the telling stems round a number in its claim, with their weight: less the further away."""
    found: dict[str, float] = {}
    numbers = {index for each in others for index in range(each.first, each.last + 1)}
    for index in range(max(claim[0], quantity.core - _REACH), min(claim[1], quantity.core + _REACH + 1)):
        weight = words.weights[index]
        if weight and (index not in numbers or not words.lower[index][0].isdecimal()) and index != quantity.core:
            weight /= 1.0 + abs(index - quantity.core) / _FADE
            stem = words.stems[index]
            found[stem] = max(found.get(stem, 0.0), weight)
    return found


def _candidates(
    words: Words,
    *,
    claim: tuple[int, int],
    quantity: Quantity,
    claim_quantities: Sequence[Quantity],
    evidence: Evidence,
    coverage: Sequence[float],
    nearness: Sequence[float],
) -> tuple[list[Candidate], list[Candidate]]:
    same: list[Candidate] = []
    other: list[Candidate] = []
    elsewhere = [each for each in claim_quantities if each is not quantity]
    figures = {figure for each in elsewhere for figure in (each.value, each.amount)}  # most have none in common: quick
    for found, near in zip(evidence.quantities, nearness, strict=True):
        equal = quantity.same(found)
        if not equal:
            # A number that the claim gives as well, for something else, is no rival.
            if not quantity.comparable(found) and not _nouns(quantity, found):
                continue
            given = found.value in figures or found.amount in figures
            if given and any(each.same(found) for each in elsewhere):
                continue
        run, left, right = _run(words, claim, quantity, evidence.words, found)
        sentence = coverage[evidence.sentence_of(found.core)]
        (same if equal else other).append(Candidate(found, near, run, left, right, sentence))
    return same, other


def _nouns(one: Quantity, two: Quantity) -> bool:
    return one.unit.startswith("noun:") and two.unit.startswith("noun:")


def _run(
    words: Words, claim: tuple[int, int], quantity: Quantity, context: Words, found: Quantity
) -> tuple[int, float, float]:
    """How many words in a row are the same on both sides of the two numbers, and whether the next on each side is."""
    ours, theirs = words.stems, context.stems
    left = right = 0
    i, j = quantity.core - 1, found.core - 1
    while i >= claim[0] and j >= 0 and left < 6 and ours[i] == theirs[j]:
        i, j, left = i - 1, j - 1, left + 1
    i = quantity.core + 1 if words.lower[quantity.core][0].isdecimal() else _after(words, quantity)
    j = found.core + 1 if context.lower[found.core][0].isdecimal() else _after(context, found)
    while i < claim[1] and j < len(theirs) and right < 6 and ours[i] == theirs[j]:
        i, j, right = i + 1, j + 1, right + 1
    return left + right, float(left > 0), float(right > 0)


def _after(words: Words, quantity: Quantity) -> int:
    """The word after the number itself; its unit may be part of the quantity and is compared too."""
    index = quantity.core + 1
    while words.lower[quantity.core][0].isalpha() and index <= quantity.last and index < len(words.lower):
        index += 1
    return index
