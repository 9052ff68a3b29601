"""Numbers, signs and dates as people write them, brought to one spelling: 1.250,50 and 1,250.50, 3.3.2024 and 3 March.

Every check that compares numbers of two texts reads them with this.
"""

from __future__ import annotations

import re
import unicodedata
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

_MONTH_NAMES = (
    "january jan januar jänner janvier enero gennaio janeiro januari",
    "february feb februar février febrero febbraio fevereiro februari",
    "march mar märz mars marzo março maart",
    "april apr avril abril aprile",
    "may mai mayo maggio maio mei",
    "june jun juni juin junio giugno junho",
    "july jul juli juillet julio luglio julho",
    "august aug août agosto augustus",
    "september sept sep septembre septiembre settembre setembro",
    "october oct oktober octobre octubre ottobre outubro",
    "november nov novembre noviembre novembro",
    "december dec dezember décembre diciembre dicembre dezembro",
)
#: The number of each month, by its names in lower case, in English, German, French, Spanish, Italian, Portuguese and
#: Dutch.
MONTHS = {name: number for number, names in enumerate(_MONTH_NAMES, 1) for name in names.split()}
#: Their English names, by number.
ENGLISH_MONTHS = ("", *(names.split()[0] for names in _MONTH_NAMES))
FIRST_YEAR, LAST_YEAR = 1500, 2100
#: The signs of Chinese and Japanese that no spaces part from what is beside them, for a class of a pattern.
UNSPACED = "\u3041-\u309f\u3400-\u4dbf\u4e00-\u9fff"

_GROUPING = " '\u2019\u00a0\u2009\u202f"  # between groups of three digits, beside comma and point
_UNGROUPED = dict.fromkeys(map(ord, _GROUPING))
_MINUS = re.compile(r"(?:(?<![\w.,:;)\]%])(?<!\d )[-\u2212][$£€¥]?|\b(?:minus|negative) )\Z", re.I)
_LONGEST_SIGN = 12
_MOST_DAYS = 31
_MONTH = "|".join(sorted(MONTHS, key=len, reverse=True))
_DATE = re.compile(
    r"(?<![\w./-])(?P<first>\d{1,4})(?P<mark>[./-])(?P<second>\d{1,2})(?P=mark)(?P<third>\d{1,4})(?![\w/-]|\.\w)"
    r"|(?<!\d)(?P<y>\d{4})年(?P<m>\d{1,2})月(?P<d>\d{1,2})(?P<sign>[日号號])"
    rf"|\b(?P<day>\d{{1,2}})(?:st|nd|rd|th|\.)?(?: of| de)?[ ](?P<month>{_MONTH})\b\.?,?(?: de)?[ ](?P<year>\d{{4}})\b"
    rf"|\b(?P<its_month>{_MONTH})\b\.?[ ](?P<its_day>\d{{1,2}})(?:st|nd|rd|th)?,?[ ](?P<its_year>\d{{4}})\b",
    re.I,
)
_IDEOGRAPHS = {sign: value for value, sign in enumerate("零一二三四五六七八九")} | {"\u3007": 0, "两": 2}
_SMALL = {"十": 10, "百": 100, "千": 1_000}
#: What multiplies the number before it, in Chinese and Japanese.
LARGE = {"万": 10_000, "萬": 10_000, "亿": 100_000_000, "億": 100_000_000}
IDEOGRAPHIC = "".join((*_IDEOGRAPHS, *_SMALL, *LARGE))
COUNTED = "年月日号號元円圆圓块人名个個天岁歳次件\uff05%点點时時分秒回台本"
#: A number in Chinese signs, where it counts something: they are parts of other words as well.
IDEOGRAPHIC_NUMBER = rf"[{IDEOGRAPHIC}]+(?=[{COUNTED}])"


def number_pattern(digit: str, grouping: str) -> str:
    """Return a pattern for a number without sign and unit, in the usual notations.

    ``3.3.2024`` is three numbers, and so is the version ``1.2.3``; the telephone number ``555 123 4567`` is no amount.

    Args:
        digit: what a digit is: ``[0-9]``, which is found sooner, or ``\\d``.
        grouping: the spaces and apostrophes that may stand between groups of three digits.
    """
    d = digit
    lead = "".join(rf"(?<!{d} {d * size})(?<![^\d.,]0{d * (size - 1)})" for size in (1, 2, 3))
    behind_point = "".join(rf"(?<!{d}\.{d * size})" for size in (1, 2, 3))
    return (
        rf"{d}+(?:"
        rf"(?:,{d}{{3}})+(?:\.{d}+)?(?!{d})"  # 1,250.50
        rf"|(?<!{d * 3})(?:,{d}{{2}}){{1,6}},{d}{{3}}(?:\.{d}+)?(?!{d}|,{d})"  # 1,25,000 as in India
        rf"|,{d}{{1,2}}(?!{d}|[,)\]-])"  # 12,5
        rf"|(?=\.{d}){behind_point}(?:"
        rf"(?:\.{d}{{3}})+,{d}{{1,2}}(?!{d}|,)"  # 1.250,50
        rf"|(?:\.{d}{{3}}){{2,}}(?!{d}|\.)"  # 1.250.000
        rf"|\.{d}+(?!{d}|\.{d}))"  # 12.5
        rf"|(?=[{grouping}]{d}{{3}})(?<!{d * 4}){lead}"
        rf"(?:[{grouping}]{d}{{3}})+(?:[.,]{d}{{1,2}})?(?![{grouping}.,]?{d}|-)"  # 12 000,5
        r")?"
    )


#: A number in a text that is ASCII, and in any other.
ASCII_NUMBER = number_pattern("[0-9]", " '")
NUMBER = number_pattern(r"\d", _GROUPING)


def readings(written: str) -> tuple[str, ...]:
    """Return what a number may say, as plain digits with a point and no zeros at either end, the likelier first.

    ``12.000`` is twelve thousand or twelve; all others have one reading.

    Args:
        written: as :func:`number_pattern` finds it.
    """
    digits = written.translate(_UNGROUPED)
    if not digits.isascii():
        digits = "".join(str(unicodedata.decimal(sign, sign)) for sign in digits)
    at = max(digits.rfind("."), digits.rfind(","))
    if at < 0:
        return (_plain(digits, ""),)
    mark, whole, fraction = digits[at], digits[:at], digits[at + 1 :]
    bare = whole.replace(",", "").replace(".", "")
    if mark in whole or (mark == "," and len(fraction) == 3 and digits == written):
        return (_plain(bare + fraction, ""),)
    decimal = _plain(bare, fraction)
    if mark == "," or len(fraction) != 3 or bare != whole or digits != written or not 0 < len(bare.lstrip("0")) <= 3:
        return (decimal,)
    grouped = _plain(bare + fraction, "")
    return (grouped, decimal) if fraction.endswith("0") else (decimal, grouped)


def _plain(whole: str, fraction: str) -> str:
    whole, fraction = whole.lstrip("0") or "0", fraction.rstrip("0")
    return f"{whole}.{fraction}" if fraction else whole


def ideographic(written: str) -> int | None:
    """Return the value of a number in Chinese signs, such as 三百五十 or 二〇二四; None where it is none."""
    if not _SMALL.keys() & set(written) and not LARGE.keys() & set(written):
        digits = "".join(str(_IDEOGRAPHS[sign]) for sign in written)
        return int(digits) if len(digits) == 1 or len(digits) == 4 else None
    total = group = digit = 0
    for sign in written:
        if sign in _IDEOGRAPHS:
            digit = _IDEOGRAPHS[sign]
        elif sign in _SMALL:
            group += (digit or 1) * _SMALL[sign]
            digit = 0
        else:
            total += (group + digit or 1) * LARGE[sign]
            group = digit = 0
    return total + group + digit


def minus_before(text: str, start: int) -> int:
    """Return how many characters of a minus sign stand right before a number; 0 for none, a range or a dash."""
    sign = _MINUS.search(text, max(0, start - _LONGEST_SIGN), start)
    return len(sign[0]) if sign else 0


class Date(NamedTuple):
    """A day of the calendar."""

    year: int
    month: int
    day: int


def dates(first: str, mark: str, second: str, third: str) -> tuple[Date, ...]:
    """Return the days that three numbers may mean, the likelier first; none where they are no date.

    ``03/04/2024`` is two of them: in March for Americans, in April for others.

    Args:
        first: digits.
        mark: what stands between them: a point, a slash or a hyphen.
        second: digits.
        third: digits.
    """
    if len(first) == 4:
        found = [Date(int(first), int(second), int(third))]
    else:
        short = len(third) == 2 and mark != "-" and len(first) == len(second) == 2
        if len(third) != 4 and not short:
            return ()
        year = int(third) + (2000 if short else 0)
        day_first = Date(year, int(second), int(first))
        found = [day_first] if mark == "." else [Date(year, int(first), int(second)), day_first]
    return tuple(dict.fromkeys(day for day in found if _exists(day)))


def dates_in(text: str) -> Iterator[tuple[int, int, tuple[Date, ...]]]:
    """Yield the whole dates of a text, in digits or with the month's name: where they stand, and their readings."""
    for found in _DATE.finditer(text):
        if found["mark"]:
            days = dates(found["first"], found["mark"], found["second"], found["third"])
        elif found["sign"]:
            days = (Date(*map(int, found.group("y", "m", "d"))),)
        else:
            month = MONTHS[(found["month"] or found["its_month"]).lower()]
            days = (Date(int(found["year"] or found["its_year"]), month, int(found["day"] or found["its_day"])),)
        if days and _exists(days[0]):
            yield *found.span(), days


def _exists(day: Date) -> bool:
    return FIRST_YEAR <= day.year <= LAST_YEAR and 1 <= day.month <= len(_MONTH_NAMES) and 1 <= day.day <= _MOST_DAYS
