"""A judgement on one screen: the verdict first, then parts of the traffic with the worst on top, then the books."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich import box
from rich.cells import cell_len
from rich.console import Group
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from traceai_vllm.gateway.decision import Action
from traceai_vllm.release.cells import NOT_ENOUGH, REGRESSED, pairs_seen
from traceai_vllm.release.tables import WORDS
from traceai_vllm.release.wording import change_text, needed_text, printable, verdict_sentence, what_would_change_it

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rich.console import Console, ConsoleOptions, RenderableType, RenderResult

    from traceai_vllm.release.cells import Cell
    from traceai_vllm.release.deciding import Judgement
    from traceai_vllm.release.frame import Scope

    _Line = list[Segment]

_CHANGES = 3
_LEAST_ROWS = 4  # heading, line, one part, and that there are more
_NAME_WIDTH, _BETWEEN = 34, 2
_STYLES = {Action.PROMOTE: "bold green", Action.FALLBACK: "bold red"}
_MORE = "… a larger window shows more"
_HEADINGS = ("part of the traffic", "pairs")


def snapshot(judgement: Judgement) -> Group:
    """Return everything, for a log."""
    return Group(_head(judgement), "", _Parts(judgement), "", _books(judgement))


@dataclass(frozen=True)
class Screen:
    """The same cut to the height of a window: what there is no room for are the parts that are well.

    Attributes:
        judgement: what is shown.
        note: the last line: when it was read, what is going on.
    """

    judgement: Judgement
    note: str

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Render it for rich."""
        height = options.height or console.height

        def lines(part: RenderableType) -> list[list[Segment]]:
            return console.render_lines(part, options.update(height=None))

        head = lines(Group(_head(self.judgement), ""))
        note = Text("\n".join(map(printable, self.note.splitlines())), style="dim")
        foot = lines(Group("", _books(self.judgement), note))
        tables = [lines(table) for table in _tables(self.judgement, options.max_width)]
        room = max(_LEAST_ROWS, height - len(head) - len(foot))
        for line in [*head, *_fitted(tables, room, lines(Text(_MORE, style="dim"))), *foot]:
            yield from line
            yield Segment.line()


def _fitted(tables: list[list[_Line]], room: int, more: list[_Line]) -> list[_Line]:
    """Return as much of the tables as there is room for, of each its beginning; ``more`` says that it is not all."""
    if sum(map(len, tables)) <= room:
        return [line for table in tables for line in table]
    shown = tables[: room // _LEAST_ROWS]
    left, rooms = room - len(more), [0] * len(shown)
    by_length = sorted(range(len(shown)), key=lambda number: len(shown[number]))
    for done, number in enumerate(by_length):  # what short ones leave, long ones get
        rooms[number] = min(len(shown[number]), left // (len(shown) - done))
        left -= rooms[number]
    return [line for table, rows in zip(shown, rooms, strict=True) for line in table[:rows]] + more


@dataclass(frozen=True)
class _Parts:
    """The parts of the traffic; in a narrow window the measures take several tables, so that no name is cut."""

    judgement: Judgement

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Render it for rich."""
        for number, table in enumerate(_tables(self.judgement, options.max_width)):
            if number:
                yield Text("")
            yield table


def _head(judgement: Judgement) -> Text:
    action = judgement.action
    text = Text(printable(verdict_sentence(judgement)), style=_STYLES.get(action, "bold yellow"))
    changes = what_would_change_it(judgement)[:_CHANGES]
    said = [f"action: {action.value}", *(f"would change it: {change}" for change in changes)]
    return text.append("\n" + "\n".join(map(printable, said)), style="not bold default")


def _tables(judgement: Judgement, width: int) -> list[Table]:
    by_scope: dict[Scope, dict[str, Cell]] = {}
    for cell in judgement.comparison.cells:
        if cell.margin is not None:
            by_scope.setdefault(cell.scope, {})[cell.measure.name] = cell
    rows = [
        cells
        for scope, cells in sorted(by_scope.items(), key=lambda item: _rank(*item))
        if len(scope) <= 1 or any(cell.verdict == REGRESSED for cell in cells.values())
    ]
    # Those that are worse come first, as in the report: a small window shows few.
    worse = Counter(name for cells in rows for name, cell in cells.items() if cell.verdict == REGRESSED)
    measures = sorted(dict.fromkeys(name for cells in rows for name in cells), key=lambda name: -worse[name])
    widths = {name: _width([printable(name), *(_brief(cells.get(name)).plain for cells in rows)]) for name in measures}
    names = _width([_HEADINGS[0], *(printable(_name(cells)) for cells in rows)])
    pairs = _width([_HEADINGS[1], *(str(pairs_seen(cells.values())) for cells in rows)])
    taken = min(_NAME_WIDTH, names) + pairs + 2 * _BETWEEN
    return [_table(rows, measures) for measures in _side_by_side(widths, width - taken)]


def _width(texts: Iterable[str]) -> int:
    return max(map(cell_len, texts))


def _side_by_side(widths: dict[str, int], room: int) -> list[list[str]]:
    """Return which columns stand in one table: as many as there is room for, and at least one."""
    groups: list[list[str]] = []
    left = 0
    for name, width in widths.items():
        if not groups or left < width + _BETWEEN:
            groups.append([])
            left = room
        groups[-1].append(name)
        left -= width + _BETWEEN
    return groups


def _table(rows: list[dict[str, Cell]], measures: list[str]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0))
    table.add_column(_HEADINGS[0], overflow="fold", max_width=_NAME_WIDTH)
    table.add_column(_HEADINGS[1], justify="right", no_wrap=True)
    for name in measures:
        table.add_column(Text(printable(name)), overflow="fold")
    for cells in rows:
        if cells.keys() & {*measures}:
            pairs = pairs_seen(cells.values())
            table.add_row(Text(printable(_name(cells))), str(pairs), *(_brief(cells.get(name)) for name in measures))
    return table


def _name(cells: dict[str, Cell]) -> str:
    return next(iter(cells.values())).name


def _rank(scope: Scope, cells: dict[str, Cell]) -> tuple[bool, int, bool]:
    verdicts = {cell.verdict for cell in cells.values()}
    worst = 0 if REGRESSED in verdicts else 1 if NOT_ENOUGH in verdicts else 2
    return bool(scope), worst, len(scope) > 1


def _brief(cell: Cell | None) -> Text:
    if cell is None:
        return Text("")
    word, style = WORDS[cell.verdict]
    said = (change_text(cell).removesuffix(" points"), needed_text(cell))
    return Text(f"{word} {', '.join(filter(None, said))}", style=style)


def _books(judgement: Judgement) -> Text:
    books = judgement.comparison.books
    said = [f"{books.sampled} sampled", f"{books.clean} clean pairs"]
    said += [f"{count} without a pair ({reason})" for reason, count in books.unpaired.items()]
    said += [f"{count} excluded ({reason} differs)" for reason, count in books.excluded.items()]
    said += [f"{count} answers without {tag}" for tag, count in books.untagged.items() if count]
    text = Text(printable("books: " + ", ".join(said)))
    for problem in judgement.books_problems:
        text.append(f"\nover the limit: {printable(problem)}", style="yellow")
    legend = "\nok: not worse by the margin; WORSE: shown; ?: pairs still needed. Fail rates in points."
    return text.append(legend, style="dim")
