"""Ids of spans that no seed repeats.

vLLM seeds Python's random numbers when its engine runs in this process (``seed``, 0 unless told otherwise), and the SDK
draws ids from them: two offline runs would give different requests the same trace and span ids.
"""

from __future__ import annotations

import os
import random

from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.trace import INVALID_SPAN_ID, INVALID_TRACE_ID


class OwnIds(RandomIdGenerator):
    """Random ids from a generator of its own; a forked child draws others."""

    def __init__(self) -> None:
        self._random = random.Random()
        os.register_at_fork(after_in_child=self._random.seed)

    def generate_span_id(self) -> int:
        """Return 64 random bits, not all of them zero."""
        return self._drawn(64, INVALID_SPAN_ID)

    def generate_trace_id(self) -> int:
        """Return 128 random bits, not all of them zero."""
        return self._drawn(128, INVALID_TRACE_ID)

    def _drawn(self, bits: int, invalid: int) -> int:
        while (drawn := self._random.getrandbits(bits)) == invalid:
            pass
        return drawn
