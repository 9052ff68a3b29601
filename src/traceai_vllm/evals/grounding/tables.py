"""Is a number of a claim that of the row and the heading that the claim names? Tables say so without a doubt."""

from __future__ import annotations

import itertools
from bisect import bisect_left
from typing import TYPE_CHECKING, NamedTuple

from traceai_vllm.evals.grounding.polarity import denies

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from traceai_vllm.evals.grounding.markup import Cell
    from traceai_vllm.evals.grounding.quantities import Quantity
    from traceai_vllm.evals.grounding.words import Words

_MOST_CELLS = 5_000
_NONE = -1


class Placed(NamedTuple):
    """What tables say of the numbers of a claim.

    Attributes:
        right: those that a cell has of which the claim names both the row and the heading.
        wrong: those that tables have for something else alone, and what they have for this.
    """

    right: list[Quantity]
    wrong: list[tuple[Quantity, str]]


class Figures:
    """The cells of the context's tables that a row and a heading name, and the numbers in and outside them.

    Args:
        words: the context's words.
        quantities: its numbers, in order.
        cells: those of its tables; of huge ones the first.
    """

    def __init__(self, words: Words, quantities: Sequence[Quantity], cells: Sequence[Cell]) -> None:
        self._text, self._quantities = words.text, quantities
        self._of: list[frozenset[str]] = []  # the stems of a cell's row and heading
        self._said: list[tuple[int, int]] = []
        self._owners = [_NONE] * len(quantities)  # the cell in which each number stands
        starts = [words.starts[each.core] for each in quantities]
        for cell in cells[:_MOST_CELLS]:
            label, heading = _telling(words, *cell.label), _telling(words, *cell.heading)
            first, last = bisect_left(starts, cell.said[0]), bisect_left(starts, cell.said[1])
            if label and heading and first < last:
                self._owners[first:last] = [len(self._of)] * (last - first)
                self._of.append(label | heading)
                self._said.append(cell.said)
        self._by_amount: dict[float, list[int]] = {}
        for index, each in enumerate(quantities if self._of else ()):
            for amount in _amounts(each):
                self._by_amount.setdefault(amount, []).append(index)

    def placed(self, words: Words, claim: tuple[int, int], numbers: Sequence[Quantity]) -> Placed:
        """Look up the numbers of a claim.

        A number is wrong where the claim names a row and a heading whose number it does not give, and where all that
        the context has of the number stands in cells of which the claim names not both. Who denies something may give
        any.

        Args:
            words: the answer's words.
            claim: the range of the claim's words.
            numbers: its numbers.
        """
        found = Placed([], [])
        said = set(words.stems[slice(*claim)]) if numbers and self._of else set()
        named = {cell for cell, of in enumerate(self._of) if of <= said} if said else set()
        if not named or denies(words, *claim):
            return found
        owners = [set(self._owners_of(number)) for number in numbers]
        due = sorted(named.difference(*owners))
        for number, cells in zip(numbers, owners, strict=True):
            if cells & named:
                found.right.append(number)
            elif due and cells and _NONE not in cells:
                found.wrong.append((number, self._text[slice(*self._said[due[0]])]))
        return found

    def _owners_of(self, number: Quantity) -> Iterator[int]:
        for amount in _amounts(number):
            for index in self._by_amount.get(amount, ()):
                if number.same(self._quantities[index]):
                    yield self._owners[index]


def _telling(words: Words, start: int, end: int) -> frozenset[str]:
    inside = slice(bisect_left(words.starts, start), bisect_left(words.starts, end))
    return frozenset(itertools.compress(words.stems[inside], words.weights[inside]))


def _amounts(number: Quantity) -> set[float]:
    """By which of its figures a number may be the same as another, rounded as far as they may differ."""
    readings = (number, number.other) if number.other else (number,)
    return {float(f"{figure:.9g}") for each in readings for figure in (each.value, each.amount)}
