"""The claims of an answer with their telling words beside the sentences of the context, laid out for quick sums."""

from __future__ import annotations

import itertools
import math
from bisect import bisect_left, bisect_right
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from traceai_vllm.evals.grounding.claims import Span
    from traceai_vllm.evals.grounding.evidence import Nearness
    from traceai_vllm.evals.grounding.words import Words

_PART = 5  # telling words in a row


class Told:
    """The telling words of an answer beside the context; arrays are by telling word, those of a claim a piece of them.

    Args:
        numpy: the module.
        words: the answer's words.
        rows: the row of each telling stem in ``near``.
        near: how near the context comes.
    """

    def __init__(self, numpy: Any, words: Words, rows: Mapping[str, int], near: Nearness) -> None:
        np = self.numpy = numpy
        self.indexes = list(itertools.compress(range(len(words.weights)), words.weights))
        self.rows = [rows[words.stems[index]] for index in self.indexes]
        self.weights = np.array(list(filter(None, words.weights)))
        self.near = near.best.take(self.rows)
        self.lost = self.weights * (1.0 - self.near)
        self.both = np.column_stack((self.lost, self.weights))
        table = near.by_sentence.take(self.rows, axis=0)
        self.together = np.minimum(table[:-1], table[1:]).max(axis=1, initial=0.0)  # one sentence has it and the next
        self.table = table.astype(np.float64)  # how near each sentence comes


class Draft:
    """A claim before its numbers and names are looked at; arrays are by telling word.

    Args:
        span: its characters.
        words: the answer's words.
        answer: the answer's telling words.
    """

    def __init__(self, span: Span, words: Words, answer: Told) -> None:
        self.span = span
        self.first, self.last = bisect_left(words.starts, span.start), bisect_left(words.starts, span.end)
        start, end = bisect_left(answer.indexes, self.first), bisect_left(answer.indexes, self.last)
        self.told, self.rows = answer.indexes[start:end], answer.rows[start:end]
        self.weights, self.table = answer.weights[start:end], answer.table[start:end]
        self.near: list[float] = answer.near[start:end].tolist()
        self.weighed = list(zip(self.told, self.rows, self.weights.tolist(), strict=True))
        self.total = float(self.weights.sum()) or 1.0
        self.covered = self.weights @ self.table / self.total  # how much each sentence covers
        self._answer, self._here = answer, slice(start, end)

    def covered_without(self, first: int, last: int) -> Any:
        """How much each sentence covers, leaving out words ``[first, last]``."""
        weights = self.weights.copy()
        weights[bisect_left(self.told, first) : bisect_right(self.told, last)] = 0.0
        return weights @ self.table / (float(weights.sum()) or 1.0)

    def by_two(self) -> Any:
        """How much each two sentences in a row cover; the only one by itself."""
        table, numpy = self.table, self._answer.numpy
        pairs = numpy.maximum(table[:, :-1], table[:, 1:]) if len(self.covered) > 1 else table
        return self.weights @ pairs / self.total

    def parts(self) -> tuple[float, float, float]:
        """How much is lost in all, and of the worst few words in a row; and what the best sentence has of the worst."""
        np, here = self._answer.numpy, self._here
        sums = _in_a_row(np, self._answer.both[here])
        lost = float(self._answer.lost[here].sum())
        lost_part = float(np.maximum.reduce(sums[:, 0]))
        if not len(self.covered):
            return lost, lost_part, 0.0
        said = np.maximum.reduce(_in_a_row(np, self.weights[:, None] * self.table), axis=1)
        return lost, lost_part, float(np.minimum.reduce(said / sums[:, 1]))

    def spread(self) -> float:
        """How far apart the sentences stand that come nearest to each word: the logarithm of their deviation."""
        nearest: list[int] = self.table.argmax(axis=1).tolist()
        count = max(1, len(nearest))
        # Python's sums: for a dozen figures numpy takes five times as long.
        return math.log1p(math.dist(nearest, [sum(nearest) / count] * len(nearest)) / math.sqrt(count))

    def bonds(self) -> float:
        """How far one sentence has a word and the one after it, in the mean."""
        if len(self.told) < 2:
            return float(self.table.max())
        return float(self._answer.together[self._here.start : self._here.stop - 1].mean())


def _in_a_row(np: Any, values: Any) -> Any:
    """Return the column sums over each few rows that follow each other."""
    size = min(_PART, len(values))
    sums = np.add.accumulate(values)
    sums[size:] = sums[size:] - sums[:-size]
    return sums[size - 1 :]
