"""Split an answer into claims: its sentences and list items, with where they stand."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from traceai_vllm.evals.errors import optional
from traceai_vllm.evals.grounding.abstentions import claimed_from
from traceai_vllm.evals.grounding.courtesies import is_courtesy
from traceai_vllm.evals.notation import MONTHS

if TYPE_CHECKING:
    from collections.abc import Iterable

# The segmenter's time grows with the square of what has no end, such as quotation marks that a looping model repeats:
# a longer line is read in pieces, which end at a space where there is one.
_LONGEST = 10_000
_LINE = re.compile(rf"[^\n]{{1,{_LONGEST}}}(?=\s|\Z)|[^\n]{{1,{_LONGEST}}}")
_FENCE = re.compile(r"\s*(?:```|~~~)[\w+.-]*\s*")  # where code begins or ends
_MARK = re.compile(r"\s*(?:[-*•\u2013#>]+|\(?\d{1,2}[.):]|\(?[a-z][.)])\s+")
_ITEM = re.compile(r"\d[.)]\s")  # which is found sooner
_INLINE_ITEM = re.compile(r"(?<=[.;:!?])\s+(?=\d{1,2}[.)]\s+[A-Z])")
_WORD = re.compile(r"[^\W_]")
_DAY = re.compile(r"(?<![\d.])\d{1,2}\.\Z")
_MONTHS_BEHIND = MONTHS.keys() - {"may", "march"}  # which begin a sentence as other words
# The headings of a Markdown table, which stand over a line of hyphens.
_TABLE = re.compile(
    r"^[^\n|]*\|[^\n]*\n(?=[ \t]*(?:\|[ \t]*)?:?-+:?[ \t]*(?:\|[ \t]*:?-+:?[ \t]*)*(?:\|[ \t]*)?$)", re.M
)
# A Markdown heading of a few words; with a number, or at the end of a sentence, it says something.
_HEADING = re.compile(r"^ {0,3}#{1,6}[ \t]+[^\W\d]+(?:[^\w\n.!?]+[^\W\d]+){0,7}[^\w\n.!?]*$", re.M)
# A program is an example of how to do something, unlike data in a block of its own.
_PROGRAM = re.compile(
    r"^[ \t]*(```|~~~)[ \t]*(?:python3?|py|javascript|js|typescript|ts|jsx|tsx|java|c|cpp|c\+\+|csharp|cs|go|rust|ruby|"
    r"rb|php|swift|kotlin|scala|r|sql|bash|sh|shell|zsh|powershell|console|html|css|dockerfile|makefile|lua|perl)\b"
    r"[^\n]*\n.*?(?:^[ \t]*\1[ \t]*$|\Z)",
    re.M | re.S | re.I,
)
_NUMBERING = re.compile(r"\d{1,2}[.)]\s*")


class Span(NamedTuple):
    """Characters ``[start, end)`` of a text."""

    start: int
    end: int


def sentences(text: str, language: str = "en") -> list[Span]:
    """Return the sentences of a text, in order; list marks and blank edges are left out.

    Args:
        text: the text; a line break always ends a sentence.
        language: an ISO 639-1 code, for abbreviations and marks of its own.
    """
    segmenter = optional("sentencex", "Groundedness")
    found = []
    for line in _LINE.finditer(text):
        if _FENCE.fullmatch(line[0]):
            continue
        at = line.start()
        for part in _INLINE_ITEM.split(line[0]) if _ITEM.search(line[0]) else (line[0],):
            at = text.index(part, at)
            for sentence in _whole_dates(segmenter.segment(language, part)):
                span = _trimmed(text, at, at + len(sentence))
                at += len(sentence)
                if span:
                    found.append(span)
    return found


def claims(text: str) -> list[Span]:
    """Return the sentences of an answer that say something of the world, in order.

    Greetings, offers to help and disclaimers in English are left out, and the headings of a table's columns. So are
    headings over something else, programs beside something else, and what only says that the context does not say, or
    that the answer is not known.
    """
    spans = sentences(text)
    if "```" in text or "~~~" in text:
        spans = _outside(spans, _PROGRAM, text) or spans
    if "#" in text:
        spans = _outside(spans, _HEADING, text) or spans
    if "|" in text:
        spans = _outside(spans, _TABLE, text)
    said = (Span(claimed_from(text, *span), span.end) for span in spans if not is_courtesy(text, *span))
    return [span for span in said if span.start < span.end]


def _outside(spans: list[Span], pattern: re.Pattern[str], text: str) -> list[Span]:
    """Return the spans that begin where a pattern does not match."""
    found = [match.span() for match in pattern.finditer(text)]
    return [span for span in spans if not any(start <= span.start < end for start, end in found)] if found else spans


def _whole_dates(pieces: Iterable[str]) -> list[str]:
    """Put together what was parted at the point of a day: `3. März`."""
    whole: list[str] = []
    for piece in pieces:
        # The pattern is bound to the end alone, and would be tried at every place of a sentence.
        if whole and _DAY.search(whole[-1].rstrip()[-4:]) and _first_word(piece) in _MONTHS_BEHIND:
            whole[-1] += piece
        else:
            whole.append(piece)
    return whole


def _first_word(piece: str) -> str:
    return piece.split(None, 1)[0].rstrip(".,;:!?").lower() if piece.strip() else ""


def _trimmed(text: str, start: int, end: int) -> Span | None:
    piece = text[start:end]
    if piece[:1].isalpha() and piece[0].isupper():  # as most begin, and no mark does
        return Span(start, start + len(piece.rstrip()))
    mark = _MARK.match(text, start, end)
    if mark and mark.end() < end:
        start = mark.end()
        piece = text[start:end]
    if not _WORD.search(piece) or (_NUMBERING.fullmatch(piece) and end - start < len(text)):
        return None
    return Span(start + len(piece) - len(piece.lstrip()), end - len(piece) + len(piece.rstrip()))
