"""Counts good and bad events of the last seconds, for burn rates."""

from __future__ import annotations

import time
from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

_SLOTS = 60


class Window:
    """The events of the last so many seconds, in 60 slots.

    Args:
        span_s: how long it is, in seconds.
        clock: seconds, monotonic; for tests.
    """

    def __init__(self, span_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.span_s = span_s
        self._slot_s = span_s / _SLOTS
        self._clock = clock
        self._slots: deque[list[int]] = deque()  # number of the slot, events, bad ones
        self._events = 0
        self._bad = 0

    def add(self, events: int, bad: int) -> None:
        """Count events, of which some are bad."""
        self._forget()
        number = int(self._clock() / self._slot_s)
        if not self._slots or self._slots[-1][0] != number:
            self._slots.append([number, 0, 0])
        self._slots[-1][1] += events
        self._slots[-1][2] += bad
        self._events += events
        self._bad += bad

    def counts(self) -> tuple[int, int]:
        """Return how many events there are, and how many of them are bad."""
        self._forget()
        return self._events, self._bad

    def _forget(self) -> None:
        oldest = int(self._clock() / self._slot_s) - _SLOTS
        while self._slots and self._slots[0][0] <= oldest:
            _, events, bad = self._slots.popleft()
            self._events -= events
            self._bad -= bad


class Burn:
    """How fast a budget of bad events is used up, over two windows.

    Args:
        short_s: the short window, in seconds.
        long_s: the long window, in seconds.
        clock: seconds, monotonic; for tests.
    """

    def __init__(self, short_s: float, long_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.short = Window(short_s, clock)
        self.long = Window(long_s, clock)

    def add(self, events: int, bad: int) -> None:
        """Count events, of which some are bad."""
        self.short.add(events, bad)
        self.long.add(events, bad)

    def exceeds(self, budget: float, rate: float, at_least: int) -> bool:
        """Return whether the budget is used up that many times too fast.

        Args:
            budget: the share of events that may be bad.
            rate: how many times the budget is too much.
            at_least: how many events the long window has to have.
        """
        events, bad = self.long.counts()
        return events >= at_least and bad > 0 and _over(bad, events, budget * rate) and self._short_over(budget * rate)

    def _short_over(self, share: float) -> bool:
        events, bad = self.short.counts()
        return bad > 0 and _over(bad, events, share)


def _over(bad: int, events: int, share: float) -> bool:
    # Feedback is bad without being an event of its own, so there may be more bad than events.
    return bad >= max(events, bad) * min(1.0, share)
