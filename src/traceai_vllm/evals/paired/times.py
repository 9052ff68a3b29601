"""Times of day as people write them: 14:30, 2:30 PM, 9 a.m."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_SPACE = r"[ \u00a0\u202f]?"
_TIME = re.compile(
    r"(?<![\w.:/])(?:(?<![^\W\d]-)(?<!\d{3}-)|(?<=[ap]m-))"
    r"(?P<hour>[01]?\d|2[0-3])(?::(?P<minute>[0-5]\d)(?::(?P<second>[0-5]\d))?)?"
    rf"(?:{_SPACE}(?P<half>[ap])(?:m\b|\.{_SPACE}m\b\.?)|(?<=:[0-5]\d)(?![\w:/]|\.\d))",
    re.I,
)


def times_in(text: str) -> Iterator[tuple[int, int, tuple[str, ...]]]:
    """Yield where the times of a text stand, and each in one spelling: 14:30; 2:30 without more may be two."""
    for found in _TIME.finditer(text):
        yield *found.span(), tuple(_readings(found))


def without_times(text: str) -> str:
    """Return a text with line ends in the place of its times."""
    return _TIME.sub(lambda found: "\n" * len(found[0]), text)


def _readings(found: re.Match[str]) -> Iterator[str]:
    hour, rest = int(found["hour"]), f":{found['minute'] or '00'}"
    if found["second"] and found["second"] != "00":
        rest += f":{found['second']}"
    if found["half"]:
        yield f"{hour % 12 + 12 * (found['half'] in 'pP'):02}{rest}"
        return
    yield f"{hour:02}{rest}"
    if 1 <= hour <= 12 and found["hour"][0] != "0":
        yield f"{hour + 12 if hour < 12 else 0:02}{rest}"
