"""Is each number of a claim the one that the context gives for *that*? The hard case is a number from elsewhere in it.

Each number of the claim is compared with every number of the context that could stand for it, by the words around the
two: if a *different* number sits in the more similar surroundings, the claim has swapped it.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any, NamedTuple

from traceai_vllm.evals.grounding.dates import YEAR

if TYPE_CHECKING:
    from collections.abc import Sequence

    from traceai_vllm.evals.grounding.anchors import Alike
    from traceai_vllm.evals.grounding.quantities import Quantity
    from traceai_vllm.evals.grounding.words import Words

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


class Compared(NamedTuple):
    """Numbers of an answer (rows) and of the context (columns), as masks.

    Attributes:
        same: they say the same amount, as :meth:`Quantity.same` has it.
        rivals: one could stand in the place of the other: they are of one kind as far as can be told.
        unit: they have the same unit.
    """

    same: Any
    rivals: Any
    unit: Any


class Figures:
    """The numbers of the context in arrays, to be compared with those of the answer at once.

    Args:
        numpy: the module.
        quantities: the numbers.
    """

    def __init__(self, numpy: Any, quantities: Sequence[Quantity]) -> None:
        self._np = numpy
        self._units: dict[str, int] = {"": 0}
        readings = _readings(quantities)
        for each in itertools.chain.from_iterable(readings):
            self._units.setdefault(each.unit, len(self._units))
        self._readings = [self._columns(reading) for reading in readings]

    def _columns(self, quantities: Sequence[Quantity]) -> tuple[Any, ...]:
        """Unit, whether it is a noun counted, whether a day of some month, value and amount."""
        np = self._np
        unit = np.array([self._units.get(each.unit, -1) for each in quantities], dtype=np.int64)
        noun = np.array([each.counts for each in quantities], dtype=bool)
        day = np.array([each.is_day for each in quantities], dtype=bool)
        value = np.array([each.value for each in quantities], dtype=np.float64)
        amount = np.array([each.amount for each in quantities], dtype=np.float64)
        return unit, noun, day, value, amount

    def compare(self, quantities: Sequence[Quantity]) -> Compared:
        """Compare each of some numbers with each of these; of two readings one is enough."""
        found: list[Compared] = []
        for reading in _readings(quantities):
            ours = tuple(column[:, None] for column in self._columns(reading))
            found += (self._compared(ours, theirs) for theirs in self._readings)
        return found[0] if len(found) == 1 else Compared(*map(self._np.logical_or.reduce, zip(*found, strict=True)))

    def _compared(self, ours: tuple[Any, ...], theirs: tuple[Any, ...]) -> Compared:
        np = self._np
        (unit, noun, day, value, amount), (its_unit, its_noun, its_day, its_value, its_amount) = ours, theirs
        limit = 1e-9 * np.maximum(np.maximum(np.abs(its_amount), np.abs(amount)), 1.0)
        same_unit = its_unit == unit
        bare = (its_unit == 0) | (unit == 0)
        equal = (its_value == value) & (bare | its_noun | noun)
        same = np.where(same_unit, np.abs(its_amount - amount) <= limit, equal)
        return Compared(same, same_unit | bare | (its_noun & noun) | (its_day & day), same_unit)


def _readings(quantities: Sequence[Quantity]) -> list[Sequence[Quantity]]:
    """The numbers, and once more in their other readings if any has one."""
    several = any(each.other for each in quantities)
    return [quantities, [each.other or each for each in quantities]] if several else [quantities]


def number_features(
    numpy: Any,
    words: Words,
    quantities: Sequence[Quantity],
    *,
    same: Any,
    others: Any,
    alike: Alike,
    same_unit: Any,
    repeated: Any,
    asked: Any,
) -> tuple[list[list[float]], list[int | None]]:
    """Return the features of some numbers, and which number of the context each may have been swapped for.

    Args:
        numpy: the module.
        words: the answer's words.
        quantities: the numbers.
        same: a mask of the numbers of the context that say the same as each.
        others: a mask of those that could stand in its place, and that its claim does not give for something else.
        alike: how alike the places are.
        same_unit: whether one of the same has its unit.
        repeated: whether its claim has the number twice.
        asked: whether the question has it.
    """
    _, ours = alike.best(same)
    rivals, theirs = alike.best(others)
    occurrences = same.sum(axis=1)
    columns = [
        occurrences == 0,
        ~same_unit,
        ours["near"],
        theirs["near"],
        ours["near"] - theirs["near"],
        ours["run"],
        theirs["run"],
        ours["run"] - theirs["run"],
        ours["left"],
        theirs["left"],
        ours["right"],
        theirs["right"],
        ours["sentence"],
        theirs["sentence"],
        ours["sentence"] - theirs["sentence"],
        occurrences.clip(max=5),
        others.sum(axis=1).clip(max=20),
        [bool(each.unit) for each in quantities],
        [words.lower[each.core][0].isalpha() for each in quantities],
        [each.unit == YEAR for each in quantities],
        repeated,
        asked,
    ]
    rows: list[list[float]] = numpy.array(columns, dtype=numpy.float64).T.tolist()
    return rows, rivals


def after(words: Words, quantity: Quantity) -> int:
    """The word after the number itself: after digits their unit, which is part of the quantity, and is compared too."""
    if words.lower[quantity.core][0].isalpha():
        return max(quantity.core, quantity.last) + 1
    return quantity.core + 1
