"""D1: a look after every pair. How often is a good candidate called bad, and a bad one good?"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from benchmarks.release.ordinary import mann_whitney_at, t_test_at
from benchmarks.release.rows import Row, share
from traceai_vllm.release.simulator.streams import NEVER, paired_fails, regressed_at, within_at
from traceai_vllm.release.statistics import paired_quantiles, paired_scores

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

PAIRS, MARGIN, BOTH_FAIL = 5000, 0.03, 0.1
_BATCH = 100


def run(random: np.random.Generator, scale: float, progress: Callable[[Iterable[int]], Iterable[int]]) -> list[Row]:
    """Return the lines of D1; ``scale`` 1 is 10,000 streams of 5,000 pairs."""
    batches = max(1, round(10_000 * scale / _BATCH))
    alarms: dict[str, list[np.ndarray]] = {}
    for _ in progress(range(batches)):
        for name, hits in _same_batch(random).items():
            alarms.setdefault(name, []).append(hits)
        for disagreement in (0.1, 0.04):
            worse = paired_fails(random, (_BATCH, PAIRS), disagreement=disagreement, difference=MARGIN)
            name = f"at the margin (3 points worse, {disagreement:.0%} disagree): *healthy* at some look"
            alarms.setdefault(name, []).append(within_at(worse, MARGIN) < NEVER)
    rows = [_row(name, np.concatenate(hits)) for name, hits in alarms.items()]
    return rows + _bounded_and_quantiles(random, scale, progress)


def _same_batch(random: np.random.Generator) -> dict[str, np.ndarray]:
    found = {}
    for disagreement in (0.1, 0.02):
        differences = paired_fails(random, (_BATCH, PAIRS), disagreement=disagreement, difference=0.0)
        name = f"A/A, {disagreement:.0%} disagree: *regressed* at some look"
        found[name] = regressed_at(differences) < NEVER
    differences = paired_fails(random, (_BATCH, PAIRS), disagreement=0.1, difference=0.0)
    both = random.random(differences.shape, dtype=np.float32) < BOTH_FAIL
    baseline, candidate = (
        (differences < 0) | ((differences == 0) & both),
        (differences > 0) | ((differences == 0) & both),
    )
    t_test, mann_whitney = t_test_at(differences), mann_whitney_at(baseline, candidate)
    found["— t-test, a look after every pair"] = t_test.any(axis=1)
    found["— Mann-Whitney, a look after every pair"] = mann_whitney.any(axis=1)
    found["— t-test, one look at 5,000"] = t_test[:, -1]
    found["— Mann-Whitney, one look at 5,000"] = mann_whitney[:, -1]
    return found


def _row(name: str, hits: np.ndarray) -> Row:
    return share("D1", name, hits, most=None if name.startswith("—") else 0.05)


def _bounded_and_quantiles(
    random: np.random.Generator, scale: float, progress: Callable[[Iterable[int]], Iterable[int]]
) -> list[Row]:
    """Scores and latency through the public functions, fewer streams: they take longer."""
    scores, latency, late = [], [], []
    for _ in progress(range(max(20, round(400 * scale)))):
        shared = random.beta(5, 2, 2000)
        first, second = (np.clip(shared + random.normal(0, 0.15, 2000), 0, 1) for _ in range(2))
        scores.append(paired_scores(first, second, margin=0.03).p_value <= 0.05)
        slow = random.lognormal(0, 0.6, 2000)
        one, other = (slow * random.lognormal(0, 0.2, 2000) for _ in range(2))
        latency.append(paired_quantiles(one, other, quantile=0.5, margin=1.1).p_value <= 0.05)
        late.append(paired_quantiles(one, 1.1 * other, quantile=0.5, margin=1.1).verdict == "healthy")
    return [
        share("D1", "A/A, scores, 2,000 pairs: *regressed* at some look", np.array(scores), most=0.05),
        share("D1", "A/A, median latency, 2,000 pairs: *regressed* at some look", np.array(latency), most=0.05),
        share("D1", "at the margin, median latency a tenth higher: *healthy* at some look", np.array(late), most=0.05),
    ]
