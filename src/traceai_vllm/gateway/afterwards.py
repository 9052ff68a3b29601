"""What is done for a request when its user has been answered, and need not be done before the next one is read.

A user's next request may be there as soon as the answer has gone. Spans, metrics and the comparison of a pair take as
long as a third of the gateway's own work on a request: they wait a moment, in which the next request has left for its
server.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

_AFTER_S = 0.002


class Afterwards:
    """Runs what it is given in order, in a moment; each has to catch its own errors."""

    def __init__(self) -> None:
        self._waiting: deque[Callable[[], None]] = deque()
        self._timer: asyncio.TimerHandle | None = None

    def add(self, work: Callable[[], None]) -> None:
        """Run this in a moment."""
        self._waiting.append(work)
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_AFTER_S, self._run)

    def finish(self) -> None:
        """Run now what still waits."""
        while self._waiting:
            self._waiting.popleft()()

    def _run(self) -> None:
        self._timer = None
        self.finish()
