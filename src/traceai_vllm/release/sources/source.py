"""What every source gives."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    Content = dict[tuple[str, str], dict[str, Any]]


class SourceError(ValueError):
    """The spans cannot be read at all; the message says what to do."""


def _no_content(ids: Sequence[tuple[str, str]]) -> Content:
    return {}


@dataclass(frozen=True)
class Source:
    """Spans, ready to be compared.

    Attributes:
        spans: an Ibis table with the columns of :data:`~traceai_vllm.release.columns.COLUMNS`, and ``score:NAME`` and
            ``passed:NAME`` for each of the evaluators.
        evaluators: names of the evaluators with scores in ``spans`` or ``late``, sorted.
        late: an Ibis table of scores that are kept apart from the spans: ``trace_id``, ``span_id``, ``evaluator``,
            ``score`` (null where there is none), ``passed``; and, the same in all rows of a span, its ``slices`` and
            when the last of them came, ``scored_ns``; None when there are none.
        problems: files and lines that could not be read, for a person.
        absent: names of columns in which no span has a value; they need not be carried along.
        content: returns, for pairs of trace id and span id, the attributes with content that these spans have.
    """

    spans: Any
    evaluators: tuple[str, ...]
    late: Any = None
    problems: tuple[str, ...] = ()
    absent: frozenset[str] = frozenset()
    content: Callable[[Sequence[tuple[str, str]]], Content] = _no_content
