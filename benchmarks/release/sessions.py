"""D4: pairs that come in sessions. Do 95 % intervals cover the truth in 95 % of releases?"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from benchmarks.release.rows import Row, share
from traceai_vllm.release.statistics import paired_quantiles, paired_rates, paired_scores

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from traceai_vllm.release.statistics import Evidence

ICC, SIZE, SESSIONS = 0.04, 50, 60
UP, DOWN = 0.07, 0.05
ALPHA = 0.025  # of each end: together 95 %


def run(random: np.random.Generator, scale: float, progress: Callable[[Iterable[int]], Iterable[int]]) -> list[Row]:
    """Return the lines of D4; ``scale`` 1 is 2,000 releases of 60 sessions with 50 pairs each."""
    ids = np.repeat(np.arange(SESSIONS), SIZE)
    inside: dict[str, list[bool]] = {}
    for _ in progress(range(max(50, round(2000 * scale)))):
        baseline, candidate = _fails(random)
        scores = _scores(random)
        slow = _latency(random)
        found: dict[str, tuple[Evidence, float]] = {
            "fail rates": (_fixed(paired_rates, baseline, candidate, ids), UP - DOWN),
            "scores": (_fixed(paired_scores, *scores, ids), 0.02),
            "median latency": (
                paired_quantiles(*slow, quantile=0.5, margin=2, alpha=ALPHA, clusters=ids, mode="fixed"),
                1.05,
            ),
            "— fail rates, sessions not told": (_fixed(paired_rates, baseline, candidate, None), UP - DOWN),
            "— fail rates, anytime": (paired_rates(baseline, candidate, margin=0.5, alpha=ALPHA, clusters=ids), 0.02),
        }
        for name, (evidence, truth) in found.items():
            inside.setdefault(name, []).append(evidence.low <= truth <= evidence.high)
    return [
        share("D4", f"{name}, 95 % interval", np.array(hits), **({} if name.startswith("—") else _ASKED))
        for name, hits in inside.items()
    ]


_ASKED = {"least": 0.93, "most": 0.97}


def _fixed(compare: Callable[..., Evidence], first: np.ndarray, second: np.ndarray, ids: np.ndarray | None) -> Evidence:
    return compare(first, second, margin=0.5, alpha=ALPHA, clusters=ids, mode="fixed")


def _fails(random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Each session has its own chances of the three outcomes of a pair, from a Dirichlet with this ICC."""
    chances = random.dirichlet((1 - ICC) / ICC * np.array([UP, DOWN, 1 - UP - DOWN]), SESSIONS)
    outcome = (random.random((SESSIONS, SIZE, 1)) > np.cumsum(chances, axis=1)[:, None, :2]).sum(axis=2).ravel()
    return outcome == 1, outcome == 0


def _scores(random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    drop = 0.02 + _with_mood(random, 0.1)
    first = random.uniform(0.4, 0.6, SESSIONS * SIZE)
    return np.clip(first, 0, 1), np.clip(first - np.clip(drop, -0.4, 0.4), 0, 1)


def _latency(random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    work = _with_mood(random, 0.5)
    return np.exp(work + _with_mood(random, 0.2)), 1.05 * np.exp(work + _with_mood(random, 0.2))


def _with_mood(random: np.random.Generator, spread: float) -> np.ndarray:
    mood = np.repeat(random.normal(0, np.sqrt(ICC), SESSIONS), SIZE)
    return spread * (mood + random.normal(0, np.sqrt(1 - ICC), SESSIONS * SIZE))
