"""The files of a span store: segments that one process each appends to, and their removal for space.

A segment is called ``spans-<UTC time>-<pid>-<random>.jsonl``, so names sort by age. Its writer holds a
``flock`` on it, by which others know that it is still open; the kernel drops the lock with the process,
however that ends.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import secrets
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path
    from typing import BinaryIO

PATTERN = "spans-*.jsonl"
LEDGER = "removed.jsonl"
_READ_BYTES = 1024 * 1024
_ATTEMPTS = 8


class Segment:
    """A new file in ``directory``, open for appending by this process alone.

    Args:
        directory: the store.
        kind: what its lines are; the name begins with it.

    Raises:
        OSError: the directory or the file cannot be made.
    """

    def __init__(self, directory: Path, kind: str = "spans") -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.size = 0
        self._pid = os.getpid()
        # Before it is locked, another process may take the new file for one that nobody writes to, and remove it.
        for _ in range(_ATTEMPTS):
            if self._open(directory, kind):
                return
            os.close(self._fd)
        self._open(directory, kind)

    def _open(self, directory: Path, kind: str) -> bool:
        """Make a file and lock it; return whether it is still there, and is nobody else's."""
        self.path = directory / f"{kind}-{_utc_now()}-{os.getpid()}-{secrets.token_hex(4)}.jsonl"
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC
        self._fd = os.open(self.path, flags, 0o666)
        status = os.fstat(self._fd)
        self._identity = (status.st_dev, status.st_ino)
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError:  # a file system without locks: its segments count as closed
            pass
        return self.usable

    @property
    def usable(self) -> bool:
        """Whether it can be appended to: opened by this very process, still open, and deleted by no one."""
        status = self._status()
        return status is not None and status.st_nlink > 0

    def append(self, data: bytes) -> None:
        """Append whole lines.

        Raises:
            OSError: the data could not be written; no part of it is left in the file.
        """
        written = 0
        view = memoryview(data)
        try:
            while written < len(data):
                count = os.write(self._fd, view[written:])
                if count == 0:
                    raise OSError(errno.EIO, "the file takes no more bytes")
                written += count
        except OSError:
            if written:
                self._roll_back()
            raise
        self.size += len(data)

    def close(self) -> None:
        """Close the file, if this process opened it; in a forked child the parent's file stays as it is."""
        if self._status() is not None:
            os.close(self._fd)
        self._fd = -1

    def _status(self) -> os.stat_result | None:
        # The descriptor alone proves nothing: a daemon closes every one, and the number comes back for
        # another file.
        if self._pid != os.getpid():
            return None
        try:
            status = os.fstat(self._fd)
        except OSError:
            return None
        return status if (status.st_dev, status.st_ino) == self._identity else None

    def _roll_back(self) -> None:
        try:
            os.ftruncate(self._fd, self.size)
        except OSError:
            # The half line stays, so nothing more may follow it: the next lines go to a new file.
            self.close()


@dataclass(frozen=True, slots=True)
class Removed:
    """How many segments were removed for space, and how many spans they held."""

    segments: int = 0
    spans: int = 0


def segments_in(directory: Path) -> list[Path]:
    """Return the segments of a store, oldest first."""
    return sorted(directory.glob(PATTERN))


def make_room(directory: Path, allowed_bytes: int) -> Removed:
    """Remove the oldest closed segments until the others take at most ``allowed_bytes``.

    Segments that a live process has open are kept. Each removal is written down in ``removed.jsonl``.

    Raises:
        OSError: the directory cannot be listed.
    """
    sizes = {path: _size(path) for path in segments_in(directory)}
    total = sum(sizes.values())
    segments = spans = 0
    for path, size in sizes.items():
        if total <= allowed_bytes:
            break
        lines = _remove_if_closed(path)
        if lines is not None:
            total -= size
            segments += 1
            spans += lines
    return Removed(segments, spans)


def removed_spans(directory: Path) -> int:
    """Return how many spans were ever removed from a store for space, by any process."""
    try:
        lines = (directory / LEDGER).read_bytes().splitlines()
    except OSError:
        return 0
    total = 0
    for line in lines:
        with suppress(ValueError, KeyError, TypeError):
            total += int(json.loads(line)["spans"])
    return total


def _remove_if_closed(path: Path) -> int | None:
    """Remove a segment that no process has open; return how many spans it held, or None when it was kept."""
    try:
        with path.open("rb") as file:
            if _open_elsewhere(file):
                return None
            spans = sum(block.count(b"\n") for block in iter(lambda: file.read(_READ_BYTES), b""))
            path.unlink()
    except OSError:  # already gone, or not ours to remove
        return None
    _note_removal(path, spans)
    return spans


def _open_elsewhere(file: BinaryIO) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # a file system without locks
        return False
    return False


def _note_removal(path: Path, spans: int) -> None:
    entry = {"segment": path.name, "spans": spans, "removed_at": _utc_now()}
    with suppress(OSError), (path.parent / LEDGER).open("a", encoding="utf-8") as ledger:
        ledger.write(json.dumps(entry) + "\n")


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _utc_now() -> str:
    return datetime.now(timezone.utc).strftime("%Y%m%dT%H%M%S.%fZ")
