"""The dates of a text that are written in digits or Chinese signs, found among its words."""

from __future__ import annotations

import itertools
import re
from typing import TYPE_CHECKING, NamedTuple

from traceai_vllm.evals.notation import (
    COUNTED,
    ENGLISH_MONTHS,
    FIRST_YEAR,
    IDEOGRAPHIC,
    LARGE,
    LAST_YEAR,
    dates,
    ideographic,
    readings,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

#: The units of a number that is a date's year or month; the lengths of time are others.
YEAR, MONTH = "year", "month of a year"
_MARKS = frozenset("./-")
_SIGN = re.compile(f"[年月{IDEOGRAPHIC}]")
_DAYS = frozenset("日号號")
_SCALES = frozenset((*LARGE, "千"))
_MONTHS = range(1, 13)


class Dated(NamedTuple):
    """What a number of a date says.

    Attributes:
        value: of the number.
        unit: :data:`YEAR`, ``month3`` of a day in March, or that of a month.
        part: the day beside it says the same.
    """

    value: float
    unit: str
    part: bool = False


class Dates:
    """The dates of a text.

    Args:
        text: the text.
        lower: its words in lower case.
        gaps: what stands before each.
        digits: whether each is a number in digits.

    Attributes:
        numbers: what the numbers of dates say, by index: two things where the date can be read in two ways.
        read_as: words that mean the same in the usual spelling, by index: the months of dates by name, years with
            four digits, numbers in Chinese signs in digits.
    """

    def __init__(self, text: str, lower: Sequence[str], gaps: Sequence[str], digits: Sequence[bool]) -> None:
        self.numbers: dict[int, tuple[Dated, ...]] = {}
        self.read_as: dict[int, str] = {}
        self._lower = lower
        last = len(lower) - 1
        for index in itertools.compress(range(len(digits)), digits):
            mark = gaps[index]
            if (
                mark in _MARKS
                and 0 < index < last
                and gaps[index + 1] == mark
                and digits[index - 1]
                and digits[index + 1]
            ):
                self._add(index, mark)
        if not text.isascii() and _SIGN.search(text):
            self._read_signs(gaps, digits)
            self._add_signs(digits)

    def _add(self, middle: int, mark: str) -> None:
        written = self._lower[middle - 1 : middle + 2]
        days = dates(written[0], mark, written[1], written[2])
        if not days:
            return
        first = days[0]
        if len(written[0]) == 4:
            year, month, day = middle - 1, middle, middle + 1
        elif int(written[1]) == first.month:
            day, month, year = middle - 1, middle, middle + 1
        else:
            month, day, year = middle - 1, middle, middle + 1
        self.numbers[year] = (Dated(first.year, YEAR),)
        self.numbers[month] = tuple(Dated(each.month, MONTH, part=True) for each in days)
        self.numbers[day] = tuple(Dated(each.day, f"month{each.month}") for each in days)
        self.read_as[year] = str(first.year)
        if len(days) == 1:  # else it may be the day
            self.read_as[month] = ENGLISH_MONTHS[first.month].title()

    def _read_signs(self, gaps: Sequence[str], digits: Sequence[bool]) -> None:
        """三月五日 as 3月5日."""
        for index, word in enumerate(self._lower[:-1]):
            if word[0] not in IDEOGRAPHIC or gaps[index + 1] or self._lower[index + 1][0] not in COUNTED:
                continue
            if word in _SCALES and index and digits[index - 1] and not gaps[index]:
                continue  # of 10万
            value = ideographic(word)
            if value is not None:
                self.read_as[index] = str(value)

    def _add_signs(self, digits: Sequence[bool]) -> None:
        def number(index: int) -> float | None:
            if index in self.read_as:
                return float(self.read_as[index])
            return float(readings(lower[index])[0]) if 0 <= index < len(lower) and digits[index] else None

        lower = self._lower
        for index, word in enumerate(lower):
            if word not in {"年", "月"}:
                continue
            value = number(index - 1)
            if value is None:
                continue
            if word == "年" and FIRST_YEAR <= value <= LAST_YEAR:
                self.numbers[index - 1] = (Dated(value, YEAR),)
            elif word == "月" and value in _MONTHS:
                day = number(index + 1) if index + 2 < len(lower) and lower[index + 2] in _DAYS else None
                self.numbers[index - 1] = (Dated(value, MONTH, part=day is not None),)
                self.read_as[index - 1] = ENGLISH_MONTHS[int(value)].title()
                if day is not None:
                    self.numbers[index + 1] = (Dated(day, f"month{int(value)}"),)
