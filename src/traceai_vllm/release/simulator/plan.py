"""How many pairs a release will need: from numbers, or from the disagreement in pairs that are there already."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil
from typing import TYPE_CHECKING

from traceai_vllm.release.answers import answers_of, arms_of
from traceai_vllm.release.columns import BASELINE, CANDIDATE
from traceai_vllm.release.policy import Guard, Policy
from traceai_vllm.release.statistics import pairs_needed
from traceai_vllm.release.strays import without_strays

if TYPE_CHECKING:
    from traceai_vllm.release.sources import Source


@dataclass(frozen=True)
class Need:
    """What one measure needs.

    Attributes:
        measure: its name.
        disagreement: the share of pairs in which exactly one answer fails.
        seen: how many pairs that was seen in; 0 when it was given.
        one_look: pairs for one look; None when there is no such number.
        any_look: pairs when one may look after every pair.
    """

    measure: str
    disagreement: float
    seen: int
    one_look: int | None
    any_look: int | None


def need(
    measure: str, disagreement: float, margin: float, *, share: float = 1.0, alpha: float, power: float, seen: int = 0
) -> Need:
    """Return what a measure needs until it is shown to be within a margin, or worse by as much.

    Args:
        measure: its name.
        disagreement: the share of pairs in which exactly one answer fails.
        margin: in points.
        share: the share of the traffic that the smallest guarded part has.
        alpha: the chance of a false verdict.
        power: the probability of having the verdict by then.
        seen: how many pairs the disagreement was seen in.

    Raises:
        ValueError: a number is out of its range.
    """
    if not 0 < share <= 1:
        raise ValueError(f"a part of the traffic has a share above 0 and at most 1, not {share:g}")
    once, always = (
        pairs_needed(disagreement, margin, alpha=alpha, power=power, mode=mode) for mode in ("fixed", "anytime")
    )
    return Need(
        measure, disagreement, seen, *(None if pairs is None else ceil(pairs / share) for pairs in (once, always))
    )


def disagreements(source: Source) -> dict[str, tuple[float, int]]:
    """Return the share of pairs in which exactly one answer fails, and the number of pairs, for each evaluator."""
    # As a comparison reads them: scores may have come later, or stand on a server's own span.
    policy = Policy(version=1, measures={"errors": Guard(margin=0.0)})
    source = without_strays(source)
    answers = answers_of(arms_of(source, policy), source, policy)
    baseline, candidate = (answers.filter(answers.arm == arm) for arm in (BASELINE, CANDIDATE))
    found = {}
    for name in source.evaluators:
        column = f"{name}:fail"
        pairs = baseline.select("pair_id", first=baseline[column]).join(
            candidate.select("pair_id", second=candidate[column]), "pair_id"
        )
        pairs = pairs.filter(pairs["first"].notnull(), pairs.second.notnull())
        row = (
            pairs.aggregate(share=(pairs["first"] != pairs.second).mean(), pairs=pairs.count()).to_pyarrow().to_pylist()
        )
        if row[0]["pairs"]:
            found[name] = (float(row[0]["share"]), int(row[0]["pairs"]))
    return found
