"""How many bytes the gateway keeps for pairs and spans: one budget, and a hold on it for each request."""

from __future__ import annotations


class Budget:
    """Bytes that may be kept, all requests together.

    Args:
        limit: how many.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.used = 0


class Hold:
    """What one request, copy or answer keeps of a budget, until it is released.

    Args:
        budget: what it is taken from.
    """

    __slots__ = ("_budget", "held")

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self.held = 0

    def grow(self, size: int) -> bool:
        """Take more bytes, and return True; return False when there are not that many left."""
        if self._budget.used + size > self._budget.limit:
            return False
        self._budget.used += size
        self.held += size
        return True

    def release(self) -> None:
        """Give all bytes back; calling it again changes nothing."""
        self._budget.used -= self.held
        self.held = 0
