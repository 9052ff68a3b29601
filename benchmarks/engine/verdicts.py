"""What makes a line of the table: a figure in words, and whether it meets its target."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from benchmarks.engine.summary import Figure

MET, NOT_MET = "met", "**not met**"
# The interval holds the limit: the rounds cannot tell. The median says which side is likelier.
UNDECIDED = {True: "undecided (median meets it)", False: "undecided (median misses it)"}
TOO_FEW = "undecided (too few rounds)"
_ENOUGH = 8


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table.

    Attributes:
        target: the target's number, e.g. ``A1``.
        what: what was measured.
        limit: the target in words.
        measured: the figure in words, with its interval.
        undisturbed: the same from each arm's fastest rounds.
        spread: its spread over rounds in words.
        verdict: one of the words above; empty where there is nothing to meet or it was not measured.
    """

    target: str
    what: str
    limit: str
    measured: str
    undisturbed: str = ""
    spread: str = ""
    verdict: str = ""


def figure_row(target: str, what: str, figure: Figure, form: str, *, limit: str = "", verdict: str = "") -> Row:
    """Return the line of a figure.

    Args:
        target: the target's number.
        what: what was measured.
        figure: the figure.
        form: a format specification and, after a space, the unit: ``.1f µs``.
        limit: the target in words.
        verdict: whether it is met.
    """
    spec, _, unit = form.partition(" ")
    unit = unit and f" {unit}"
    measured = f"{figure.value:{spec}}{unit} ({figure.low:{spec}} to {figure.high:{spec}})"
    undisturbed = "" if figure.undisturbed is None else f"{figure.undisturbed:{spec}}{unit}"
    return Row(target, what, limit, measured, undisturbed, _spread(figure, spec), verdict)


def at_most(figure: Figure, limit: float) -> str:
    """Return the verdict on a figure that is to be at most ``limit``."""
    if figure.rounds < _ENOUGH:
        return TOO_FEW
    if figure.high <= limit:
        return MET
    return NOT_MET if figure.low > limit else UNDECIDED[figure.value <= limit]


def at_least(figure: Figure, limit: float) -> str:
    """Return the verdict on a figure that is to be at least ``limit``."""
    if figure.rounds < _ENOUGH:
        return TOO_FEW
    if figure.low >= limit:
        return MET
    return NOT_MET if figure.high < limit else UNDECIDED[figure.value >= limit]


def no_difference(figure: Figure, resolution: float) -> str:
    """Return the verdict on a figure that is to be nothing, as far as ``resolution`` to either side."""
    if figure.rounds < _ENOUGH:
        return TOO_FEW
    if figure.low > 0 or figure.high < 0:
        return NOT_MET
    return MET if max(figure.high, -figure.low) <= resolution else UNDECIDED[True]


def _spread(figure: Figure, spec: str) -> str:
    if figure.spread is None:
        return ""
    minimum, first, third, maximum = (f"{value:{spec}}" for value in figure.spread)
    return f"{first} to {third}; {minimum} to {maximum}"
