"""The examples that ``train_groundedness.py`` learns from: labelled answers, and changed copies of supported ones."""

from __future__ import annotations

import hashlib
import json
import random
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from traceai_vllm.evals.grounding.checker import answer_view
from traceai_vllm.evals.grounding.names import names
from traceai_vllm.evals.grounding.words import lexicon

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from traceai_vllm.evals.grounding.features import AnswerView

# How much each set weighs. HaluEval's answers come from one model told to hallucinate: it says little about others.
SETS = {
    "groundedness_ragtruth": 1.0,
    "groundedness_numswap": 1.0,
    "groundedness_numswap_incontext": 1.0,
    "groundedness_wice": 1.0,
    "halueval_dialogue": 0.0,
    "halueval_summarization": 0.3,
}
CHANGED_TOO = ("groundedness_ragtruth", "groundedness_wice", "halueval_summarization")
FOLDS = 5
_NUMBER = re.compile(r"\d+(?:,\d{3})*(?:\.\d+)?")
_AFFIRMS = re.compile(
    r"\b(?:is|are|was|were|can|could|will|would|has|have|had|should|does|did|may)\b(?!\s+not|n't)", re.I
)
_DENIES = re.compile(r"\s+not\b|n't\b", re.I)


@dataclass
class Example:
    """One answer with its claims, as features.

    Attributes:
        set: the file that it is from.
        row: the line of the file.
        bad: whether anything in it is unsupported.
        made: what of it we changed: `numbers`, `names`, `polarity` or nothing.
        view: its features.
        claims: for each claim whether it is unsupported; -1 where nobody knows.
        figures: the same for each of its numbers.
        named: the same for each of its names.
        fold: in which part of the data it is.
    """

    set: str
    row: dict[str, Any]
    bad: bool
    made: str
    view: AnswerView
    claims: list[int]
    figures: list[int]
    named: list[int]
    fold: int


def read_all(folder: Path) -> Iterator[Example]:
    """Yield every answer, and changed copies of the supported ones."""
    seed = random.Random(7)
    for name in SETS:
        for line in (folder / f"{name}.jsonl").read_text("utf-8").splitlines():
            row = json.loads(line)
            yield from _example(name, row, "")
            if name in CHANGED_TOO and not row["label_hallucinated"]:
                for changed in _swapped(row, seed):
                    yield from _example(name, changed, "numbers")
                for changed in _denied(row, seed):
                    yield from _example(name, changed, "polarity")
                for changed in _renamed(row, seed):
                    yield from _example(name, changed, "names")


def _example(name: str, row: dict[str, Any], made: str) -> Iterator[Example]:
    view = answer_view(row["response"], row["context"], row.get("question"))
    if not view.claims:
        return
    bad, spans = bool(row["label_hallucinated"]), row.get("spans") or []
    claims = [_label(claim.span, bad, spans, len(view.claims)) for claim in view.claims]
    judge = _judge(name, bad, made, spans)
    figures = [judge(_span(view, n.quantity.first, n.quantity.last)) for claim in view.claims for n in claim.numbers]
    named = [judge(_span(view, n.name.first, n.name.last)) for claim in view.claims for n in claim.names]
    yield Example(name, row, bad, made, view, claims, figures, named, _fold(row["context"]))


def _judge(name: str, bad: bool, made: str, spans: list[list[int]]) -> Callable[[tuple[int, int]], int]:
    """Return what says whether a number or name is wrong: 0, 1, or -1 where nobody knows."""
    if name == "halueval_dialogue":
        return lambda span: -1
    if not bad:
        return lambda span: 0
    if spans and (made in {"numbers", "names"} or "numswap" in name):
        return lambda span: int(_touches(span, spans))
    return lambda span: -1


def _span(view: AnswerView, first: int, last: int) -> tuple[int, int]:
    return view.words.characters(first, last)


def _label(span: tuple[int, int], bad: bool, spans: list[list[int]], claims: int) -> int:
    if not bad:
        return 0
    if spans:
        return int(_touches(span, spans))
    return 1 if claims == 1 else -1


def _touches(span: tuple[int, int], spans: list[list[int]]) -> bool:
    return any(start < span[1] and end > span[0] for start, end in spans)


def _fold(context: str) -> int:
    """Answers with one context stay together."""
    return int(hashlib.sha256(context.strip()[:400].encode()).hexdigest(), 16) % FOLDS


def _swapped(row: dict[str, Any], seed: random.Random) -> Iterator[dict[str, Any]]:
    """Yield the answer with one of its numbers changed, for up to two of them."""
    text = row["response"]
    inside = list(dict.fromkeys(match[0] for match in _NUMBER.finditer(row["context"])))
    places = [match for match in _NUMBER.finditer(text) if match[0] in inside and text[: match.start()].strip()]
    for match in seed.sample(places, min(2, len(places))):
        others = [number for number in inside if number != match[0]]
        new = seed.choice(others) if others and seed.random() < 0.7 else str(seed.randint(2, 99))
        if new != match[0]:
            yield _changed(row, match.span(), new)


def _denied(row: dict[str, Any], seed: random.Random) -> Iterator[dict[str, Any]]:
    """Yield the answer with one verb denied, or one denial taken out."""
    text = row["response"]
    places = [(match, match[0] + " not") for match in _AFFIRMS.finditer(text)]
    places = [(match, "") for match in _DENIES.finditer(text)] or places
    for match, new in seed.sample(places, min(1, len(places))):
        yield _changed(row, match.span(), new)


def _renamed(row: dict[str, Any], seed: random.Random) -> Iterator[dict[str, Any]]:
    """Yield the answer with one of its names changed to another of the context, for up to two of them."""
    known = lexicon()
    answer, context = known.read(row["response"]), known.read(row["context"])
    inside = {}
    for each in names(context):
        key = frozenset(context.stems[each.first : each.last + 1])
        inside[key] = context.text[slice(*context.characters(*each))]
    stems = {stem for each in inside for stem in each}
    given = names(answer, stems)
    taken = {stem for each in given for stem in answer.stems[each.first : each.last + 1]}
    others = [(len(each), text) for each, text in inside.items() if not each & taken]
    places = [each for each in given if stems.intersection(answer.stems[each.first : each.last + 1])]
    for each in seed.sample(places, min(2, len(places))):
        alike = [text for size, text in others if size == each.last - each.first + 1] or [text for _, text in others]
        if alike:
            span = answer.characters(*each)
            yield _changed(row, span, seed.choice(alike))


def _changed(row: dict[str, Any], span: tuple[int, int], new: str) -> dict[str, Any]:
    text = row["response"]
    touched = [max(0, span[0] - 1), span[0] + max(1, len(new))]
    changed = text[: span[0]] + new + text[span[1] :]
    return {**row, "response": changed, "label_hallucinated": True, "spans": [touched]}
