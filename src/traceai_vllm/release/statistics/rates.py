"""Paired fail rates and mean scores: by how much does the candidate fail more, or score less, than the baseline?"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from traceai_vllm.release.statistics import fixed, means
from traceai_vllm.release.statistics.clusters import clusters_of, paired
from traceai_vllm.release.statistics.evidence import Evidence, verdict

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from traceai_vllm.release.statistics.clusters import Clusters
    from traceai_vllm.release.statistics.evidence import Mode

    Floats = NDArray[np.float64]


def paired_rates(
    baseline: ArrayLike,
    candidate: ArrayLike,
    *,
    margin: float,
    alpha: float = 0.05,
    clusters: ArrayLike | None = None,
    order: ArrayLike | None = None,
    mode: Mode = "anytime",
    alarm_above: float = 0.0,
) -> Evidence:
    """Compare the rates of an event that is bad (a fail, an error, a thumb down) in pairs.

    The estimate is the candidate's rate minus the baseline's. Anytime: betting on the pairs that disagree. Fixed:
    Tango's score interval and McNemar's exact test; with clusters of several pairs, Student's interval of their means.

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
    if not (np.isin(first, (0, 1)).all() and np.isin(second, (0, 1)).all()):
        raise ValueError("fails are 0 or 1; for scores between them use paired_scores")
    units = clusters_of(len(first), clusters, order)
    claims = means.Claims(margin, alarm_above, alpha)
    differences = units.means(second - first)
    if mode == "anytime":
        return means.anytime(differences, claims, units, "paired fail rates, betting confidence sequence")
    if not units.single:
        return _student(differences, claims, units)
    up, down = int((differences > 0).sum()), int((differences < 0).sum())
    return _one_look(
        differences,
        fixed.tango_interval(up, down, len(differences), alpha),
        _mcnemar(up, down) if alarm_above == 0 else fixed.tango_p(up, down, len(differences), alarm_above),
        claims=claims,
        units=units,
        method="paired fail rates, Tango score interval, McNemar exact test",
    )


def paired_scores(
    baseline: ArrayLike,
    candidate: ArrayLike,
    *,
    margin: float,
    alpha: float = 0.05,
    lowest: float = 0.0,
    highest: float = 1.0,
    clusters: ArrayLike | None = None,
    order: ArrayLike | None = None,
    mode: Mode = "anytime",
    alarm_above: float = 0.0,
) -> Evidence:
    """Compare the means of a bounded score, where higher is better, in pairs.

    The estimate is the drop: the baseline's mean minus the candidate's. Anytime: betting. Fixed: Student's interval of
    the differences, or of their cluster means.

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
    both = np.concatenate([first, second])
    if not lowest < highest or (both < lowest).any() or (both > highest).any():
        raise ValueError(f"a score lies outside [{lowest:g}, {highest:g}]: say lowest and highest as they can be")
    span = highest - lowest
    units = clusters_of(len(first), clusters, order)
    claims = means.Claims(margin / span, alarm_above / span, alpha)
    differences = units.means((first - second) / span)
    if mode == "anytime":
        found = means.anytime(differences, claims, units, "paired mean scores, betting confidence sequence")
    else:
        found = _student(differences, claims, units)
    return means.scaled(found, span)


def _student(differences: Floats, claims: means.Claims, units: Clusters) -> Evidence:
    interval = fixed.mean_interval(differences, claims.alpha)
    p_value = fixed.mean_p(differences, claims.alarm_above)
    kind = "pair differences" if units.single else "cluster means"
    return _one_look(differences, interval, p_value, claims=claims, units=units, method=f"Student interval of {kind}")


def _one_look(
    differences: Floats,
    interval: tuple[float, float],
    p_value: float,
    *,
    claims: means.Claims,
    units: Clusters,
    method: str,
) -> Evidence:
    low, high = max(interval[0], -1.0), min(interval[1], 1.0)
    found = verdict(
        worse=p_value <= claims.alpha, within_margin=high < claims.margin, beyond_margin=low > claims.margin
    )
    undecided = found == "not_enough_evidence"
    return Evidence(
        estimate=float(np.mean(differences)) if len(differences) else float("nan"),
        low=low,
        high=high,
        e_value=float("nan"),
        p_value=p_value,
        verdict=found,
        pairs=len(units.of_pair),
        clusters=len(units.sizes),
        pairs_needed=means.still_needed(differences, claims, units, "fixed") if undecided else None,
        decided_at=None,
        method=method,
    )


def _mcnemar(up: int, down: int) -> float:
    from scipy.stats import binomtest

    return float(binomtest(up, up + down, 0.5, alternative="greater").pvalue) if up + down else 1.0
