"""What any score of groundedness has to beat: the answer's length, and a plain comparison of words."""

from __future__ import annotations

import re

_WORD = re.compile(r"[A-Za-z]{3,}|\d+(?:[.,]\d+)*")
_COMMON = frozenset(
    """the and for are was were that this with from have has had not but you your they their its can may will would
    also which who whom when where how what into than then there these those been being our out per all any""".split()  # noqa: SIM905
)


def length(response: str, context: str, question: str | None) -> float:
    """The shorter, the better supported."""
    return -float(len(response.split()))


def lexical(response: str, context: str, question: str | None) -> float:
    """The mean of three shares that the context has: of the answer's telling words, its numbers and its names."""
    there = {word.lower() for word in _WORD.findall(context)} | {word.lower() for word in _WORD.findall(question or "")}
    words = [word for word in _WORD.findall(response) if word.lower() not in _COMMON]
    numbers = [word for word in words if word[0].isdigit()]
    names = [word for word in words if word[0].isupper()]
    return sum(_share(kind, there) for kind in (words, numbers, names)) / 3


def _share(words: list[str], there: set[str]) -> float:
    return sum(word.lower() in there for word in words) / len(words) if words else 1.0
