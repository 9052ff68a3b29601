"""The books of a comparison: what was sampled, what became pairs, and whether what is missing is missing at random."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from traceai_vllm.release.columns import BASELINE, CANDIDATE, REPEAT

if TYPE_CHECKING:
    from collections.abc import Sequence

    from traceai_vllm.release.frame import Frame
    from traceai_vllm.release.pairs import Pairs
    from traceai_vllm.release.policy import Limits

NO_CANDIDATE = "no answer of the candidate"
NO_BASELINE = "no answer of the baseline"
_APART_NS = 60_000_000_000


@dataclass(frozen=True)
class Decile:
    """A tenth of the baseline's prompts, by length.

    Attributes:
        first: prompts in it are longer than this many tokens; -1 for the first.
        last: and not longer than this many; None for the last.
        sampled: how many there are.
        unpaired: how many of them have no pair.
    """

    first: int
    last: int | None
    sampled: int
    unpaired: int

    @property
    def share(self) -> float:
        """Share without a pair."""
        return self.unpaired / self.sampled if self.sampled else 0.0


@dataclass(frozen=True)
class Books:
    """What a comparison rests on, and what it does not.

    Attributes:
        sampled: questions that went to both arms, or should have.
        clean: pairs that count.
        unpaired: why there is no pair, to how many.
        deciles: the same by length of the prompt.
        excluded: why pairs do not count (what differs between the arms), to how many.
        answers: answers of all arms.
        untagged: tag to how many answers lack it.
        repeated: answers that came twice in an arm; the first counts.
        apart: pairs whose arms began more than a minute apart: late copies, or clocks that differ.
        backwards: answers that end before they begin.
        repeats: questions that the baseline answered twice, for the noise floor.
        unscored: evaluator to how many pairs lack only the baseline's score, only the candidate's, or none.
    """

    sampled: int
    clean: int
    unpaired: dict[str, int]
    deciles: tuple[Decile, ...]
    excluded: dict[str, int]
    answers: int
    untagged: dict[str, int]
    repeated: int
    apart: int
    backwards: int
    repeats: int
    unscored: dict[str, tuple[int, int, int]] = field(default_factory=dict)

    @property
    def shares(self) -> dict[str, float]:
        """What the policy limits, as shares."""
        without = sum(self.unpaired.values())
        overall = without / self.sampled if self.sampled else 1.0
        highest = max((decile.share for decile in self.deciles), default=overall)
        pairs = self.clean + sum(self.excluded.values())
        lacking = [only_b / (both + only_b) for _, only_b, both in self.unscored.values() if both + only_b]
        return {
            "unpaired": overall,
            "unpaired_by_length": max(0.0, highest - overall),
            "excluded": sum(self.excluded.values()) / pairs if pairs else 1.0,
            "untagged": max(self.untagged.values(), default=0) / self.answers if self.answers else 1.0,
            "unscored": max(lacking, default=0.0),
        }

    def over_limit(self, limits: Limits) -> list[str]:
        """Return what is over its limit, in words."""
        allowed = limits.model_dump()
        return [
            f"{name} {share:.1%} (limit {allowed[name]:.1%})"
            for name, share in self.shares.items()
            if share > allowed[name]
        ]


def books_of(answers: Any, pairs: Pairs, frame: Frame, evaluators: Sequence[str]) -> Books:
    """Make up the books.

    Args:
        answers: an Ibis table of :func:`~traceai_vllm.release.answers.answers_of`.
        pairs: the pairs made of it.
        frame: the clean ones.
        evaluators: names of the evaluators whose scores ``frame`` has.
    """
    import ibis

    in_baseline, in_candidate = (answers.filter(answers.arm == arm) for arm in (BASELINE, CANDIDATE))
    lonely = in_baseline.anti_join(in_candidate, "pair_id")
    lonely = lonely.select("pair_id", "input_tokens", reason=ibis.literal(NO_CANDIDATE))
    every = pairs.all
    dropped = every.filter(every.dropped).select(
        "pair_id", input_tokens="prompt_tokens", reason=every.drop_reason.fill_null("dropped")
    )
    missing = lonely.union(dropped)
    unpaired = _counts(missing, "reason")
    only_candidate = int(in_candidate.anti_join(in_baseline, "pair_id").pair_id.nunique().to_pyarrow().as_py())
    if only_candidate:
        unpaired[NO_BASELINE] = only_candidate
    totals = _totals(answers)
    paired = _row(every.aggregate(pairs=every.count(), apart=(every.apart_ns.abs() > _APART_NS).sum()))
    lonely_count = unpaired.get(NO_CANDIDATE, 0)
    return Books(
        sampled=int(paired["pairs"]) + lonely_count + only_candidate,
        clean=len(frame),
        unpaired=unpaired,
        deciles=_deciles(in_baseline, missing),
        excluded=_counts(every.filter(every.excluded.notnull(), ~every.dropped), "excluded"),
        answers=int(totals["answers"]),
        untagged={"route": int(totals["no_route"] or 0), "model_variant": int(totals["no_variant"] or 0)},
        repeated=_repeated(answers),
        apart=int(paired["apart"] or 0),
        backwards=int(totals["backwards"] or 0),
        repeats=int(totals["repeats"] or 0),
        unscored={name: _unscored(frame, name) for name in evaluators},
    )


def _row(table: Any) -> dict[str, Any]:
    row: dict[str, Any] = table.to_pyarrow().to_pylist()[0]
    return row


def _counts(table: Any, column: str) -> dict[str, int]:
    rows = table.group_by(column).aggregate(count=table.count()).to_pyarrow().to_pylist()
    return {row[column]: row["count"] for row in sorted(rows, key=lambda row: (-row["count"], row[column]))}


def _totals(answers: Any) -> dict[str, Any]:
    return _row(
        answers.aggregate(
            answers=answers.count(),
            no_route=answers.route.isnull().sum(),
            no_variant=answers.model_variant.isnull().sum(),
            backwards=(answers.end_ns < answers.start_ns).sum(),
            repeats=(answers.arm == REPEAT).sum(),
        )
    )


def _repeated(answers: Any) -> int:
    again = answers.group_by("pair_id", "arm").having(answers.count() > 1).aggregate(more=answers.count() - 1)
    return int(again.more.sum().to_pyarrow().as_py() or 0)


def _deciles(answers: Any, missing: Any) -> tuple[Decile, ...]:
    lengths = answers.input_tokens
    edges = answers.aggregate(**{f"q{tenth}": lengths.quantile(tenth / 10) for tenth in range(1, 10)})
    found = [value for value in _row(edges).values() if value is not None]
    inner = sorted({int(value) for value in found})
    if not inner:
        return ()
    sampled, unpaired = _by_length(answers, inner), _by_length(missing, inner)
    bounds = [-1, *inner]
    return tuple(
        Decile(first, inner[place] if place < len(inner) else None, sampled.get(place, 0), unpaired.get(place, 0))
        for place, first in enumerate(bounds)
    )


def _by_length(table: Any, edges: Sequence[int]) -> dict[int, int]:
    known = table.filter(table.input_tokens.notnull())
    place = known.input_tokens * 0
    for edge in edges:
        place = place + (known.input_tokens > edge).cast("int64")
    rows = known.group_by(place=place).aggregate(count=known.count())
    return {row["place"]: row["count"] for row in rows.to_pyarrow().to_pylist()}


def _unscored(frame: Frame, name: str) -> tuple[int, int, int]:
    one, other = (np.isnan(frame.values[f"{side}:{name}:fail"]) for side in ("b", "c"))
    failed = frame.values["c:error"] > 0  # an answer that failed has nothing to score, and counts as an error
    return int((one & ~other).sum()), int((other & ~one & ~failed).sum()), int((~one & ~other).sum())
