"""Identifiers with other marks between their letters and digits: ISO 27001, ISO-27001 and ISO27001."""

from __future__ import annotations

import re
from itertools import pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_RUN = re.compile(r"[^\W\d_]+|\d+")
_MARKED = re.compile(r"[^\w-]")  # a point may part a version or a number
_MARK = r"[\s()_-]"


def respelled_in(text: str, identifier: str) -> Iterator[tuple[int, int]]:
    """Yield where an identifier stands in a text, whatever stands between its letters and digits.

    Digits alone, such as a telephone number, are of three groups at least: 3-5 may be a range.

    Args:
        text: the text.
        identifier: in lower case.
    """
    runs = _RUN.findall(identifier)
    least = 3 if all(run.isdecimal() for run in runs) else 2
    if len(runs) < least or _MARKED.search(identifier):
        return
    between = (f"{_MARK}{{{int(one.isdecimal() == other.isdecimal())},2}}" for one, other in pairwise(runs))
    pieces = "".join(mark + re.escape(run) for mark, run in zip(between, runs[1:], strict=True))
    pattern = rf"(?<![^\W_])(?<![^\W_][-./:_]){re.escape(runs[0])}{pieces}(?![-./:_]?[^\W_])"
    for found in re.finditer(pattern, text, re.I):
        yield found.span()
