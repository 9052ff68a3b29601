"""The worst flips: pairs that the baseline passed and the candidate failed, side by side, differing words marked."""

from __future__ import annotations

import difflib
import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from traceai_vllm.telemetry import semconv

if TYPE_CHECKING:
    from collections.abc import Iterator

    from traceai_vllm.release.comparison import Comparison
    from traceai_vllm.release.sources import Source

_PER_EVALUATOR = 5
_LONGEST = 4000
_WORDS = re.compile(r"\s+|\w+|[^\w\s]")


@dataclass(frozen=True)
class Piece:
    """A piece of an answer; ``marked`` when the other answer does not have it there."""

    text: str
    marked: bool


@dataclass(frozen=True)
class Flip:
    """A pair from pass to fail.

    Attributes:
        evaluator: whose verdict flipped.
        pair_id: which pair.
        where: its route and slices.
        scores: of baseline and candidate; None where there is a verdict alone.
        question: the last message of the request; empty when it was not captured.
        baseline: the baseline's answer in pieces; empty when it was not captured.
        candidate: the candidate's.
    """

    evaluator: str
    pair_id: str
    where: str
    scores: tuple[float | None, float | None]
    question: str
    baseline: list[Piece]
    candidate: list[Piece]


def worst_flips(comparison: Comparison, source: Source) -> list[Flip]:
    """Return, for each evaluator, the pairs from pass to fail with the largest drop of the score."""
    rows = [row for name in source.evaluators for row in _rows(comparison, name)]
    ids = [(row[f"{side}:trace_id"], row[f"{side}:span_id"]) for row in rows for side in ("b", "c")]
    content = source.content(ids) if ids else {}
    return [_flip(row, content) for row in rows]


def marked(one: str, other: str) -> tuple[list[Piece], list[Piece]]:
    """Return two texts in pieces, with the words that differ marked."""
    first, second = _WORDS.findall(one[:_LONGEST]), _WORDS.findall(other[:_LONGEST])
    found: tuple[list[Piece], list[Piece]] = ([], [])
    for kind, a, b, c, d in difflib.SequenceMatcher(None, first, second, autojunk=False).get_opcodes():
        for pieces, words in ((found[0], first[a:b]), (found[1], second[c:d])):
            if words:
                pieces.append(Piece("".join(words), kind != "equal"))
    return found


def _rows(comparison: Comparison, name: str) -> list[dict[str, Any]]:
    pairs = comparison.pairs.clean
    if f"b:{name}:score" not in pairs.columns:
        return []
    one, other = pairs[f"b:{name}:score"], pairs[f"c:{name}:score"]
    flipped = pairs.filter(~pairs[f"b:{name}:fail"], pairs[f"c:{name}:fail"])
    chosen = flipped.select(
        "pair_id", "route", "slices", "b:trace_id", "b:span_id", "c:trace_id", "c:span_id",
        before=one, after=other, lost=one - other,
    )  # fmt: skip
    rows = chosen.order_by([chosen.lost.desc(), chosen.pair_id]).limit(_PER_EVALUATOR).to_pyarrow().to_pylist()
    return [{**row, "evaluator": name} for row in rows]


def _flip(row: dict[str, Any], content: dict[tuple[str, str], dict[str, Any]]) -> Flip:
    of_baseline, of_candidate = (content.get((row[f"{side}:trace_id"], row[f"{side}:span_id"]), {}) for side in "bc")
    one, other = marked(answer_text(of_baseline), answer_text(of_candidate))
    return Flip(
        evaluator=row["evaluator"],
        pair_id=row["pair_id"],
        where=", ".join(filter(None, [row["route"], *sorted(row["slices"] or ())])),
        scores=(row["before"], row["after"]),
        question=question_text(of_baseline) or question_text(of_candidate),
        baseline=one,
        candidate=other,
    )


def answer_text(content: dict[str, Any]) -> str:
    """Return the answer in the content of a span, whoever wrote it."""
    return _text(content.get(semconv.OUTPUT_MESSAGES), -1) or str(content.get("output.value", ""))


def question_text(content: dict[str, Any]) -> str:
    """Return the last message of the request in the content of a span."""
    return _text(content.get(semconv.INPUT_MESSAGES), -1) or str(content.get("input.value", ""))


def _text(given: Any, place: int) -> str:
    try:
        messages = json.loads(given) if isinstance(given, str) else given
    except ValueError:
        return str(given)
    if not isinstance(messages, list) or not messages:
        return ""
    message = messages[place]
    parts = message.get("parts", message.get("content", "")) if isinstance(message, dict) else message
    return "\n".join(_parts(parts))


def _parts(parts: Any) -> Iterator[str]:
    if isinstance(parts, str):
        yield parts
    for part in parts if isinstance(parts, list) else ():
        text = part.get("content", part.get("text")) if isinstance(part, dict) else part
        yield text if isinstance(text, str) else json.dumps(part, ensure_ascii=False)
