"""Keeps the demo's processes from outliving it, whatever ends it."""

from __future__ import annotations

import ctypes
import signal
import sys
from typing import Any


def dies_with_parent() -> None:
    """Ask Linux, in a process that is about to start, to end it when its parent dies."""
    set_parent_death_signal = 1
    ctypes.CDLL(None).prctl(set_parent_death_signal, signal.SIGTERM)


def exit_on_terminate() -> None:
    """Make SIGTERM leave through the ``with`` blocks, like Ctrl-C does."""

    def leave(number: int, _frame: Any) -> None:
        sys.exit(128 + number)

    signal.signal(signal.SIGTERM, leave)
