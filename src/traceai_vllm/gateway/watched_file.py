"""Reads a file that a running gateway watches, such that no file in its place can hold up users."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

_MAX_BYTES = 4 * 1024 * 1024


def read_watched_file(path: Path) -> bytes:
    """Return the content of a file, without waiting for a writer, and without taking in what is no such file.

    Raises:
        OSError: it cannot be read.
        ValueError: it is a pipe or a device, or has more than 4 MiB.
    """
    with open(path, "rb", opener=_without_waiting) as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise ValueError("it is no regular file")
        content = file.read(_MAX_BYTES + 1)
    if len(content) > _MAX_BYTES:
        raise ValueError(f"it has more than {_MAX_BYTES:,} bytes")
    return content


def _without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)
