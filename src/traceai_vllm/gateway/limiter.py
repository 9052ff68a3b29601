"""How often a caller may do something: a token bucket for each caller."""

from __future__ import annotations

import time
from collections import OrderedDict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

_CALLERS = 10_000


class Limiter:
    """Lets each caller act at a rate, with bursts of ten seconds' worth.

    Args:
        per_second: how often, over time; read anew each time.
        clock: seconds, monotonic; for tests.
    """

    def __init__(self, per_second: Callable[[], float], clock: Callable[[], float] = time.monotonic) -> None:
        self._per_second = per_second
        self._clock = clock
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()  # what is left, and when that was

    def allows(self, caller: str) -> bool:
        """Return whether a caller may act now, and count it."""
        now, per_second = self._clock(), self._per_second()
        burst = max(1.0, 10 * per_second)
        left, then = self._buckets.pop(caller, (burst, now))
        left = min(burst, left + (now - then) * per_second)
        allowed = left >= 1
        self._buckets[caller] = (left - 1 if allowed else left, now)
        if len(self._buckets) > _CALLERS:
            self._buckets.popitem(last=False)
        return allowed
