"""What an evaluation says: one score, why, and where."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

_EMPTY: Mapping[str, Any] = MappingProxyType({})


class TextRange(NamedTuple):
    """Characters ``[start, end)`` of the evaluated answer; unpacks as a pair."""

    start: int
    end: int


@dataclass(frozen=True, slots=True)
class EvaluationResult:
    """The outcome of one evaluation. An evaluation that failed has none: it raises instead.

    Attributes:
        name: the evaluator's name, e.g. ``Groundedness``.
        score: from 0 to 1, higher is better.
        label: one word for the outcome, e.g. ``grounded`` or ``truncated``; each evaluator documents its own.
        threshold: the least score that passes.
        explanation: one or two sentences that name the offending words, JSON path or argument.
        counts: the numbers behind the score, e.g. ``{"claims": 3, "unsupported": 1}``.
        unsupported: ranges of characters of the answer that nothing supports, in order, not overlapping.
        details: more for those who want it, as plain JSON values.

    Raises:
        ValueError: the score is not a number from 0 to 1.
    """

    name: str
    score: float
    label: str
    threshold: float
    explanation: str = ""
    counts: Mapping[str, int] = field(default_factory=lambda: _EMPTY)
    unsupported: tuple[TextRange, ...] = ()
    details: Mapping[str, Any] = field(default_factory=lambda: _EMPTY)

    def __post_init__(self) -> None:
        number = isinstance(self.score, (int, float)) and not isinstance(self.score, bool)
        if not number or not math.isfinite(self.score) or not 0.0 <= self.score <= 1.0:
            raise ValueError(f"the score of {self.name} must be a number from 0 to 1, not {self.score!r}")

    @property
    def passed(self) -> bool:
        """Whether the score reaches the threshold."""
        return self.score >= self.threshold
