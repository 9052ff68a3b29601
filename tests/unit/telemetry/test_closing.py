"""Ending telemetry takes bounded time, whatever the exporters do."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest

from traceai_vllm.telemetry.closing import Closer, close_all, run_all

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def stuck() -> Iterator[threading.Event]:
    """An event that nobody sets until the test is over: waiting for it is a collector that never answers."""
    event = threading.Event()
    yield event
    event.set()


def test_closers_run_when_asked_and_not_before() -> None:
    """A closer waits; once asked, it runs once, however often it is asked."""
    ran = []
    closer = Closer("test", lambda: ran.append(1))
    assert ran == []
    assert close_all([closer], 30)
    assert close_all([closer], 30)
    assert ran == [1]


def test_a_stuck_provider_neither_blocks_nor_starves_the_others(stuck) -> None:
    """One exporter that hangs costs the time limit, and the other providers are ended all the same."""
    ran = threading.Event()
    closers = [Closer("stuck", stuck.wait), Closer("fine", ran.set)]
    assert not close_all(closers, 0.05)
    assert closers[1].wait(30)
    assert ran.is_set()


@pytest.mark.internal_errors_expected
def test_a_provider_that_raises_counts_as_ended() -> None:
    """An exception in a provider's shutdown goes no further."""

    def broken() -> None:
        raise RuntimeError("broken")

    assert close_all([Closer("broken", broken)], 30)


def test_a_flush_says_whether_all_was_sent(stuck) -> None:
    """True only if every call returned True in time."""
    assert run_all([], 1)
    assert run_all([lambda: True, lambda: True], 30)
    assert not run_all([lambda: True, lambda: False], 30)
    assert not run_all([lambda: True, stuck.wait], 0.05)


@pytest.mark.internal_errors_expected
def test_a_flush_that_raises_is_a_flush_that_failed() -> None:
    """An exception in a provider's flush goes no further."""

    def broken() -> bool:
        raise RuntimeError("broken")

    assert not run_all([broken], 30)


def test_where_no_thread_can_be_started_a_flush_fails(monkeypatch) -> None:
    """While Python exits (3.12 and later) a flush returns False instead of raising."""

    def refuse(self: threading.Thread) -> None:
        raise RuntimeError("can't create new thread at interpreter shutdown")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    assert not run_all([lambda: True], 30)
