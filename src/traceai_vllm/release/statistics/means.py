"""The shared part of paired fail rates and scores: is the mean of the differences above or below a value?

Differences lie in [-1, 1], one for each cluster, positive where the candidate is worse.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from traceai_vllm.release.statistics import betting, sign_walk
from traceai_vllm.release.statistics.evidence import Evidence, verdict
from traceai_vllm.release.statistics.planning import pairs_needed

if TYPE_CHECKING:
    from traceai_vllm.release.statistics.clusters import Clusters, Singles
    from traceai_vllm.release.statistics.evidence import Mode
    from traceai_vllm.release.statistics.stream import Stream


@dataclass(frozen=True)
class Claims:
    """What is tested, in the units of the differences.

    Attributes:
        margin: the candidate is healthy when it is worse by less than this.
        alarm_above: it has regressed when it is worse by more than this.
        alpha: the chance of a false verdict of either kind.
    """

    margin: float
    alarm_above: float
    alpha: float

    def __post_init__(self) -> None:
        if not (-1 < self.alarm_above <= self.margin < 1 and 0 < self.alpha < 0.5):
            raise ValueError(
                f"alarm_above {self.alarm_above:g}, margin {self.margin:g} and alpha {self.alpha:g}: "
                "the alarm level must not exceed the margin, both within the range of the measure, and 0 < alpha < 0.5"
            )


@dataclass(frozen=True)
class Crossing:
    """Evidence against a claim: its log now, the highest log, and after how many clusters it was enough (0: never)."""

    now: float
    most: float
    first: int


def anytime(stream: Stream, opposite: Stream, units: Clusters | Singles, claims: Claims, method: str) -> Evidence:
    """Return the evidence that holds however often one looks.

    Args:
        stream: the differences, positive where the candidate is worse.
        opposite: the same with the other sign.
        units: the clusters behind them.
        claims: what is tested.
        method: its name, for the report.
    """
    enough = 1 / claims.alpha
    exact = stream.signs_only and claims.alarm_above == 0
    worse = _above(stream, claims.alarm_above, sign_walk.threshold(claims.alpha) if exact else enough)
    within = _above(opposite, -claims.margin, enough)
    # What is beyond the margin is above the alarm level too, with more evidence.
    beyond = _above(stream, claims.margin, enough) if worse.first else worse
    decision = verdict(
        worse=worse.first > 0,
        within_margin=within.first > 0,
        beyond_margin=beyond.first > 0,
        still_within=within.now >= np.log(enough) if worse.first else stream.mean < claims.margin,
    )
    decided = {"healthy": within.first, "regressed": worse.first}.get(decision)
    low, high = betting.lower_bound(stream, claims.alpha), -betting.lower_bound(opposite, claims.alpha)
    return Evidence(
        estimate=stream.mean,
        low=max(low, claims.alarm_above) if worse.first else low,
        high=min(high, claims.margin) if decision == "healthy" else high,
        e_value=float(np.exp(min(worse.now, 700.0))),
        p_value=min(1.0, float(np.exp(-worse.most)), claims.alpha if worse.first else 1.0),
        verdict=decision,
        pairs=units.pairs,
        clusters=units.count,
        pairs_needed=still_needed(stream.square, units, claims, "anytime") if decided is None else None,
        decided_at=units.pairs_in(decided) if decided else None,
        method=method,
    )


def still_needed(square: float, units: Clusters | Singles, claims: Claims, mode: Mode) -> int | None:
    """Return about how many pairs are missing for ``healthy``, if the candidate is as good as the baseline.

    The spread is taken from the pairs so far, as if one disagreement in five had come before them: none in ten pairs
    does not mean none ever.

    Args:
        square: the sum of the squared differences.
        units: the clusters.
        claims: what is tested.
        mode: with how many looks.
    """
    if claims.margin <= 0:
        return None
    needed = pairs_needed((square + 1) / (units.count + 5), claims.margin, alpha=claims.alpha, mode=mode)
    if needed is None:
        return None
    # When that many are there already it is a matter of luck; a tenth more is as good a guess as any.
    return round(max(needed - units.count, 0.1 * units.count, 1.0) * units.pairs / max(units.count, 1)) or needed


def _above(stream: Stream, level: float, enough: float) -> Crossing:
    if not len(stream.looks):
        return Crossing(0.0, 0.0, 0)
    path = betting.log_wealth_path(stream, level)
    reached = path >= np.log(enough)
    first = int(stream.looks[np.argmax(reached)]) if reached.any() else 0
    return Crossing(float(path[-1]), float(path.max()), first)


def scaled(evidence: Evidence, span: float) -> Evidence:
    """Return the evidence in units of a score whose range is ``span``."""
    return replace(evidence, estimate=evidence.estimate * span, low=evidence.low * span, high=evidence.high * span)
