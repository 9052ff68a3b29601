"""Is a number of a claim that of the row and the heading that the claim names? Tables say so without a doubt."""

from __future__ import annotations

import itertools
import re
from typing import TYPE_CHECKING, NamedTuple

from traceai_vllm.evals.grounding.polarity import denies
from traceai_vllm.evals.grounding.quantities import Quantity, quantities

if TYPE_CHECKING:
    from collections.abc import Sequence

    from traceai_vllm.evals.grounding.evidence import Evidence
    from traceai_vllm.evals.grounding.markup import Cell
    from traceai_vllm.evals.grounding.words import Lexicon, Words

_MOST_CELLS = 2_000
_IN_BRACKETS = re.compile(r"\([^()]*\)")


class Figure(NamedTuple):
    """A cell with a number.

    Attributes:
        of: the telling stems of its row's first cell and of its heading.
        said: as the table writes it.
        quantities: its number, in two scales where the heading gives one.
    """

    of: frozenset[str]
    said: str
    quantities: list[Quantity]


def figures_of(cells: Sequence[Cell], lexicon: Lexicon) -> list[Figure]:
    """Return the cells with a number that both a row and a heading name.

    Args:
        cells: those of the context's tables; of huge ones the first.
        lexicon: the process's lexicon.
    """
    found = []
    for cell in cells[:_MOST_CELLS]:
        label, heading = (_telling(_IN_BRACKETS.sub(" ", each), lexicon) for each in cell[:2])
        numbers = quantities(lexicon.read(cell.said)) if label and heading else []
        if numbers:
            found.append(Figure(label | heading, cell.said, numbers))
    return found


def _telling(text: str, lexicon: Lexicon) -> frozenset[str]:
    words = lexicon.read(text)
    return frozenset(itertools.compress(words.stems, words.weights))


class Placed(NamedTuple):
    """What tables say of the numbers of a claim.

    Attributes:
        right: those that a cell has of which the claim names both the row and the heading.
        wrong: those that tables have for something else alone, and what they have for this.
    """

    right: list[Quantity]
    wrong: list[tuple[Quantity, str]]


def placed(words: Words, claim: tuple[int, int], numbers: Sequence[Quantity], evidence: Evidence) -> Placed:
    """Look up the numbers of a claim in the tables.

    A number is wrong where the claim names a row and a heading whose number it does not give, and where all that the
    context has of the number stands in cells of which the claim names not both. Who denies something may give any.

    Args:
        words: the answer's words.
        claim: the range of the claim's words.
        numbers: its numbers.
        evidence: the context.
    """
    found = Placed([], [])
    if not numbers or not evidence.figures_of_tables or denies(words, *claim):
        return found
    said = set(words.stems[slice(*claim)])
    named = [each for each in evidence.figures_of_tables if each.of <= said]
    due = [each for each in named if not any(_gives(each, number) for number in numbers)]
    for number in numbers if named else ():
        cells = [each for each in evidence.figures_of_tables if _gives(each, number)]
        if any(each.of <= said for each in cells):
            found.right.append(number)
        elif due and cells:
            inside = sum(number.same(each) for cell in cells for each in cell.quantities)
            if inside >= sum(number.same(each) for each in evidence.quantities):
                found.wrong.append((number, due[0].said))
    return found


def _gives(figure: Figure, number: Quantity) -> bool:
    return any(number.same(each) for each in figure.quantities)
