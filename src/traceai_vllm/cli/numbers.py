"""Numbers on a command line, within bounds: the error says what may stand there."""

from __future__ import annotations

import argparse
import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


def above(least: float, most: float = math.inf) -> Callable[[str], float]:
    """Return what reads a finite number above ``least`` and at most ``most``."""
    bounds = f"above {least:g}" + ("" if most == math.inf else f" and at most {most:g}")

    def read(text: str) -> float:
        number = _float(text)
        if not least < number <= most or number == math.inf:
            raise argparse.ArgumentTypeError(f"{text} is not {bounds}")
        return number

    return read


def share(text: str) -> float:
    """Read a share: a number from 0 to 1."""
    number = _float(text)
    if not 0 <= number <= 1:
        raise argparse.ArgumentTypeError(f"{text} is not from 0 to 1")
    return number


def at_least(least: int) -> Callable[[str], int]:
    """Return what reads a whole number that is ``least`` or more."""

    def read(text: str) -> int:
        if not text.strip().lstrip("+-").isdecimal() or int(text) < least:
            raise argparse.ArgumentTypeError(f"{text!r} is no whole number of {least} or more")
        return int(text)

    return read


def _float(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no number") from None
