"""A circuit breaker: after failures in a row a server is left alone for a while, then tried once."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

FAILURES = 5
REST_S = 10.0


class Breaker:
    """Counts a server's failures.

    Args:
        clock: seconds, monotonic; for tests.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._failures = 0
        self._open_until = 0.0

    def allows(self) -> bool:
        """Whether a request may be sent now. After the rest one may be; the others wait for what becomes of it."""
        if self._failures < FAILURES:
            return True
        if self._clock() < self._open_until:
            return False
        self._open_until = self._clock() + REST_S
        return True

    def note(self, failed: bool) -> None:
        """Take in how a request went."""
        if not failed:
            self._failures = 0
            return
        self._failures += 1
        if self._failures == FAILURES:
            self._open_until = self._clock() + REST_S
