"""``traceai-vllm watch``: the comparison as it grows, live in the terminal."""

from __future__ import annotations

import signal
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

from traceai_vllm.cli.comparing import EXTRA, SOURCES, add_arguments, as_of, judge, read
from traceai_vllm.cli.numbers import check_above
from traceai_vllm.cli.refusal import refuse

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterator

    from traceai_vllm.release import Judgement

_DESCRIPTION = f"""\
Follow the comparison while pairs come in: the verdict, what would change it, every guarded part of the traffic with the
pairs that it still needs, and the books. The spans are read again when they have changed; looking often costs nothing,
unless the policy says `mode: fixed`. Where standard output is no terminal, each change is printed once, as a log.

{SOURCES}"""
_EPILOG = """\
exit code:
  0  it was ended, by Ctrl-C or a signal; or --once is done
  2  the spans or the policy cannot be used, or a library is missing

examples:
  traceai-vllm watch spans/ --policy policy.yaml
  traceai-vllm watch spans/ --policy policy.yaml --every 60 >> watch.log     a line of time and the tables, per change
  traceai-vllm watch spans/ --policy policy.yaml --once                      as it is now, on one screen
"""
_REFRESHES_PER_SECOND = 2
_LOG_WIDTH = 160


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.description = _DESCRIPTION
    parser.epilog = _EPILOG
    add_arguments(parser)
    parser.add_argument("--every", type=_seconds, default=5.0, metavar="SECONDS", help="between looks (default: 5)")
    parser.add_argument("--once", action="store_true", help="print it as it is now, and end")


def run(arguments: argparse.Namespace) -> int:
    """Watch until a signal ends it, and return the exit code."""
    with _until_ended() as ended:
        seen = _files(arguments)  # before they are read: what is written meanwhile is a change
        try:
            first = judge(arguments)  # what cannot be used at the beginning is an error, as everywhere
            from traceai_vllm.release.live import Screen, snapshot
        except (ImportError, OSError, ValueError) as error:
            return refuse("watch", error, EXTRA)
        watching = _Watching(arguments, first, ended, seen)
        if arguments.once or not sys.stdout.isatty():
            _log(watching, snapshot, once=arguments.once)
        else:
            _live(watching, Screen)
    return 0


@dataclass
class _Watching:
    """What was read last, and how to read it again.

    Attributes:
        arguments: the command line.
        judgement: what was read last.
        ended: whether a signal came.
        seen: what the last reading depended on, as it was before; None where that cannot be told.
        failed: why the last reading failed; empty when it did not.
    """

    arguments: argparse.Namespace
    judgement: Judgement
    ended: Callable[[], bool]
    seen: object
    failed: str = ""

    def __post_init__(self) -> None:
        self._when = datetime.now(timezone.utc)

    def again(self, tell: Callable[[str], None]) -> None:
        """Wait, and read again what has changed."""
        time.sleep(self.arguments.every)
        files = _files(self.arguments)
        if files is not None and files == self.seen:
            self._age()
            return
        self.seen = files
        try:
            self.judgement, self.failed = read(self.arguments, tell)[0], ""
        except Exception as error:  # a file is half written, a database is away: the next look may find it well
            if self.ended():
                raise KeyboardInterrupt from None  # DuckDB reports a signal as an error of its own
            self.failed, self.seen = str(error).partition("\n")[0], None
        self._when = datetime.now(timezone.utc)

    def _age(self) -> None:
        # Nothing new is no news, but for evidence that grows too old.
        from traceai_vllm.release import Judgement

        comparison = self.judgement.comparison
        moment = as_of(self.arguments, comparison.policy)
        if moment not in (None, self.judgement.as_of_ns):
            self.judgement = Judgement(comparison, moment)

    def note(self) -> str:
        """Return when it was read, and what comes next."""
        said = f"read at {self._when:%H:%M:%S} UTC, looks again every {self.arguments.every:g} s; Ctrl-C ends"
        return f"could not be read, this is from before: {self.failed}\n{said}" if self.failed else said


def _live(watching: _Watching, screen: Callable[[Judgement, str], Any]) -> None:
    from rich.console import Console
    from rich.live import Live

    from traceai_vllm.release.wording import printable, verdict_sentence

    console = Console()

    def shown(note: str) -> Any:
        return screen(watching.judgement, note)

    try:
        with Live(
            shown(watching.note()), console=console, screen=True, refresh_per_second=_REFRESHES_PER_SECOND
        ) as live:
            while True:
                watching.again(lambda step: live.update(shown(f"{step} …")))
                live.update(shown(watching.note()), refresh=True)
    finally:
        # The screen is as it was before: what it came to stays.
        console.print(printable(verdict_sentence(watching.judgement)), markup=False, highlight=False)


def _log(watching: _Watching, snapshot: Callable[[Judgement], Any], *, once: bool) -> None:
    from rich.console import Console

    console = Console(width=None if sys.stdout.isatty() else _LOG_WIDTH, highlight=False)
    before = ""
    while True:
        with console.capture() as captured:
            console.print(snapshot(watching.judgement))
        text = captured.get() + (f"could not be read: {watching.failed}\n" if watching.failed else "")
        if text != before:
            print(f"{datetime.now(timezone.utc):%Y-%m-%dT%H:%M:%SZ}\n{text}", flush=True)
            before = text
        if once:
            return
        watching.again(lambda step: None)


@contextmanager
def _until_ended() -> Iterator[Callable[[], bool]]:
    """Run the body until it ends or a signal comes, which is no error."""
    came: list[int] = []

    def end(number: int, frame: object) -> None:
        came.append(number)
        raise KeyboardInterrupt

    before = {number: signal.signal(number, end) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: bool(came)
    except KeyboardInterrupt:
        pass
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _files(arguments: argparse.Namespace) -> object:
    """What the next reading depends on; None where that cannot be told without reading."""
    if "://" in arguments.store:
        return None
    found = []
    for place in (Path(arguments.policy), Path(arguments.store)):
        for file in sorted(place.rglob("*")) if place.is_dir() else [place]:
            try:
                status = file.stat()
            except OSError:
                continue
            found.append((str(file), status.st_size, status.st_mtime_ns))
    return found


def _seconds(text: str) -> float:
    import argparse

    try:
        seconds = float(text)
        check_above("", seconds, 0)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no time: write seconds, above 0") from None
    return seconds
