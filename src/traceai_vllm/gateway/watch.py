"""Notices that a file has changed, also where it is replaced, appears, or goes away."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING

from traceai_vllm.guard import Guard

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

# A decision is to be obeyed within a second.
INTERVAL_S = 0.25
_CHANGED = Guard("taking a changed file into force")


async def watch(path: Path, changed: Callable[[], None]) -> None:
    """Call a function each time that a file has changed, until cancelled.

    The file's state is looked up and compared: that also sees Kubernetes' links to mounted configuration, and files on
    network drives, which send no notifications.
    """
    before = _state(path)
    while True:
        await asyncio.sleep(INTERVAL_S)
        now = _state(path)
        if now != before:
            before = now
            with _CHANGED:  # whatever is wrong with this one, the next change is to be seen
                changed()


def _state(path: Path) -> tuple[int, ...] | None:
    try:
        state = os.stat(path)
    except OSError:
        return None
    return (state.st_dev, state.st_ino, state.st_size, state.st_mtime_ns)
