"""Numbers of a text: value, unit, and where they stand. Spelled-out numbers are read by text2num."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from traceai_vllm.evals.errors import optional
from traceai_vllm.evals.grounding.dates import YEAR
from traceai_vllm.evals.notation import FIRST_YEAR, LARGE, LAST_YEAR, MONTHS, minus_before, readings

if TYPE_CHECKING:
    from traceai_vllm.evals.grounding.words import Words

_SPELLED = frozenset(
    """two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen
    nineteen twenty thirty forty fifty sixty seventy eighty ninety hundred thousand million billion
    second third fourth fifth sixth seventh eighth ninth tenth""".split()  # noqa: SIM905
)
_SCALES = {
    "hundred": 1e2,
    "thousand": 1e3,
    "k": 1e3,
    "million": 1e6,
    "mn": 1e6,
    "billion": 1e9,
    "bn": 1e9,
    "trillion": 1e12,
    "千": 1e3,
    **LARGE,
}
# Right after an amount of money; elsewhere `m` are metres, and `b` may be anything.
_MONEY_SCALES = {"m": 1e6, "b": 1e9, "t": 1e12}
# Unit: (what it measures, how many of the smallest here). Only exact conversions; no month or year has a fixed length.
_UNITS: dict[str, tuple[str, float]] = {
    **dict.fromkeys(("second", "seconds", "sec", "secs"), ("time", 1.0)),
    **dict.fromkeys(("minute", "minutes", "min", "mins"), ("time", 60.0)),
    **dict.fromkeys(("hour", "hours", "hr", "hrs"), ("time", 3600.0)),
    **dict.fromkeys(("day", "days"), ("time", 86400.0)),
    **dict.fromkeys(("week", "weeks"), ("time", 604800.0)),
    **dict.fromkeys(("month", "months"), ("months", 1.0)),
    **dict.fromkeys(("year", "years", "yr", "yrs"), ("months", 12.0)),
    **dict.fromkeys(("percent", "%"), ("percent", 1.0)),
    **dict.fromkeys(("mm", "millimeter", "millimeters"), ("metres", 0.001)),
    **dict.fromkeys(("cm", "centimeter", "centimeters"), ("metres", 0.01)),
    **dict.fromkeys(("meter", "meters", "metre", "metres"), ("metres", 1.0)),
    **dict.fromkeys(("km", "kilometer", "kilometers", "kilometre", "kilometres"), ("metres", 1000.0)),
    **dict.fromkeys(("inch", "inches"), ("inches", 1.0)),
    **dict.fromkeys(("foot", "feet", "ft"), ("inches", 12.0)),
    **dict.fromkeys(("yard", "yards"), ("inches", 36.0)),
    **dict.fromkeys(("mile", "miles", "mi"), ("miles", 1.0)),
    **dict.fromkeys(("gram", "grams", "g"), ("grams", 1.0)),
    **dict.fromkeys(("kg", "kilogram", "kilograms", "kilo", "kilos"), ("grams", 1000.0)),
    **dict.fromkeys(("mg", "milligram", "milligrams"), ("grams", 0.001)),
    **dict.fromkeys(("ounce", "ounces", "oz"), ("ounces", 1.0)),
    **dict.fromkeys(("pound", "pounds", "lb", "lbs"), ("ounces", 16.0)),
    **dict.fromkeys(("dollar", "dollars", "$", "usd"), ("dollars", 1.0)),
    **dict.fromkeys(("cent", "cents"), ("dollars", 0.01)),
    **dict.fromkeys(("euro", "euros", "€", "eur"), ("euros", 1.0)),
    **dict.fromkeys(("£", "gbp"), ("sterling", 1.0)),
    **dict.fromkeys(("°", "degree", "degrees"), ("degrees", 1.0)),
}
# What is measured in more than one unit, none of which is so many of another.
_MEASURES = (
    frozenset({"time", "months"}),
    frozenset({"metres", "inches", "miles"}),
    frozenset({"grams", "ounces"}),
    frozenset({"dollars", "euros", "sterling", "¥"}),
)
_SYMBOLS = frozenset("$£€¥")
_ORDINALS = frozenset({"st", "nd", "rd", "th"})
_MODERN = 1900  # from here on such digits are a year more often than a count
_BEFORE_YEARS = frozenset({"in", "since", "until", "till", "during", "early", "late", "mid"})
_DETERMINERS = frozenset({"a", "an", "the", "this", "its", "his", "her", "their", "our", "my"})
_DASHES = frozenset("-\u2013\u2014/")
_MINUS = ("-", "\u2212", "minus ", "negative ")
_BEFORE_MONTHS = frozenset({"", " ", "-", ".", ". ", "/"})
_OF = frozenset({"of", "de"})  # `3rd of March`
_LONGEST = 16  # characters from which on digits are a key or a code, and no number
_LABELS = frozenset(
    {"step", "chapter", "figure", "table", "part", "page", "section", "option", "day", "phase", "level"}
)
_POINTERS = frozenset({"passage", "document", "source", "context", "doc"})  # what retrieval calls its pieces


class Quantity(NamedTuple):
    """One number of a text.

    Attributes:
        value: as a plain number, scale words applied.
        unit: what it counts or measures: a unit's name, a month, ``year``, the stem of the noun after it, or empty.
        amount: the value in the smallest unit of its kind.
        first: the index of its first word.
        last: the index of its last word, unit and scale included.
        core: the index of the word that is the number itself.
        label: it says nothing: it points to a piece of the context, as in `passage 2`, or is part of a date.
        other: the number in another reading, where its notation has two.
    """

    value: float
    unit: str
    amount: float
    first: int
    last: int
    core: int
    label: bool = False
    other: Quantity | None = None

    @property
    def counts(self) -> bool:
        """Whether its unit is the noun that it counts."""
        return self.unit.startswith("noun:")

    @property
    def is_day(self) -> bool:
        """Whether it is the day of a month."""
        return self.unit.startswith("month") and self.unit[5:].isdecimal()

    def same(self, other: Quantity) -> bool:
        """Whether both say the same amount in one of their readings; a missing unit agrees with any."""
        return any(_same(one, two) for one in (self, self.other) if one for two in (other, other.other) if two)


class _Word:
    """A word in the form that text2num takes."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def text(self) -> str:
        return self._text

    def text_lowercase(self) -> str:
        return self._text

    def nt_separated(self, previous: Any) -> bool:
        return False

    def not_a_number_part(self) -> bool:
        return False


def other_unit(one: Quantity, other: Quantity) -> bool:
    """Whether two numbers are one number in two units of the same measure: 12 weeks and 12 months."""
    if one.value != other.value or one.same(other):
        return False
    return any(one.unit in units and other.unit in units for units in _MEASURES)


def quantities(words: Words) -> list[Quantity]:
    """Return the numbers of a text, in order."""
    lower = words.lower
    digits = [index for index in words.digits if len(lower[index]) < _LONGEST]
    found = [_dated(words, index) if index in words.dates else _in_digits(words, index) for index in digits]
    spelled = [_quantity(words, start, end - 1, value) for start, end, value in _spelled(lower)]
    return sorted(found + spelled, key=lambda quantity: quantity.core) if spelled else found


def _spelled(lower: list[str]) -> list[tuple[int, int, float]]:
    if _SPELLED.isdisjoint(lower):
        return []
    marks = [index for index, word in enumerate(lower) if word in _SPELLED]
    reader = optional("text_to_num", "Groundedness")
    found = []
    done = -1
    for mark in marks:
        if mark <= done:
            continue
        start = mark - 1 if mark and lower[mark - 1] in {"a", "one"} else mark
        if start == mark and lower[mark] in _SCALES:
            continue  # `a few thousand`: no number
        if mark and lower[mark - 1][0].isdecimal():
            continue  # `3 million`: a scale of the digits before it
        end = mark + 1
        while end < len(lower) and (lower[end] in _SPELLED or (lower[end] in {"and", "one"} and end - start < 8)):
            end += 1
        for number in reader.find_numbers([_Word(word) for word in lower[start:end]], "en", 0.0):
            found.append((start + number.start, start + number.end, float(number.value)))
        done = end - 1
    return found


def _dated(words: Words, index: int) -> Quantity:
    """A number of a date."""
    said, other = words.dates[index][0], words.dates[index][1:]
    second = Quantity(other[0].value, other[0].unit, other[0].value, index, index, index) if other else None
    return Quantity(said.value, said.unit, said.value, index, index, index, said.part, second)


def _in_digits(words: Words, index: int) -> Quantity:
    """A number that can be read in two ways has a second reading: `12.000`."""
    found = _quantity(words, index, index, float(words.stems[index]))
    if words.lower[index][-4:-3] == ".":
        second = [float(value) for value in readings(words.lower[index])[1:]]
        return found._replace(other=_quantity(words, index, index, second[0])) if second else found
    return found


def _quantity(words: Words, first: int, last: int, value: float) -> Quantity:
    lower, core = words.lower, first
    count = len(lower)
    scale = _scale(words, first, last + 1) if last + 1 < count and lower[first][0].isdecimal() else None
    if scale is not None:
        value *= scale
        last += 1
    if last + 1 < count and lower[last + 1] in _ORDINALS and not words.gaps[last + 1]:
        last += 1  # `9th`
    before = lower[first - 1] if first and len(words.gaps[first]) <= 1 else ""
    after = lower[last + 1] if last + 1 < count and len(words.gaps[last + 1]) <= 1 else ""
    sign = words.starts[first - 1] if before in _SYMBOLS else words.starts[first]
    negative = words.text.endswith(_MINUS, 0, sign) and minus_before(words.text, sign)
    if negative:
        value = -value
    if before in _SYMBOLS:
        kind, factor = _UNITS.get(before, (before, 1.0))
        return Quantity(value, kind, value * factor, first - 1, last, core)
    if after in _UNITS:
        kind, factor = _UNITS[after]
        return Quantity(value, kind, value * factor, first, last + 1, core)
    year = _year(words, core, value)
    if year is not None:
        return Quantity(year, YEAR, year, first, last, core)
    month = MONTHS.get(before) or _month_after(words, last + 1)
    if month:
        return Quantity(abs(value), f"month{month}", abs(value), first, last, core)
    if before in _LABELS:
        return Quantity(value, f"label:{before}", value, first, last, core)
    return Quantity(value, _noun(words, last + 1), value, first, last, core, before in _POINTERS)


def _month_after(words: Words, index: int) -> int | None:
    """The month of which digits are the day: `3 March`, `3. März`, `3rd of March`."""
    if index < len(words.lower) and words.lower[index] in _OF and words.gaps[index] == " ":
        index += 1
    if index >= len(words.lower) or words.gaps[index] not in _BEFORE_MONTHS:
        return None
    return MONTHS.get(words.lower[index])


def _scale(words: Words, number: int, index: int) -> float | None:
    """By how much the word after a number multiplies it; None where it does not."""
    word = words.lower[index]
    if word in _SCALES:
        return _SCALES[word]
    of_money = number > 0 and words.lower[number - 1] in _SYMBOLS and not words.gaps[index]
    return _MONEY_SCALES.get(word) if of_money else None


def _year(words: Words, index: int, value: float) -> float | None:
    """The year of a date that digits stand for; None where they count or measure something."""
    digits, before = words.lower[index], words.lower[index - 1] if index else ""
    if len(digits) == 2 and len(before) == 4 and before.isdecimal() and words.gaps[index].strip() in _DASHES:
        start = int(before)  # `2018-19`
        end = start - start % 100 + value
        return end if FIRST_YEAR <= start < end <= LAST_YEAR else None
    if len(digits) != 4 or not digits.isdecimal() or not FIRST_YEAR <= value <= LAST_YEAR:
        return None
    if before in MONTHS or before in _BEFORE_YEARS:
        return value
    return None if value < _MODERN or _counts(words, before, index + 1) else value


def _counts(words: Words, before: str, index: int) -> bool:
    """Whether the word after digits is what they count: `2000 visits`, and not `2018 Boston` or `the 2018 report`."""
    if not _noun(words, index) or words.capitals[index]:
        return False
    return before not in _DETERMINERS or words.lower[index].endswith("s")


def _noun(words: Words, index: int) -> str:
    """The stem of the word counted, right after the number; empty where a number, stop word or line end follows."""
    if index >= len(words.lower) or words.weights[index] == 0 or not words.lower[index][0].isalpha():
        return ""
    if len(words.gaps[index]) > 1:  # a comma or the like stands between
        return ""
    return f"noun:{words.stems[index]}"


def _same(one: Quantity, other: Quantity) -> bool:
    if one.unit == other.unit:
        return _close(one.amount, other.amount)
    if one.value != other.value:
        return False
    return not one.unit or not other.unit or one.counts or other.counts


def _close(one: float, other: float) -> bool:
    return abs(one - other) <= 1e-9 * max(abs(one), abs(other), 1.0)
