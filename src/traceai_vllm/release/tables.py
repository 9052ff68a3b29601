"""A comparison as tables in a terminal."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from traceai_vllm.release.cells import HEALTHY, NOT_ENOUGH, REGRESSED, pairs_seen
from traceai_vllm.release.resources import resource_texts
from traceai_vllm.release.wording import (
    change_text,
    evidence_text,
    moved_text,
    needed_text,
    printable,
    value_text,
    volume_texts,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from traceai_vllm.release.cells import Cell
    from traceai_vllm.release.comparison import Comparison
    from traceai_vllm.release.deciding import Judgement

PIPE_WIDTH = 160
_NAME_WIDTH, _LEAST_NAME_WIDTH, _MEASURE_WIDTH = 34, 22, 19
# A word beside the colour: a pipe has no colours, and not everybody sees them.
WORDS = {HEALTHY: ("ok", "green"), REGRESSED: ("WORSE", "bold red"), NOT_ENOUGH: ("?", "yellow")}


class _Console(Console):
    """Rich's, but a reader that has gone is the caller's to deal with: Rich would end the program itself."""

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError


def print_tables(judgement: Judgement, *, everything: bool, console: Console | None = None) -> None:
    """Print a comparison.

    Args:
        judgement: the comparison with its verdicts.
        everything: also parts within routes where nothing regressed.
        console: where to; standard output when None.
    """
    # A file or a pipe has no width of its own; in a terminal nobody can read a name that is cut off.
    alone = sys.stdout.isatty() or "COLUMNS" in os.environ
    console = console or _Console(width=None if alone else PIPE_WIDTH)
    comparison = judgement.comparison
    names = guarded_measures(comparison)
    at_once = max(1, (console.width - _NAME_WIDTH) // _MEASURE_WIDTH)
    for first in range(0, len(names), at_once):
        console.print(cells_table(comparison, names[first : first + at_once], everything=everything))
    console.print(shown_table(comparison))
    if volume_texts(comparison.volume):
        console.print(volume_table(comparison))
    console.print(books_table(comparison))
    if judgement.books_problems:
        console.print("over the limit: " + "; ".join(judgement.books_problems), style="yellow")


def guarded_measures(comparison: Comparison) -> list[str]:
    """Return the names of the measures that are guarded anywhere."""
    return list(dict.fromkeys(cell.measure.name for cell in comparison.cells if cell.margin is not None))


def cells_table(comparison: Comparison, names: Sequence[str], *, everything: bool) -> Table:
    """Return the table of guarded cells: a row for each part of the traffic, a column for each of some measures."""
    guarded = [cell for cell in comparison.cells if cell.margin is not None]
    table = Table(title="candidate against baseline; fail rates in points")
    table.add_column("part of the traffic", overflow="fold", min_width=_LEAST_NAME_WIDTH)
    table.add_column("pairs", justify="right", no_wrap=True)
    for name in names:
        table.add_column(escape(printable(name)), overflow="fold")
    by_scope: dict[str, dict[str, Cell]] = {}
    for cell in guarded:
        by_scope.setdefault(cell.name, {})[cell.measure.name] = cell
    for name, cells in by_scope.items():
        if not cells.keys() & {*names}:
            continue
        within = max(len(cell.scope) for cell in cells.values()) > 1
        if everything or not within or any(cell.verdict == REGRESSED for cell in cells.values()):
            pairs = pairs_seen(cells.values())
            table.add_row(escape(printable(name)), str(pairs), *(_cell(cells.get(measure)) for measure in names))
    return table


def shown_table(comparison: Comparison) -> Table:
    """Return the table of all measures over all traffic."""
    one, other = (", ".join(comparison.variants[arm]) or arm for arm in ("baseline", "candidate"))
    table = Table(title="all traffic")
    for name in ("measure", escape(printable(one)), escape(printable(other)), "change", "worse / better", "pairs"):
        # A variant's long name gives way, not the figures and what they are of.
        table.add_column(name, overflow="fold", no_wrap=name in ("measure", "change"))
    for cell in comparison.cells:
        if not cell.scope:
            values = [value_text(value, cell.measure) for value in (cell.baseline, cell.candidate)]
            moved = moved_text(cell)
            table.add_row(escape(printable(cell.measure.name)), *values, change_text(cell), moved, evidence_text(cell))
    for row in resource_texts(comparison):
        table.add_row(*row, "", "")
    return table


def volume_table(comparison: Comparison) -> Table:
    """Return the table of how much answers differ."""
    table = Table("", "how much", title="volume: shown, never decisive")
    for what, how_much in volume_texts(comparison.volume):
        table.add_row(escape(printable(what)), how_much)
    return table


def books_table(comparison: Comparison) -> Table:
    """Return the table of what was sampled and what is missing."""
    books = comparison.books
    table = Table("", "number", title="the books")
    table.add_row("sampled questions", str(books.sampled))
    table.add_row("clean pairs", str(books.clean))
    for reason, count in books.unpaired.items():
        table.add_row(escape(printable(f"without a pair: {reason}")), str(count))
    worst = max(books.deciles, key=lambda tenth: tenth.share, default=None)
    if worst is not None and worst.unpaired:
        lengths = (
            f"{worst.first + 1} tokens and more" if worst.last is None else f"{worst.first + 1}-{worst.last} tokens"
        )
        table.add_row(f"without a pair, most of all prompts of {lengths}", f"{worst.unpaired} of {worst.sampled}")
    for reason, count in books.excluded.items():
        table.add_row(escape(f"excluded: {reason} differs"), str(count))
    for tag, count in books.untagged.items():
        if count:
            table.add_row(f"answers without {tag}", str(count))
    for text, count in (
        ("answers that came twice", books.repeated),
        ("arms a minute apart", books.apart),
        ("pairs of unknown prompt length", books.unknown_length),
        ("answers that end before they begin", books.backwards),
        ("repeats of the baseline", books.repeats),
    ):
        if count:
            table.add_row(text, str(count))
    for what, count in books.feedback.items():
        table.add_row(f"feedback: {what}", str(count))
    return table


def _cell(cell: Cell | None) -> str:
    if cell is None:
        return ""
    word, style = WORDS[cell.verdict]
    needed = needed_text(cell)
    more = f" ({needed})" if needed else ""
    return f"[{style}]{word}[/] {change_text(cell).removesuffix(' points')}{more}"
