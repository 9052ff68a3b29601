"""Are two argument values the same, but for a harmless spelling?

The rules are those of the Berkeley Function Calling Leaderboard's checker: strings match without regard to case, spaces
and ``, . / - _ * ^``; an integer may stand where a float is asked for. Some differ on purpose: strings that are numbers
are compared as numbers, and numbers in strings keep their sign, their point and their places, so that ``1.5`` is not
``15``, nor ``-5 C`` the same as ``5 C``, nor ``1-23`` as ``12-3``; one letter or quotation mark may be written with
other code points, and any white space is a space. And a float in a list may be spelled as an integer, as elsewhere.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

_IGNORED = re.compile(r"[\s,./\-_*^]")
_QUOTES = str.maketrans(dict.fromkeys("'\u2018\u2019\u201c\u201d", '"'))
# Not with zeros in front: 01234 is a code.
_NUMBER = re.compile(r"[+-]?(?:[1-9]\d{0,2}(?:,\d{3})+|[1-9]\d*|0)(?:\.\d+)?(?:[eE][+-]?\d{1,4})?", re.A)
_DECIMAL = re.compile(r"(?<![\d.])\d+\.\d+(?!\.?\d)")
_NEGATIVE = re.compile(r"(?<![^\s(\[:=,])-\d+")
_DIGITS = re.compile(r"\d+")


def same_value(given: Any, accepted: Any, *, integer: bool = False) -> bool:
    """Return whether a given value is an accepted one.

    Args:
        given: the value of the call.
        accepted: the value to be matched; in a mapping, a list holds the values accepted for its key.
        integer: the schema asks for an integer: ``5.0`` is then not ``5``.
    """
    if isinstance(given, bool) or isinstance(accepted, bool):
        return given is accepted
    if isinstance(given, str) and isinstance(accepted, str):
        return same_string(given, accepted)
    if isinstance(given, (int, float)) and isinstance(accepted, (int, float)):
        return given == accepted and not (integer and isinstance(given, float) and isinstance(accepted, int))
    if isinstance(given, Mapping) and isinstance(accepted, Mapping):
        return same_mapping(given, accepted)
    if isinstance(given, (list, tuple)) and isinstance(accepted, (list, tuple)):
        pairs = zip(given, accepted, strict=False)
        return len(given) == len(accepted) and all(same_value(one, other, integer=integer) for one, other in pairs)
    return given is None and accepted is None


def same_mapping(given: Mapping[str, Any], accepted: Mapping[str, Any]) -> bool:
    """Return whether each key of a mapping has an accepted value, and none is missing or added."""
    if any(key not in accepted for key in given):
        return False
    if any(key not in given and not may_be_left_out(values) for key, values in accepted.items()):
        return False
    return all(_same_item(value, accepted[key]) for key, value in given.items())


def may_be_left_out(accepted: Any) -> bool:
    """Whether the accepted values of an argument say so: BFCL writes an empty string among them."""
    return isinstance(accepted, list) and any(isinstance(value, str) and not value for value in accepted)


def same_string(one: str, other: str) -> bool:
    """Return whether two strings differ at most in a harmless spelling."""
    if one == other:
        return True
    if _NUMBER.fullmatch(one) and _NUMBER.fullmatch(other):
        return Decimal(one.replace(",", "")) == Decimal(other.replace(",", ""))
    if any(kind.findall(one) != kind.findall(other) for kind in (_DECIMAL, _NEGATIVE)):
        return False
    return _bare(one) == _bare(other) and not _moved(_DIGITS.findall(one), _DIGITS.findall(other))


def _same_item(value: Any, accepted: Any) -> bool:
    if same_value(value, accepted):
        return True
    return isinstance(accepted, list) and any(same_value(value, one) for one in accepted)


def _moved(one: list[str], other: list[str]) -> bool:
    """Whether the same digits are parted at other places; parted or not is a spelling, as of telephone numbers."""
    return len(one) == len(other) and one != other


def _bare(text: str) -> str:
    return _IGNORED.sub("", unicodedata.normalize("NFC", text)).lower().translate(_QUOTES)
