"""The books add up whatever happens, and outlive the process."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st

from traceai_vllm.gateway import books as book
from traceai_vllm.gateway.books import Books, BooksError
from traceai_vllm.gateway.breaker import FAILURES, REST_S, Breaker
from traceai_vllm.gateway.budget import Budget, Hold
from traceai_vllm.gateway.deciles import Deciles

OUTCOMES = st.sampled_from(
    [
        (book.PAIRED, ""),
        (book.CANDIDATE_ERROR, ""),
        (book.PRIMARY_ERROR, ""),
        (book.DROPPED, "queue_full"),
        (book.DROPPED, "no_room"),
        None,
    ]
)
STEPS = st.lists(st.tuples(st.sampled_from(["a", "b"]), st.sampled_from([book.CANDIDATE, book.REPEAT]), OUTCOMES))


@given(STEPS)
def test_the_books_add_up_at_every_moment_and_after_a_crash(
    steps: list[tuple[str, str, tuple[str, str] | None]],
) -> None:
    """Some requests never end; the next process finds them, once, and books them as killed."""
    with TemporaryDirectory() as directory:
        path = Path(directory) / "books"
        books, open_requests = Books(path), 0
        for route, target, outcome in steps:
            ticket = books.sample(route, target, "3")
            if outcome is None:
                open_requests += 1
            else:
                ticket.settle(*outcome)
                ticket.settle(book.PAIRED)  # the first one counts
            assert all(balance.difference == 0 for balance in books.balances().values())
        assert sum(books.in_flight().values()) == open_requests
        books._map.close()  # as kill -9 leaves it: nothing is flushed or settled
        books.close()
        for _ in range(2):
            again = Books(path)
            balances = again.balances().values()
            assert all(balance.difference == balance.in_flight == 0 for balance in balances)
            assert sum(balance.sampled for balance in balances) == len(steps)
            assert sum(balance.dropped.get(book.KILLED, 0) for balance in balances) == open_requests
            again.close()


def test_there_is_room_for_as_many_counts_as_there_are(tmp_path: Path) -> None:
    """The file grows."""
    books = Books(tmp_path / "books")
    for number in range(600):
        books.sample(f"route-{number}", book.CANDIDATE, "1").settle(book.DROPPED, "queue_full")
    books.close()
    again = Books(tmp_path / "books")
    assert len(again.balances()) == 600
    again.close()


def full_disk(file: int, start: int, length: int) -> None:
    """Stand for ``os.posix_fallocate`` on a full disk."""
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_the_disks_room_is_taken_beforehand(tmp_path: Path) -> None:
    """A store to a page of a sparse file, on a disk that is full by then, would kill the gateway (SIGBUS)."""
    path = tmp_path / "books"
    books = Books(path)
    for number in range(2):
        assert path.stat().st_blocks * 512 >= path.stat().st_size
        for reason in range(number * 300, 300):
            books.sample("support", book.CANDIDATE).settle(book.DROPPED, f"reason {reason}")  # the file grows
    books.close()


def test_a_full_disk_is_said_at_the_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the file's name, as an error of the books."""
    monkeypatch.setattr(os, "posix_fallocate", full_disk)
    with pytest.raises(BooksError, match=r"kept in .*books: No space left on device"):
        Books(tmp_path / "books")


def test_on_a_full_disk_new_counts_are_kept_in_memory_until_there_is_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Said once; the books add up all the while, and what has a place in the file goes on to be written there."""
    books = Books(tmp_path / "books")
    with monkeypatch.context() as disk:
        disk.setattr(os, "posix_fallocate", full_disk)
        for reason in range(600):
            books.sample("support", book.CANDIDATE).settle(book.DROPPED, f"reason {reason}")
    [balance] = books.balances().values()
    assert (balance.sampled, len(balance.dropped), balance.difference) == (600, 600, 0)
    assert [record.message.count("No space left on device") for record in caplog.records] == [1]
    for reason in range(600):
        books.sample("support", book.CANDIDATE).settle(book.DROPPED, f"reason {reason}")
    books.close()
    again = Books(tmp_path / "books")
    [balance] = again.balances().values()
    assert (balance.sampled, set(balance.dropped.values()), balance.difference) == (1200, {2}, 0)
    again.close()


def test_two_processes_do_not_share_a_file(tmp_path: Path) -> None:
    """They would overwrite each other's counts."""
    books = Books(tmp_path / "books")
    with pytest.raises(BooksError, match="give each process a file of its own"):
        Books(tmp_path / "books")
    books.close()


def test_a_file_of_somebody_else_is_left_alone(tmp_path: Path) -> None:
    """Named by mistake."""
    path = tmp_path / "notes"
    path.write_bytes(b"my notes" * 100)
    with pytest.raises(BooksError, match="something else"):
        Books(path)
    assert path.read_bytes()[:800] == b"my notes" * 100


@pytest.mark.parametrize("damage", [b"\xff" * 20, b"a\tb"])
def test_a_damaged_file_is_named(tmp_path: Path, damage: bytes) -> None:
    """With what to do; not with an error of Python's."""
    path = tmp_path / "books"
    books = Books(path)
    books.sample("support", book.CANDIDATE).settle(book.PAIRED)
    books.close()
    content = path.read_bytes()
    path.write_bytes(content.replace(b"support\tcandidate\tsampled\t\t", damage.ljust(27, b"\0")))
    with pytest.raises(BooksError, match=r"is damaged at byte 64: move it away"):
        Books(path)


@given(st.lists(st.integers(0, 60)))
def test_a_budget_is_never_exceeded_and_all_of_it_comes_back(sizes: list[int]) -> None:
    """However the requests come."""
    budget = Budget(100)
    holds = [Hold(budget) for _ in sizes]
    for hold, size in zip(holds, sizes, strict=True):
        before = budget.used
        assert hold.grow(size) == (before + size <= 100)
        assert budget.used <= 100
    for hold in (*holds, *holds):
        hold.release()
    assert budget.used == 0


def test_deciles_follow_the_lengths() -> None:
    """Unknown at first; then a tenth of the prompts in each."""
    deciles = Deciles()
    assert {deciles(length) for length in range(99)} == {""}
    deciles(99)
    assert (deciles(0), deciles(45), deciles(1000)) == ("1", "5", "10")


def test_a_circuit_opens_after_failures_in_a_row_and_tries_again() -> None:
    """One request after the rest; the next ones wait for what becomes of it."""
    now = 0.0
    breaker = Breaker(lambda: now)
    for failed in [True] * (FAILURES - 1) + [False] + [True] * FAILURES:
        assert breaker.allows()
        breaker.note(failed)
    assert not breaker.allows()
    now = REST_S
    assert [breaker.allows(), breaker.allows()] == [True, False]
    breaker.note(failed=False)
    assert breaker.allows()
