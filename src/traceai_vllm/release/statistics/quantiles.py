"""Quantiles of latency in pairs: is the candidate's p50 or p99 higher than the baseline's, and by how much?"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import exp, inf, log, nan
from typing import TYPE_CHECKING, Literal

import numpy as np

from traceai_vllm.release.statistics import order_statistics
from traceai_vllm.release.statistics.clusters import clusters_of, paired
from traceai_vllm.release.statistics.evidence import Evidence, one_look_verdict, verdict
from traceai_vllm.release.statistics.planning import pairs_needed
from traceai_vllm.release.statistics.quantile_betting import Sample, log_evidence, plausible

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import ArrayLike, NDArray

    from traceai_vllm.release.statistics.clusters import Clusters
    from traceai_vllm.release.statistics.evidence import Mode
    from traceai_vllm.release.statistics.order_statistics import Arms

    Floats = NDArray[np.float64]

Scale = Literal["ratio", "difference"]
# Of more clusters every second, third, ... is used: 8,000 in the smaller tail are enough for a narrow interval.
_MOST_IN_TAIL, _MOST_CLUSTERS = 8_000, 100_000
# Looks after 8 clusters, and after each quarter more, from 200 on after each 40 % more.
_FIRST_LOOK, _EARLY, _LATE, _EARLY_UNTIL = 8, 1.25, 1.4, 200


@dataclass(frozen=True)
class _Claims:
    """What is tested, in units of the values or of their logs."""

    quantile: float
    margin: float
    alarm_above: float
    alpha: float


def paired_quantiles(
    baseline: ArrayLike,
    candidate: ArrayLike,
    *,
    quantile: float,
    margin: float,
    alpha: float = 0.05,
    scale: Scale = "ratio",
    clusters: ArrayLike | Clusters | None = None,
    order: ArrayLike | None = None,
    mode: Mode = "anytime",
    alarm_above: float | None = None,
) -> Evidence:
    """Compare a quantile of a measure where lower is better, such as latency or time to first token, in pairs.

    The estimate is the candidate's quantile divided by the baseline's, or minus it, with each cluster of the same
    weight. Values should be continuous: a single value that holds a share of the pairs just at the quantile voids the
    guarantee. Of very many clusters (16,000 for a median, 100,000 for p99) every second, third, ... is used.

    Args:
        baseline: the baseline's values, e.g. seconds, shape (pairs,); above 0 for a ratio.
        candidate: the candidate's, shape (pairs,).
        quantile: 0.5 for the median, 0.99 for p99.
        margin: the largest ratio (1.1 for a tenth slower) or difference that is allowed, stated beforehand.
        alpha: see :func:`~traceai_vllm.release.statistics.paired_rates`.
        scale: ``ratio`` or ``difference``.
        clusters: see :func:`~traceai_vllm.release.statistics.paired_rates`.
        order: see :func:`~traceai_vllm.release.statistics.paired_rates`.
        mode: see :func:`~traceai_vllm.release.statistics.paired_rates`.
        alarm_above: ``regressed`` means more than this; by default a ratio of 1, a difference of 0.

    Raises:
        ValueError: shapes differ, a value is missing or cannot be in a ratio, or a level is out of range.
    """
    first, second = paired(baseline, candidate)
    alarm = alarm_above if alarm_above is not None else float(scale == "ratio")
    if not (0 < quantile < 1 and 0 < alpha < 0.5 and alarm <= margin and (alarm > 0 or scale == "difference")):
        raise ValueError("needed: 0 < quantile < 1, 0 < alpha < 0.5, alarm_above <= margin, both above 0 in a ratio")
    if scale == "ratio" and len(first) and min(first.min(), second.min()) <= 0:
        raise ValueError("a value is 0 or less, and cannot be in a ratio: leave such pairs out, or take the difference")
    units = clusters_of(len(first), clusters, order)
    if scale == "difference":
        return _compared(first, second, units, _Claims(quantile, margin, alarm, alpha), mode)
    # A ratio of quantiles is a difference of the quantiles of the logs.
    claims = _Claims(quantile, log(margin), log(alarm), alpha)
    return _exponentiated(_compared(np.log(first), np.log(second), units, claims, mode))


def _compared(first: Floats, second: Floats, units: Clusters, claims: _Claims, mode: Mode) -> Evidence:
    if not len(first):
        return _nothing(mode)
    arms = order_statistics.arms(first, second, units, claims.quantile)
    if mode == "anytime":
        return _anytime(_sample(first, second, units, claims.quantile), units, claims, arms)
    return _fixed(units, claims, arms)


@dataclass(frozen=True)
class _Path:
    """The log of the evidence over all looks.

    Attributes:
        now: that it is worse, at the last look.
        worse: the same, the highest there was.
        within: that it is within the margin, at the last look.
        first: after how many pairs there first was enough, by question (0: never).
    """

    now: float
    worse: float
    within: float
    first: dict[str, int]


def _anytime(sample: Sample, units: Clusters, claims: _Claims, arms: Arms) -> Evidence:
    path = _path(sample, claims)
    first = path.first
    decision = verdict(
        worse=first["worse"] > 0,
        within_margin=first["within"] > 0,
        beyond_margin=first["beyond"] > 0,
        still_within=path.within >= -log(claims.alpha) if first["worse"] else arms.difference < claims.margin,
    )
    low, high = _bounds(sample, claims, arms)
    decided = {"healthy": first["within"], "regressed": first["worse"]}.get(decision)
    return Evidence(
        estimate=arms.difference,
        low=max(low, claims.alarm_above) if first["worse"] else low,
        high=min(high, claims.margin) if decision == "healthy" else high,
        e_value=exp(min(path.now, 700.0)),
        p_value=min(1.0, exp(-path.worse)),
        verdict=decision,
        pairs=len(units.of_pair),
        clusters=len(units.sizes),
        pairs_needed=_still_needed(arms, units, claims, "anytime") if decided is None else None,
        decided_at=round(decided * len(units.of_pair) / len(sample.baseline)) if decided else None,
        method=f"paired p{100 * claims.quantile:g}, betting confidence sequence",
    )


def _fixed(units: Clusters, claims: _Claims, arms: Arms) -> Evidence:
    low, high = arms.interval(claims.alpha)
    decision = one_look_verdict(low > claims.alarm_above, low, high, claims.margin)
    return Evidence(
        estimate=arms.difference,
        low=low,
        high=high,
        e_value=nan,
        p_value=arms.p_value(claims.alarm_above),
        verdict=decision,
        pairs=len(units.of_pair),
        clusters=len(units.sizes),
        pairs_needed=_still_needed(arms, units, claims, "fixed") if decision == "not_enough_evidence" else None,
        decided_at=None,
        method=f"paired p{100 * claims.quantile:g}, order statistics (Woodruff, MOVER)",
    )


def _nothing(mode: Mode) -> Evidence:
    return Evidence(
        estimate=nan,
        low=-inf,
        high=inf,
        e_value=1.0 if mode == "anytime" else nan,
        p_value=1.0,
        verdict="not_enough_evidence",
        pairs=0,
        clusters=0,
        pairs_needed=None,
        decided_at=None,
        method="no pairs",
    )


def _exponentiated(found: Evidence) -> Evidence:
    return replace(found, estimate=exp(found.estimate), low=exp(found.low), high=exp(found.high))


def _sample(first: Floats, second: Floats, units: Clusters, quantile: float) -> Sample:
    most = min(_MOST_CLUSTERS, round(_MOST_IN_TAIL / min(quantile, 1 - quantile)))
    every = -(-len(units.sizes) // most)
    is_chosen = np.zeros(len(units.sizes), dtype=np.bool_)
    is_chosen[::every] = True
    chosen = np.flatnonzero(is_chosen[units.of_pair])
    chosen = chosen[np.argsort(units.of_pair[chosen], kind="stable")]
    cluster = units.of_pair[chosen]
    return Sample(first[chosen], second[chosen], 1.0 / units.sizes[cluster], cluster // every)


def _path(sample: Sample, claims: _Claims) -> _Path:
    first, enough = {"worse": 0, "within": 0, "beyond": 0}, -log(claims.alpha)
    found, most = {"worse": 0.0, "within": 0.0}, 0.0
    looks = [*_looks(sample)]
    for pairs in looks:
        part = sample.first(pairs)
        known = plausible(part, claims.quantile, claims.alpha)
        found = {"worse": log_evidence(part, known, claims.alarm_above, higher=True)}
        if found["worse"] >= enough:  # what is beyond the margin is above the alarm level too, with more evidence
            found["beyond"] = log_evidence(part, known, claims.margin, higher=True)
        if not first["within"] or pairs == looks[-1]:
            found["within"] = log_evidence(part, known, claims.margin, higher=False)
        most = max(most, found["worse"])
        for name, evidence in found.items():
            if evidence >= enough and not first[name]:
                first[name] = pairs
    return _Path(found["worse"], most, found["within"], first)


def _looks(sample: Sample) -> Iterator[int]:
    last = sample.clusters[-1] + 1
    clusters = float(_FIRST_LOOK)
    while clusters < last:
        yield int(np.searchsorted(sample.clusters, int(clusters)))
        clusters = max(clusters + 1, clusters * (_EARLY if clusters < _EARLY_UNTIL else _LATE))
    yield len(sample.clusters)


def _bounds(sample: Sample, claims: _Claims, arms: Arms) -> tuple[float, float]:
    """The lowest and the highest difference that are not disproved; infinite where nothing is."""
    known = plausible(sample, claims.quantile, claims.alpha)
    farthest = float(np.ptp(np.concatenate([sample.baseline, sample.candidate]))) + 1e-9

    def bound(side: float) -> float:
        def disproved(distance: float) -> bool:
            shift = arms.difference + side * distance
            return log_evidence(sample, known, shift, higher=side < 0) >= -log(claims.alpha)

        inside, outside = (
            0.0,
            min(max(2 * abs(arms.interval(claims.alpha)[side > 0] - arms.difference), 1e-9), farthest),
        )
        while not disproved(outside):
            if outside == farthest:
                return side * inf
            inside, outside = outside, min(4 * outside, farthest)
        for _ in range(8):
            middle = (inside + outside) / 2
            inside, outside = (inside, middle) if disproved(middle) else (middle, outside)
        return arms.difference + side * outside

    return bound(-1.0), bound(1.0)


def _still_needed(arms: Arms, units: Clusters, claims: _Claims, mode: Mode) -> int | None:
    """About how many pairs are missing for ``healthy``, if the candidate is as fast as the baseline.

    What there is to see is the share of the baseline's values between its quantile and the margin above it.
    """
    have = len(units.sizes)
    gap = arms.baseline.share(arms.baseline.quantile(claims.quantile) + claims.margin) - claims.quantile
    if gap <= 0 or not np.isfinite(arms.spread):
        return None
    needed = pairs_needed(min(1.0, arms.spread**2 * have + gap**2), gap, alpha=claims.alpha, mode=mode)
    pairs_each = len(units.of_pair) / have
    return None if needed is None else round(max(needed - have, 0.1 * have) * pairs_each)
