"""The learned models as scripts/train_groundedness.py writes them, and their evaluation with numpy."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


class Trees:
    """A sum of complete binary trees of one depth, as a probability.

    Args:
        model: ``features`` (names), ``depth``, ``bias``, and for each tree its inner nodes' ``split_features`` and
            ``split_values`` in breadth-first order and its ``leaves``. A row goes left where the value is at most the
            split's.
        numpy: the module.
    """

    def __init__(self, model: Mapping[str, Any], numpy: Any) -> None:
        self._np = numpy
        self.features: tuple[str, ...] = tuple(model["features"])
        self._depth = int(model["depth"])
        self._bias = float(model["bias"])
        # All trees' nodes in one row, which is looked up twice as fast as a table.
        self._split_features = numpy.array(model["split_features"], dtype=numpy.int64).ravel()
        self._split_values = numpy.array(model["split_values"], dtype=numpy.float64).ravel()
        self._leaves = numpy.array(model["leaves"], dtype=numpy.float64).ravel()
        trees = numpy.arange(len(model["leaves"]))
        inner = (1 << self._depth) - 1
        self._roots = trees * inner
        self._down, self._to_leaves = 1 - self._roots, trees - inner

    def log_odds(self, rows: Sequence[Sequence[float]]) -> list[float]:
        """Return the log odds for each row of features."""
        np = self._np
        if not rows:
            return []
        table = np.asarray(rows, dtype=np.float64)
        starts = np.arange(0, table.size, table.shape[1])[:, None]
        at = self._roots
        for _ in range(self._depth):
            right = table.take(self._split_features.take(at) + starts) > self._split_values.take(at)
            at = 2 * at + self._down + right
        odds: list[float] = (self._leaves.take(at + self._to_leaves).sum(axis=1) + self._bias).tolist()
        return odds

    def probabilities(self, rows: Sequence[Sequence[float]]) -> list[float]:
        """Return the probability for each row of features."""
        return [1.0 / (1.0 + math.exp(-value)) for value in self.log_odds(rows)]


class Linear:
    """A logistic regression on standardised features.

    Args:
        model: ``features`` (names), ``mean``, ``scale``, ``weights`` and ``bias``.
        numpy: the module.
    """

    def __init__(self, model: Mapping[str, Any], numpy: Any) -> None:
        self._np = numpy
        self._weights = numpy.array(model["weights"]) / numpy.array(model["scale"])
        self._bias = float(model["bias"]) - float(numpy.array(model["mean"]) @ self._weights)

    def log_odds(self, rows: Sequence[Sequence[float]]) -> list[float]:
        """Return the log odds for each row of features."""
        if not rows:
            return []
        odds: list[float] = (self._np.asarray(rows, dtype=self._np.float64) @ self._weights + self._bias).tolist()
        return odds
