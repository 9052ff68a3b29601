"""A judgement on one screen: the verdict first, then parts of the traffic with the worst on top, then the books."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich import box
from rich.console import Group
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from traceai_vllm.gateway.decision import Action
from traceai_vllm.release.cells import NOT_ENOUGH, REGRESSED, pairs_seen
from traceai_vllm.release.tables import WORDS
from traceai_vllm.release.wording import change_text, printable, verdict_sentence, what_would_change_it

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderableType, RenderResult

    from traceai_vllm.release.cells import Cell
    from traceai_vllm.release.deciding import Judgement
    from traceai_vllm.release.frame import Scope

_CHANGES = 3
_LEAST_ROWS = 3
_STYLES = {Action.PROMOTE: "bold green", Action.FALLBACK: "bold red"}
_MORE = "… a taller window shows more parts"


def snapshot(judgement: Judgement) -> Group:
    """Return everything, for a log."""
    return Group(_head(judgement), "", _parts(judgement), "", _books(judgement))


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

        head, body = lines(Group(_head(self.judgement), "")), lines(_parts(self.judgement))
        note = Text("\n".join(map(printable, self.note.splitlines())), style="dim")
        foot = lines(Group("", _books(self.judgement), note))
        room = max(_LEAST_ROWS, height - len(head) - len(foot))
        if len(body) > room:
            body = body[: room - 1] + lines(Text(_MORE, style="dim"))[:1]
        for line in [*head, *body, *foot]:
            yield from line
            yield Segment.line()


def _head(judgement: Judgement) -> Text:
    action = judgement.action
    text = Text(printable(verdict_sentence(judgement)), style=_STYLES.get(action, "bold yellow"))
    changes = what_would_change_it(judgement)[:_CHANGES]
    said = [f"action: {action.value}", *(f"would change it: {change}" for change in changes)]
    return text.append("\n" + "\n".join(map(printable, said)), style="not bold default")


def _parts(judgement: Judgement) -> Table:
    by_scope: dict[Scope, dict[str, Cell]] = {}
    for cell in judgement.comparison.cells:
        if cell.margin is not None:
            by_scope.setdefault(cell.scope, {})[cell.measure.name] = cell
    names = list(dict.fromkeys(name for cells in by_scope.values() for name in cells))
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0))
    table.add_column("part of the traffic", overflow="fold")
    table.add_column("pairs", justify="right", no_wrap=True)
    for name in names:
        table.add_column(Text(printable(name)), overflow="fold")
    for scope, cells in sorted(by_scope.items(), key=lambda item: _rank(*item)):
        if len(scope) <= 1 or any(cell.verdict == REGRESSED for cell in cells.values()):
            pairs = pairs_seen(cells.values())
            name = next(iter(cells.values())).name
            table.add_row(Text(printable(name)), str(pairs), *(_brief(cells.get(measure)) for measure in names))
    return table


def _rank(scope: Scope, cells: dict[str, Cell]) -> tuple[bool, int, bool]:
    verdicts = {cell.verdict for cell in cells.values()}
    worst = 0 if REGRESSED in verdicts else 1 if NOT_ENOUGH in verdicts else 2
    return bool(scope), worst, len(scope) > 1


def _brief(cell: Cell | None) -> Text:
    if cell is None:
        return Text("")
    word, style = WORDS[cell.verdict]
    needed = cell.evidence.pairs_needed
    more = f", {needed} more" if cell.verdict == NOT_ENOUGH and needed is not None else ""
    return Text(f"{word} {change_text(cell).removesuffix(' points')}{more}", style=style)


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
