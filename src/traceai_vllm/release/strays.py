"""Values that nothing can have measured: they are taken out of a source once, and counted.

Spans are anybody's: a negative token count or a time beyond all clocks would end the comparison of all others.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from traceai_vllm.release.keeping import only_row

if TYPE_CHECKING:
    from traceai_vllm.release.sources import Source

_LATEST_NS: Final = 2**62  # in the year 2116: the difference of two such times has 64 bits too
_MOST_TOKENS: Final = 10**9
_LARGEST: Final = 1e30
# Column to the largest value that is possible; the smallest is 0 for all of them.
_LARGEST_OF: Final[dict[str, float]] = {
    "start_ns": _LATEST_NS,
    "end_ns": _LATEST_NS,
    "input_tokens": _MOST_TOKENS,
    "output_tokens": _MOST_TOKENS,
    "cost_usd": _LARGEST,
    "kl_divergence": _LARGEST,
    "top1_agreement": 1,
}


def without_strays(source: Source) -> Source:
    """Return a source in which what is negative or beyond any measurement is null; its problems say how much that is.

    Scores are left to :func:`~traceai_vllm.release.answers.answers_of`: some come late, or from a server's own span.
    """
    spans = source.spans
    known = {name: largest for name, largest in _LARGEST_OF.items() if name not in source.absent}
    counts = only_row(spans.aggregate(**{name: _is_stray(spans[name], known[name]).sum() for name in known}))
    stray = {name: int(count) for name, count in counts.items() if count}
    if not stray:
        return source
    problems = [
        f"{name}: {count} values are not from 0 to {known[name]:g}, and do not count" for name, count in stray.items()
    ]
    sane = {name: _is_stray(spans[name], known[name]).ifelse(None, spans[name]) for name in stray}
    return replace(source, spans=spans.mutate(**sane), problems=(*source.problems, *problems))


def _is_stray(values: Any, largest: float) -> Any:
    # A NaN is not between two numbers in any database, though in some it is larger than every number.
    return values.notnull() & ~values.between(0, largest).fill_null(False)
