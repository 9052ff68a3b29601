"""The mirror's books: what became of every sampled request.

For each route and target, at any moment::

    sampled = paired + candidate_error + primary_error + dropped{reason} + in_flight

A request is booked when it is sampled (:meth:`Books.sample` gives a ticket) and once more when its ticket is settled.
Counts are 8-byte words in a memory-mapped file: they are the kernel's as soon as they are written, so ``kill -9`` loses
none of them. What was in flight then is found at the next start, and booked as ``dropped{reason="killed"}``. The disk's
room for them is taken beforehand: a store to a page that the disk has no room for would end the process (SIGBUS).
"""

from __future__ import annotations

import fcntl
import logging
import mmap
import os
import struct
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

_log = logging.getLogger("traceai_vllm.gateway")

SAMPLED = "sampled"
PAIRED = "paired"
CANDIDATE_ERROR = "candidate_error"
PRIMARY_ERROR = "primary_error"
DROPPED = "dropped"
KILLED = "killed"

CANDIDATE = "candidate"
REPEAT = "baseline_repeat"

_MAGIC = b"traceai books 1\n".ljust(64, b"\0")
_COUNT = struct.Struct("<Q")
_KEY_LENGTH = 248
_RECORD_LENGTH = _COUNT.size + _KEY_LENGTH
_BLOCK = 256 * _RECORD_LENGTH


class Entry(NamedTuple):
    """What one count is of.

    Attributes:
        route: the route.
        target: ``candidate``, or ``baseline_repeat`` for the noise floor.
        outcome: ``sampled``, ``paired``, ``candidate_error``, ``primary_error`` or ``dropped``.
        reason: why it was dropped; empty for the others.
        decile: of what was dropped, the decile of its prompt's length (1 to 10); empty when unknown.
    """

    route: str
    target: str
    outcome: str
    reason: str = ""
    decile: str = ""


class BooksError(RuntimeError):
    """The file of the books cannot be used."""


@dataclass
class Balance:
    """The books of one route and target."""

    sampled: int
    paired: int
    candidate_error: int
    primary_error: int
    dropped: dict[str, int]
    in_flight: int

    @property
    def difference(self) -> int:
        """What is missing from the books: 0."""
        settled = self.paired + self.candidate_error + self.primary_error + sum(self.dropped.values())
        return self.sampled - settled - self.in_flight


class Ticket:
    """A sampled request in the books; the first settlement counts."""

    __slots__ = ("_books", "_decile", "_route", "_target", "settled")

    def __init__(self, books: Books, route: str, target: str, decile: str) -> None:
        self._books = books
        self._route = route
        self._target = target
        self._decile = decile
        self.settled = False

    def settle(self, outcome: str, reason: str = "") -> None:
        """Book what became of it; ``reason`` goes with ``dropped``."""
        if self.settled:
            return
        self.settled = True
        decile = self._decile if outcome == DROPPED else ""
        self._books.settle(Entry(self._route, self._target, outcome, reason, decile))


class Books:
    """The books of one gateway process.

    Args:
        path: the file; None keeps them in memory alone.

    Raises:
        BooksError: another process has the file, it is none of ours, or the disk has no room for it.
    """

    def __init__(self, path: str | os.PathLike[str] | None = None) -> None:
        self._file = -1 if path is None else _open(path)
        self._size = len(_MAGIC) + _BLOCK
        if self._file >= 0:
            self._size = max(self._size, os.fstat(self._file).st_size)
            try:
                os.posix_fallocate(self._file, 0, self._size)
            except OSError as error:
                os.close(self._file)
                raise BooksError(f"the books cannot be kept in {path}: {error.strerror}") from None
        self._map = mmap.mmap(self._file, self._size)
        self._counts: dict[Entry, int] = {}
        self._offsets: dict[Entry, int] = {}
        self._in_flight: Counter[tuple[str, str]] = Counter()
        self._end = len(_MAGIC)
        self._no_room = False
        self._read(path)
        self._settle_lost()

    def sample(self, route: str, target: str, decile: str = "") -> Ticket:
        """Book a sampled request, and return its ticket."""
        self._in_flight[route, target] += 1
        self._add(Entry(route, target, SAMPLED))
        return Ticket(self, route, target, decile)

    def settle(self, entry: Entry) -> None:
        """Book what became of a sampled request; for tickets."""
        self._in_flight[entry.route, entry.target] -= 1
        self._add(entry)

    def entries(self) -> dict[Entry, int]:
        """Return all counts."""
        return dict(self._counts)

    def in_flight(self) -> dict[tuple[str, str], int]:
        """Return how many sampled requests have no outcome yet, by route and target; counted on its own."""
        return dict(self._in_flight)

    def balances(self) -> dict[tuple[str, str], Balance]:
        """Return the books of each route and target."""
        made: dict[tuple[str, str], Balance] = {}
        for entry, count in self._counts.items():
            key = (entry.route, entry.target)
            balance = made.setdefault(key, Balance(0, 0, 0, 0, {}, self._in_flight[key]))
            if entry.outcome == DROPPED:
                balance.dropped[entry.reason] = balance.dropped.get(entry.reason, 0) + count
            else:
                setattr(balance, entry.outcome, count)
        return made

    def close(self) -> None:
        """Give the file up; counts can still be read."""
        if not self._map.closed:
            self._map.flush()
            self._map.close()
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def _add(self, entry: Entry, amount: int = 1) -> None:
        count = self._counts[entry] = self._counts.get(entry, 0) + amount
        offset = self._offsets.get(entry)
        if offset is None:
            offset = self._new_record(entry)
        if offset is not None:
            _COUNT.pack_into(self._map, offset, count)

    def _new_record(self, entry: Entry) -> int | None:
        """Return where the count stands in the file; None while the disk has no room for it."""
        key = "\t".join(entry).encode()
        if len(key) > _KEY_LENGTH:
            raise BooksError(f"{entry} is too long for the books")
        if self._end + _RECORD_LENGTH > self._size and not self._grow():
            return None
        offset, self._end = self._end, self._end + _RECORD_LENGTH
        self._map[offset + _COUNT.size : offset + _COUNT.size + len(key)] = key
        self._offsets[entry] = offset
        return offset

    def _grow(self) -> bool:
        size = self._size + _BLOCK
        if self._file >= 0:
            try:
                os.posix_fallocate(self._file, 0, size)
            except OSError as error:
                if not self._no_room:
                    _log.error("New counts of the books are in memory alone until their file can grow: %s", error)
                self._no_room = True
                return False
        self._no_room = False
        old = bytes(self._map)
        self._map.close()
        self._size = size
        self._map = mmap.mmap(self._file, size)
        if self._file < 0:
            self._map[: len(old)] = old
        return True

    def _read(self, path: object) -> None:
        head = self._map[: len(_MAGIC)]
        if head == bytes(len(_MAGIC)):
            self._map[: len(_MAGIC)] = _MAGIC
        elif head != _MAGIC:
            raise BooksError(f"{path} holds something else than a gateway's books; name another file")
        for offset, key, count in self._records():
            parts = key.split("\t")
            if len(parts) != len(Entry._fields):
                raise BooksError(f"{path} is damaged at byte {offset}: move it away, and the books begin anew")
            entry = Entry(*parts)
            self._counts[entry] = count
            self._offsets[entry] = offset
            self._end = offset + _RECORD_LENGTH

    def _records(self) -> Iterator[tuple[int, str, int]]:
        for offset in range(len(_MAGIC), self._size - _RECORD_LENGTH + 1, _RECORD_LENGTH):
            key = self._map[offset + _COUNT.size : offset + _RECORD_LENGTH].rstrip(b"\0")
            if not key:
                return
            yield offset, key.decode("utf-8", "replace"), _COUNT.unpack_from(self._map, offset)[0]

    def _settle_lost(self) -> None:
        for (route, target), balance in self.balances().items():
            if balance.difference > 0:
                self._add(Entry(route, target, DROPPED, KILLED), balance.difference)


def _open(path: str | os.PathLike[str]) -> Any:
    try:
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise BooksError(f"the books cannot be kept in {path}: {error.strerror}") from None
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(file)
        raise BooksError(f"another gateway keeps its books in {path}; give each process a file of its own") from None
    return file
