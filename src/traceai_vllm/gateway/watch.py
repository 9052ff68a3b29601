"""Notices that a file has changed, also where it is replaced, appears, or goes away."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING

from traceai_vllm.guard import Guard

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    State = tuple[int, ...] | None

# A decision is to be obeyed within a second.
INTERVAL_S = 0.25
_CHANGED = Guard("taking a changed file into force")


async def watch(path: Path, before: State, changed: Callable[[], None]) -> None:
    """Call a function each time that a file has changed, until cancelled.

    The file's state is looked up and compared: that also sees Kubernetes' links to mounted configuration, and files on
    network drives, which send no notifications.

    Args:
        path: the file.
        before: its state before it was last read.
        changed: is called.
    """
    while True:
        await asyncio.sleep(INTERVAL_S)
        now = state_of(path)
        if now != before:
            before = now
            with _CHANGED:  # whatever is wrong with this one, the next change is to be seen
                changed()


def state_of(path: Path) -> State:
    """Return what is another when a file has changed, or may now be read; None when there is no file."""
    try:
        state = os.stat(path)
    except OSError:
        return None
    return (state.st_dev, state.st_ino, state.st_size, state.st_mtime_ns, state.st_ctime_ns)
