"""What is remembered of the latest answers, so that feedback and evaluations that come later find them."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from opentelemetry.trace import SpanContext

    from traceai_vllm.gateway.config import Server
    from traceai_vllm.gateway.rollback import Shift

# About a kilobyte each.
_ANSWERS = 20_000


class Answered(NamedTuple):
    """An answer that a user got.

    Attributes:
        context: of the CLIENT span of the arm that it came from.
        response_id: the response's id; None when it was not read.
        tags: the request's tags.
        server: the server that answered.
        pair_id: what its two answers share; None when it is not mirrored.
        shift: what had moved the user to the candidate; None when the baseline answered.
    """

    context: SpanContext
    response_id: str | None
    tags: dict[str, str]
    server: Server
    pair_id: str | None
    shift: Shift | None


class Recent:
    """The latest 20,000 answers, by their trace and by their response."""

    def __init__(self, limit: int = _ANSWERS) -> None:
        self._limit = limit
        self._answers: OrderedDict[int, Answered] = OrderedDict()  # by the id of their span
        self._by_trace: dict[int, int] = {}
        self._by_response: dict[str, int] = {}
        self._criticized: set[int] = set()

    def add(self, answered: Answered) -> None:
        """Remember an answer; the oldest is forgotten for it."""
        span_id = answered.context.span_id
        self._answers[span_id] = answered
        self._by_trace[answered.context.trace_id] = span_id
        if answered.response_id is not None:
            self._by_response[answered.response_id] = span_id
        while len(self._answers) > self._limit:
            self._forget_oldest()

    def by_span(self, span_id: int) -> Answered | None:
        """Return the answer whose CLIENT span this is, None when it is not known (any more)."""
        return self._answers.get(span_id)

    def by_trace(self, trace_id: int) -> Answered | None:
        """Return the last answer of a trace, None when none is known (any more)."""
        return self._answers.get(self._by_trace.get(trace_id, 0))

    def by_response(self, response_id: str) -> Answered | None:
        """Return the answer with this response id, None when it is not known (any more)."""
        return self._answers.get(self._by_response.get(response_id, 0))

    def criticized(self, answered: Answered) -> bool:
        """Note negative feedback on an answer that is known; return whether there was some already."""
        span_id = answered.context.span_id
        known = span_id in self._criticized
        self._criticized.add(span_id)
        return known

    def _forget_oldest(self) -> None:
        span_id, oldest = self._answers.popitem(last=False)
        self._criticized.discard(span_id)
        if self._by_trace.get(oldest.context.trace_id) == span_id:
            del self._by_trace[oldest.context.trace_id]
        if oldest.response_id is not None and self._by_response.get(oldest.response_id) == span_id:
            del self._by_response[oldest.response_id]
