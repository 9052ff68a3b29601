"""The marks by which an answer cites its sources, `[1]` above all: they say nothing of the world."""

from __future__ import annotations

import re

_NUMBERS = r"\^?\d{1,2}(?:\s?[,;\u2013-]\s?\^?\d{1,2}){0,20}"
# The number behind `source` and the like is known for what it is, but for a colon between them.
_NAMED = r"(?:sources?|documents?|docs?|references?|refs?|citations?)\s?:\s?"
_CITATION = re.compile(
    rf"\[(?:{_NAMED})?{_NUMBERS}\]"  # [1], [1, 2], [^1], [citation:1]
    rf"|\({_NAMED}{_NUMBERS}\)"
    r"|【\d{1,2}(?:[:†,][^】\s]{0,30})?】"  # as OpenAI's models write them
    rf"|<sup>\[?{_NUMBERS}\]?</sup>"
    # (1) at the end of a sentence or clause, right behind a word; and the small numbers behind a full stop.
    r"|\((?<=[^\W\d] \()\d(?:, ?\d){0,5}\)(?=\s*(?:[.!?;,]|\Z|\n))"
    r"|[\u00b9\u00b2\u00b3\u2070\u2074-\u2079](?<=[.!?,;)\"\u201d].)[\u00b9\u00b2\u00b3\u2070\u2074-\u2079]{0,2}(?=\s|\Z)",
    re.I,
)


def without_citations(text: str) -> str:
    """Return a text with spaces in the place of its citations, so that all else stays where it was."""
    return _CITATION.sub(lambda mark: " " * len(mark[0]), text)
