"""Paired fail rates and mean scores: by how much does the candidate fail more, or score less, than the baseline?"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from traceai_vllm.release.statistics import fixed, means
from traceai_vllm.release.statistics.clusters import Singles, clusters_of, paired
from traceai_vllm.release.statistics.evidence import Evidence, one_look_verdict
from traceai_vllm.release.statistics.stream import both_streams, stream_of, stream_of_counts

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from traceai_vllm.release.statistics.clusters import Clusters
    from traceai_vllm.release.statistics.evidence import Mode
    from traceai_vllm.release.statistics.stream import Stream

    Floats = NDArray[np.float64]

_BETTING_RATES = "paired fail rates, betting confidence sequence"


def paired_rates(
    baseline: ArrayLike,
    candidate: ArrayLike,
    *,
    margin: float,
    alpha: float = 0.05,
    clusters: ArrayLike | Clusters | None = None,
    order: ArrayLike | None = None,
    mode: Mode = "anytime",
    alarm_above: float = 0.0,
) -> Evidence:
    """Compare the rates of an event that is bad (a fail, an error, a thumb down) in pairs.

    The estimate is the candidate's rate minus the baseline's. Anytime: betting on the pairs that disagree. Fixed:
    Tango's score interval and McNemar's exact test; with clusters of several pairs, Tango's of effective counts.

    Args:
        baseline: 1 or True where the baseline failed, shape (pairs,).
        candidate: the same for the candidate, shape (pairs,).
        margin: how much higher the candidate's rate may be, stated beforehand, e.g. 0.03 for 3 points.
        alpha: the chance of a false verdict, of either kind.
        clusters: the session or agent task of each pair, shape (pairs,); None when each pair stands alone. Leave out
            those that still go on: a cluster is one unit of evidence and arrives with its last pair.
        order: when each pair (its last score) arrived, shape (pairs,); None when they stand in that order.
        mode: ``anytime`` (look after every pair if you like) or ``fixed`` (one look, the number of pairs set before).
        alarm_above: ``regressed`` means worse than this; 0 for worse at all.

    Raises:
        ValueError: shapes differ, a value is missing or neither 0 nor 1, or a level is out of range.
    """
    first, second = paired(baseline, candidate)
    if not all(((values == 0) | (values == 1)).all() for values in (first, second)):
        raise ValueError("fails are 0 or 1; for scores between them use paired_scores")
    units = clusters_of(len(first), clusters, order)
    claims = means.Claims(margin, alarm_above, alpha)
    moved = second - first
    differences = units.means(moved)
    if mode == "anytime":
        streams = both_streams(differences)
        return means.anytime(*streams, units, claims, _BETTING_RATES)
    if not units.single:
        return _tango_of_clusters(moved, differences, units, claims)
    return _tango(stream_of(differences), units, claims)


def paired_rate_counts(
    only_candidate: ArrayLike,
    only_baseline: ArrayLike,
    pairs: ArrayLike,
    *,
    margin: float,
    alpha: float = 0.05,
    mode: Mode = "anytime",
    alarm_above: float = 0.0,
) -> Evidence:
    """Do the same as :func:`paired_rates` from counts, as a database gives them; for pairs that stand alone.

    Args:
        only_candidate: pairs in which only the candidate failed, a number, or one for each look in order of arrival
            (since the look before), shape (looks,).
        only_baseline: pairs in which only the baseline failed, likewise.
        pairs: all pairs, those that agree too, likewise.
        margin: see :func:`paired_rates`.
        alpha: see :func:`paired_rates`.
        mode: see :func:`paired_rates`.
        alarm_above: see :func:`paired_rates`.

    Raises:
        ValueError: counts do not fit together, or a level is out of range.
    """
    ups, downs, all_ = (
        np.atleast_1d(np.asarray(count, np.float64)) for count in (only_candidate, only_baseline, pairs)
    )
    if not ups.shape == downs.shape == all_.shape or (ups < 0).any() or (downs < 0).any() or (ups + downs > all_).any():
        raise ValueError("needed: as many counts of each kind, none below 0, and no more disagreements than pairs")
    claims, units = means.Claims(margin, alarm_above, alpha), Singles(int(all_.sum()))
    stream = stream_of_counts(ups, downs, all_)
    if mode == "anytime":
        return means.anytime(stream, replace(stream, levels=-stream.levels), units, claims, _BETTING_RATES)
    return _tango(stream, units, claims)


def paired_scores(
    baseline: ArrayLike,
    candidate: ArrayLike,
    *,
    margin: float,
    alpha: float = 0.05,
    lowest: float = 0.0,
    highest: float = 1.0,
    clusters: ArrayLike | Clusters | None = None,
    order: ArrayLike | None = None,
    mode: Mode = "anytime",
    alarm_above: float = 0.0,
) -> Evidence:
    """Compare the means of a bounded score, where higher is better, in pairs.

    The estimate is the drop: the baseline's mean minus the candidate's. Anytime: betting. Fixed: Gaffke's interval
    of the differences, or of their cluster means, which needs no normal ones and allows for what so many pairs missed.

    Args:
        baseline: scores of the baseline's answers, shape (pairs,).
        candidate: scores of the candidate's, shape (pairs,).
        margin: the largest drop that is allowed, in units of the score, stated beforehand.
        alpha: see :func:`paired_rates`.
        lowest: the lowest score that is possible.
        highest: the highest.
        clusters: see :func:`paired_rates`.
        order: see :func:`paired_rates`.
        mode: see :func:`paired_rates`.
        alarm_above: ``regressed`` means a drop of more than this, in units of the score.

    Raises:
        ValueError: shapes differ, a score is missing or outside its range, or a level is out of range.
    """
    first, second = paired(baseline, candidate)
    outside = any(len(arm) and (arm.min() < lowest or arm.max() > highest) for arm in (first, second))
    if not lowest < highest or outside:
        raise ValueError(f"a score lies outside [{lowest:g}, {highest:g}]: say lowest and highest as they can be")
    span = highest - lowest
    units = clusters_of(len(first), clusters, order)
    claims = means.Claims(margin / span, alarm_above / span, alpha)
    dropped = (first - second) / span
    differences = units.means(dropped)
    streams = both_streams(differences)
    if mode == "anytime":
        found = means.anytime(*streams, units, claims, "paired mean scores, betting confidence sequence")
    else:
        square = float(units.means(dropped**2).mean()) if units.count else 0.0
        effective = units.effective(differences, square, int(np.count_nonzero(dropped)))
        found = _gaffke(streams, units, claims, units.count / units.chances(effective) if units.count else 1.0)
    return means.scaled(found, span)


def _tango(stream: Stream, units: Clusters | Singles, claims: means.Claims) -> Evidence:
    up, down = int(stream.totals[stream.levels > 0].sum()), int(stream.totals[stream.levels < 0].sum())
    exact = claims.alarm_above == 0
    return _one_look(
        stream,
        fixed.at_least_exact(
            fixed.tango_interval(up, down, units.count, claims.alpha), up, down, units.count, claims.alpha
        ),
        fixed.mcnemar_p(up, down) if exact else fixed.tango_p(up, down, units.count, claims.alarm_above),
        units=units,
        claims=claims,
        method="paired fail rates, Tango score interval, McNemar exact test",
    )


def _tango_of_clusters(moved: Floats, differences: Floats, units: Clusters, claims: means.Claims) -> Evidence:
    up, down = (float(units.shares(of_pair).mean()) for of_pair in (moved > 0, moved < 0))
    effective = units.effective(differences, up + down, int(np.count_nonzero(moved)))
    counts, freedom = (up * effective, down * effective, effective), units.count - 1
    return _one_look(
        stream_of(differences),
        fixed.at_least_exact(fixed.tango_interval(*counts, claims.alpha, freedom), *counts, claims.alpha),
        fixed.tango_p(*counts, claims.alarm_above, freedom),
        units=units,
        claims=claims,
        method="paired fail rates, Tango score interval of effective counts",
    )


def _gaffke(streams: tuple[Stream, Stream], units: Clusters, claims: means.Claims, worst: float) -> Evidence:
    return _one_look(
        streams[0],
        fixed.mean_interval(*streams, claims.alpha, worst),
        fixed.mean_p(streams[0], claims.alarm_above, worst),
        units=units,
        claims=claims,
        method=f"paired mean scores, Gaffke interval of {'pair differences' if units.single else 'cluster means'}",
    )


def _one_look(
    stream: Stream,
    interval: tuple[float, float],
    p_value: float,
    *,
    units: Clusters | Singles,
    claims: means.Claims,
    method: str,
) -> Evidence:
    low, high = max(interval[0], -1.0), min(interval[1], 1.0)
    decision = one_look_verdict(p_value <= claims.alpha, low, high, claims.margin)
    undecided = decision == "not_enough_evidence"
    return Evidence(
        estimate=stream.mean,
        low=low,
        high=high,
        e_value=float("nan"),
        p_value=p_value,
        verdict=decision,
        pairs=units.pairs,
        clusters=units.count,
        pairs_needed=means.still_needed(stream.square, units, claims, "fixed") if undecided else None,
        decided_at=None,
        method=method,
    )
