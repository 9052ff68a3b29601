"""Read JSON that a model wrote: bounded, strict, and with the reason when it cannot be read."""

from __future__ import annotations

import functools
import json
import math
import re
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Iterator

#: Longer text is not looked at: no tool payload is that long, and a looping model writes that much.
MAX_CHARACTERS = 2_000_000
#: Deeper nesting is not followed: Python's parser and the validators recurse.
MAX_DEPTH = 128

_STRUCTURE = re.compile(r'"(?:[^"\\]|\\.)*"?|[\[\]{}]', re.S)
_UNFINISHED = re.compile(
    r"""(?x)
      -? | t(ru?)? | f(a(ls?)?)? | n(ul?)?        # a value that has begun
    | \. | [eE][+-]?                              # the fraction or exponent of a number
    | \\u[0-9a-fA-F]{0,3}                         # an escape in a string
    """
)


class _NotJSON(ValueError):
    """Something that Python's parser takes and JSON does not have."""


Problem = Literal["malformed", "truncated", "refused"]


@dataclass(frozen=True, slots=True)
class JSONText:
    """What reading gave: a value, or a problem with its message and the position in the text.

    `repeated` are the paths, key by key, of names to which one object gives different values; the last is kept.
    """

    value: Any = None
    problem: Problem | None = None
    message: str = ""
    position: int = 0
    repeated: tuple[tuple[str | int, ...], ...] = ()


def read_json(text: str, *, max_characters: int = MAX_CHARACTERS, max_depth: int = MAX_DEPTH) -> JSONText:
    """Read one JSON document, as RFC 8259 has it: no ``NaN``, no comments, nothing after it.

    Args:
        text: the document.
        max_characters: longer text is refused.
        max_depth: deeper nesting is refused.
    """
    if len(text) > max_characters:
        return JSONText(None, "refused", f"{len(text):,} characters, more than the limit of {max_characters:,}")
    at = too_deep(text, max_depth)
    if at is not None:
        return JSONText(None, "refused", f"nested more than {max_depth} levels deep", at)
    try:
        twice: list[tuple[dict[str, Any], str]] = []
        object_of = functools.partial(_object, twice)
        value = json.loads(text, parse_constant=_refuse, parse_float=_finite, object_pairs_hook=object_of)
        return JSONText(value, repeated=tuple(_paths(value, twice)) if twice else ())
    except json.JSONDecodeError as error:
        problem: Problem = "truncated" if _ran_out(text, error) else "malformed"
        return JSONText(None, problem, f"{error.msg} (line {error.lineno}, column {error.colno})", error.pos)
    except _NotJSON as error:
        return JSONText(None, "malformed", str(error))
    except ValueError as error:  # Python's own limits on the digits of an integer, and on exponents
        return JSONText(None, "refused", str(error))


def too_deep(text: str, max_depth: int) -> int | None:
    """Return where nesting exceeds the limit, or None."""
    if text.count("[") + text.count("{") <= max_depth:
        return None
    depth = 0
    for token in _STRUCTURE.finditer(text):
        mark = token[0]
        if mark in "[{":
            depth += 1
            if depth > max_depth:
                return token.start()
        elif mark in "]}":
            depth -= 1
    return None


def _object(twice: list[tuple[dict[str, Any], str]], members: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(members)
    if len(made) < len(members):
        names = (name for name, value in members if not _equal(made[name], value))
        twice.extend((made, name) for name in dict.fromkeys(names))
    return made


def _equal(one: Any, other: Any) -> bool:
    return type(one) is type(other) and bool(one == other)  # `true` is not 1


def _paths(value: Any, twice: list[tuple[dict[str, Any], str]]) -> Iterator[tuple[str | int, ...]]:
    """Where the objects stand; one that stands in a value that was not kept is not found, and that value is named."""
    names: dict[int, list[str]] = {}
    for owner, name in twice:
        names.setdefault(id(owner), []).append(name)
    waiting: list[tuple[tuple[str | int, ...], Any]] = [((), value)]
    while waiting:
        path, each = waiting.pop()
        if isinstance(each, dict):
            yield from ((*path, name) for name in names.get(id(each), ()))
            waiting.extend(((*path, name), inner) for name, inner in reversed(each.items()))
        elif isinstance(each, list):
            waiting.extend(((*path, index), inner) for index, inner in reversed([*enumerate(each)]))


def _ran_out(text: str, error: json.JSONDecodeError) -> bool:
    """Whether the text is a beginning of JSON that stops short, and not wrong before that."""
    rest = text[error.pos :].rstrip()
    if not text.strip():
        return False
    if error.msg.startswith("Unterminated string"):
        return True
    if error.msg.startswith(("Invalid \\u", "Invalid \\escape")):
        return re.fullmatch(r"\\?u?[0-9a-fA-F]{0,4}", rest) is not None
    if error.msg == "Extra data":  # the fraction or exponent of a number at the top, as in `12.`
        return re.fullmatch(r"\.|[eE][+-]?", rest) is not None
    return _UNFINISHED.fullmatch(rest) is not None


def _refuse(constant: str) -> Any:
    raise _NotJSON(f"{constant} is not JSON")


def _finite(number: str) -> float | Decimal:
    value = float(number)
    if math.isfinite(value):
        return value
    try:
        return Decimal(number)
    except ArithmeticError:
        raise ValueError("a number has an exponent that no number may have") from None
