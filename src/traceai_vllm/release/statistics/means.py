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
    from numpy.typing import NDArray

    from traceai_vllm.release.statistics.clusters import Clusters
    from traceai_vllm.release.statistics.evidence import Mode

    Floats = NDArray[np.float64]


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
    """Evidence against one claim: its log now, the highest log there was, and after how many clusters it was enough."""

    now: float
    most: float
    first: int | None


def anytime(differences: Floats, claims: Claims, clusters: Clusters, method: str) -> Evidence:
    """Return the evidence that holds however often one looks.

    Args:
        differences: in [-1, 1], one for each cluster, in order of arrival.
        claims: what is tested.
        clusters: of the pairs behind them.
        method: the name of the measure, for the report.
    """
    worse = _above(differences, claims.alarm_above, _enough(differences, claims))
    within = _above(-differences, -claims.margin, 1 / claims.alpha)
    beyond = worse if claims.alarm_above == claims.margin else _above(differences, claims.margin, 1 / claims.alpha)
    found = verdict(
        worse=worse.first is not None, within_margin=within.first is not None, beyond_margin=beyond.first is not None
    )
    low = 2 * betting.lower_bound((1 + differences) / 2, claims.alpha) - 1
    high = 1 - 2 * betting.lower_bound((1 - differences) / 2, claims.alpha)
    decided = {"healthy": within, "regressed": worse}.get(found)
    return Evidence(
        estimate=float(np.mean(differences)) if len(differences) else float("nan"),
        low=max(low, claims.alarm_above) if worse.first is not None else low,
        high=min(high, claims.margin) if within.first is not None and found == "healthy" else high,
        e_value=float(np.exp(min(worse.now, 700.0))),
        p_value=min(1.0, float(np.exp(-worse.most)), claims.alpha if worse.first is not None else 1.0),
        verdict=found,
        pairs=len(clusters.of_pair),
        clusters=len(clusters.sizes),
        pairs_needed=still_needed(differences, claims, clusters, "anytime") if decided is None else None,
        decided_at=clusters.pairs_by(decided.first) if decided and decided.first is not None else None,
        method=method,
    )


def still_needed(differences: Floats, claims: Claims, clusters: Clusters, mode: Mode) -> int | None:
    """Return about how many pairs are missing for ``healthy``, if the candidate is as good as the baseline.

    The spread is taken from the pairs so far, as if one disagreement in five had come before them: none in ten pairs
    does not mean none ever.
    """
    if claims.margin <= 0:
        return None
    spread = (float(np.sum(differences**2)) + 1) / (len(differences) + 5)
    needed = pairs_needed(spread, claims.margin, alpha=claims.alpha, mode=mode)
    if needed is None:
        return None
    pairs_each = len(clusters.of_pair) / len(clusters.sizes) if len(clusters.sizes) else 1.0
    return max(1, round((needed - len(differences)) * pairs_each))


def _enough(differences: Floats, claims: Claims) -> float:
    signs_only = claims.alarm_above == 0 and bool(np.isin(differences, (-1.0, 0.0, 1.0)).all())
    return sign_walk.threshold(claims.alpha) if signs_only else 1 / claims.alpha


def _above(differences: Floats, level: float, enough: float) -> Crossing:
    if not len(differences):
        return Crossing(0.0, 0.0, None)
    looks, path = betting.log_wealth_path((1 + differences) / 2, (1 + level) / 2)
    reached = path >= np.log(enough)
    first = int(looks[np.argmax(reached)]) if reached.any() else None
    return Crossing(float(path[-1]), float(path.max()), first)


def scaled(evidence: Evidence, span: float) -> Evidence:
    """Return the evidence in units of a score whose range is ``span``."""
    return replace(evidence, estimate=evidence.estimate * span, low=evidence.low * span, high=evidence.high * span)
