"""Numbers on a command line, within bounds: the error names the option and what may stand there."""

from __future__ import annotations

import math


def check_above(option: str, value: float | None, least: float, most: float = math.inf) -> None:
    """Check that an option is a finite number above ``least`` and at most ``most``; None is well.

    Raises:
        ValueError: it is not.
    """
    if value is not None and not (least < value <= most and math.isfinite(value)):
        limit = "" if most == math.inf else f" and at most {most:g}"
        raise ValueError(f"{option} {value:g}: needed is a number above {least:g}{limit}")


def check_from(option: str, value: float | None, least: float, most: float = math.inf) -> None:
    """Check that an option is a finite number from ``least`` to ``most``, both included; None is well.

    Raises:
        ValueError: it is not.
    """
    if value is not None and not (least <= value <= most and math.isfinite(value)):
        bounds = f"of {least:g} or more" if most == math.inf else f"from {least:g} to {most:g}"
        raise ValueError(f"{option} {value:g}: needed is a number {bounds}")
