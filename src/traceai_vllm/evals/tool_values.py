"""Are two argument values the same, but for a harmless spelling?

The rules are those of the Berkeley Function Calling Leaderboard's checker: strings match without regard to case, spaces
and ``, . / - _ * ^``; an integer may stand where a float is asked for. Two differ on purpose: strings that are numbers
are compared as numbers, so that ``1.5`` is not ``15`` nor ``-5`` the same as ``5``, and a float in a list may be
spelled as an integer, as it may outside of one.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

_IGNORED = re.compile(r"[ ,./\-_*^]")
_NUMBER = re.compile(r"[+-]?(\d{1,3}(,\d{3})+|\d+)(\.\d+)?([eE][+-]?\d+)?")
_DECIMAL = re.compile(r"(?<![\d.])\d+\.\d+(?!\.?\d)")


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
        return float(one.replace(",", "")) == float(other.replace(",", ""))
    if _DECIMAL.findall(one) != _DECIMAL.findall(other):
        return False
    return _bare(one) == _bare(other)


def _same_item(value: Any, accepted: Any) -> bool:
    if same_value(value, accepted):
        return True
    return isinstance(accepted, list) and any(same_value(value, one) for one in accepted)


def _bare(text: str) -> str:
    return _IGNORED.sub("", text).lower().replace("'", '"')
