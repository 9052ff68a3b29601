"""In which tenth of the recent prompts, by length, a prompt stands."""

from __future__ import annotations

from bisect import bisect_right
from collections import deque

_WINDOW = 1000
_REFRESH = 100


class Deciles:
    """Boundaries of the deciles of the last 1,000 lengths, brought up to date every 100."""

    def __init__(self) -> None:
        self._recent: deque[int] = deque(maxlen=_WINDOW)
        self._boundaries: list[int] = []
        self._new = 0

    def __call__(self, length: int) -> str:
        """Take a length in, and return its decile, ``1`` (shortest) to ``10``; empty before 100 have been seen."""
        self._recent.append(length)
        self._new += 1
        if self._new >= _REFRESH:
            self._new = 0
            lengths = sorted(self._recent)
            self._boundaries = [lengths[len(lengths) * tenth // 10] for tenth in range(1, 10)]
        return str(bisect_right(self._boundaries, length) + 1) if self._boundaries else ""
