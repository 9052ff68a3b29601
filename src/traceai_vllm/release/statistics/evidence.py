"""What the statistics say about one cell: one measure in one slice."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Verdict = Literal["healthy", "regressed", "not_enough_evidence"]
Mode = Literal["anytime", "fixed"]


@dataclass(frozen=True)
class Evidence:
    """By how much the candidate is worse, how sure that is, and what follows from it.

    All kinds point the same way: a larger estimate is a worse candidate. No pairs give ``not_enough_evidence``, an
    estimate of NaN and the widest interval there is; no data is never a pass.

    Attributes:
        estimate: how much worse the candidate is: difference of fail rates, drop of the mean score, or difference or
            ratio of a quantile.
        low: lower end of the interval; by itself it holds with probability ``1 - alpha``.
        high: upper end, likewise; the two together hold with probability ``1 - 2 * alpha``.
        e_value: evidence that the candidate is worse than ``alarm_above``: at most 1 in expectation while it is not.
            NaN for fixed n. For :func:`~traceai_vllm.release.statistics.e_bh`.
        p_value: the same as a p-value; in anytime mode it holds however often one looks. For
            :func:`~traceai_vllm.release.statistics.holm`.
        verdict: ``healthy`` when the candidate was shown to be worse by less than the margin, ``regressed`` when it was
            shown to be worse than ``alarm_above`` and not shown to be within the margin.
        pairs: how many pairs were used.
        clusters: in how many clusters; as many units of evidence.
        pairs_needed: about how many more pairs will show ``healthy`` with probability 0.8 if the candidate is in
            truth as good as the baseline; None when the verdict is there or nothing can be said.
        decided_at: how many pairs had arrived when the verdict was first there; None without a verdict and for fixed n.
        method: the name of the method, for the report.
    """

    estimate: float
    low: float
    high: float
    e_value: float
    p_value: float
    verdict: Verdict
    pairs: int
    clusters: int
    pairs_needed: int | None
    decided_at: int | None
    method: str


def verdict(*, worse: bool, within_margin: bool, beyond_margin: bool, still_within: bool) -> Verdict:
    """Return the verdict on a cell.

    A loss that is real, and smaller than what was allowed beforehand, is healthy. What was once shown stands, as long
    as what came since agrees: a candidate that was good for a week and then broke is not healthy.

    Args:
        worse: at some look it was shown that the candidate is worse than the alarm level.
        within_margin: at some look it was shown that it is worse by less than the margin.
        beyond_margin: at some look it was shown that it is worse by more than the margin.
        still_within: at the last look this is so: shown again when it was also shown to be worse, else not contradicted
            by the estimate.
    """
    if beyond_margin or (worse and not (within_margin and still_within)):
        return "regressed"
    return "healthy" if within_margin and still_within else "not_enough_evidence"


def one_look_verdict(worse: bool, low: float, high: float, margin: float) -> Verdict:
    """Return the verdict on a cell that is looked at once, from its interval and whether it was shown to be worse."""
    within = high < margin
    return verdict(worse=worse, within_margin=within, beyond_margin=low > margin, still_within=within)
