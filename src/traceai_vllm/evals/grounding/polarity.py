"""Does the claim deny what the context says, or say what the context denies?"""

from __future__ import annotations

import re
from bisect import bisect_left
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from traceai_vllm.evals.grounding.evidence import Evidence
    from traceai_vllm.evals.grounding.words import Words

_REACH = 5  # words after a denying one that it may deny
_BREAK = frozenset("but although though while whereas because which who if unless than only".split())  # noqa: SIM905
_SENTENCES = 3
# What an answer says about the context, or about what it does not know, denies nothing that the context says.
_ABOUT = re.compile(
    r"\b(?:passages?|context|documents?|text|articles?|sources?|information|provided|given|know|mention(?:ed)?)\b"
)

#: Each feature, and how it may move the probability that a claim says the opposite: 1 up, -1 down, 0 either.
POLARITY_FEATURES = {"agrees": -1, "opposes": 1, "lead": -1, "denies": 0}


class Contrast(NamedTuple):
    """How far a claim and the context deny the same things.

    Attributes:
        features: those of :data:`POLARITY_FEATURES`, in order.
        word: the claim's denying word, by index; None where the claim denies nothing.
    """

    features: list[float]
    word: int | None


def contrast(words: Words, claim: tuple[int, int], evidence: Evidence, coverage: Any) -> Contrast:
    """Compare what a claim denies with what the sentences nearest to it deny.

    Args:
        words: the answer's words.
        claim: the range of the claim's words.
        evidence: the context.
        coverage: how well each sentence of the context covers the claim.
    """
    denying = _denials(words, *claim)
    agrees = opposes = 0.0
    about = denying and _ABOUT.search(" ".join(words.lower[slice(*claim)]))
    if len(coverage) and not about:
        ours = denied(words, *claim) if denying else set()
        stems, weights = words.stems, words.weights
        said = {stems[i] for i in range(*claim) if weights[i] > 0 and i not in denying}
        for position in coverage.argsort()[::-1][:_SENTENCES].tolist():
            first, last = evidence.sentence(position)
            common = said.intersection(evidence.words.stems[first:last])
            if not common:
                continue
            here, there = ours & common, denied(evidence.words, first, last) & common
            differ = len(here ^ there) / len(here | there) if here or there else 0.0
            share = float(coverage[position])
            agrees, opposes = max(agrees, share * (1.0 - differ)), max(opposes, share * differ)
    features = [agrees, opposes, agrees - opposes, float(bool(denying))]
    return Contrast(features, denying[0] if denying else None)


def denied(words: Words, first: int, last: int) -> set[str]:
    """Return the stems within reach of a denying word, up to a comma or a word that begins another clause."""
    found: set[str] = set()
    for index in _denials(words, first, last):
        for place in range(index + 1, min(last, index + 1 + _REACH)):
            if words.lower[place] in _BREAK or len(words.gaps[place]) > 1:
                break
            found.add(words.stems[place])
    return found


def denies(words: Words, first: int, last: int) -> bool:
    """Return whether a range of words denies anything."""
    return bool(_denials(words, first, last))


def _denials(words: Words, first: int, last: int) -> list[int]:
    return words.denials[bisect_left(words.denials, first) : bisect_left(words.denials, last)]
