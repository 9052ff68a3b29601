"""D5: from spans to the action, whole: is it the right one?"""

from __future__ import annotations

import tempfile
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.release.rows import Row, share
from benchmarks.release.scenarios import POLICY, SCENARIOS, Scenario
from traceai_vllm.gateway.decision import Action
from traceai_vllm.release import Judgement, compare, open_source, parse_policy
from traceai_vllm.release.simulator.spans import write_parquet

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

DAY_NS = 86_400 * 10**9


def run(random: np.random.Generator, scale: float, progress: Callable[[Iterable[int]], Iterable[int]]) -> list[Row]:
    """Return the lines of D5; ``scale`` 1 is 20 seeds of each scenario."""
    seeds = max(1, round(20 * scale))
    runs = [(number % len(SCENARIOS), int(random.integers(2**31))) for number in range(seeds * len(SCENARIOS))]
    with ProcessPoolExecutor(mp_context=get_context("spawn")) as pool:
        running = [pool.submit(_decided, *run) for run in runs]
        done = [(SCENARIOS[runs[number][0]], running[number].result()) for number in progress(range(len(runs)))]
    wanted = np.array([scenario.action.value for scenario, _ in done])
    found = np.array([action.value for _, action in done])
    unfit = np.array([scenario.action is not Action.PROMOTE for scenario, _ in done])
    score = macro_f1(wanted, found)
    what = f"macro-F1 of the action, {len(SCENARIOS)} scenarios x {seeds} seeds"
    rows = [Row("D5", what, "≥ 0.95", f"{score:.3f}", score >= 0.95)]
    rows.append(share("D5", "promoted although it should not be", (found == "promote")[unfit], most=0.0))
    for scenario in SCENARIOS:
        others = [action.value for one, action in done if one is scenario and action is not scenario.action]
        if others:
            text = f"{len(others)} of {seeds}: {', '.join(sorted(set(others)))}"
            rows.append(Row("D5", f"— not as wanted: {scenario.name} ({scenario.action.value})", "", text))
    return rows


def _decided(number: int, seed: int) -> Action:
    return decided(SCENARIOS[number], seed)


def decided(scenario: Scenario, seed: int) -> Action:
    """Simulate a release, compare it, and return the action."""
    with tempfile.TemporaryDirectory() as folder:
        write_parquet(scenario.traffic(seed), Path(folder), scenario.pairs)
        comparison = compare(open_source(folder), parse_policy(POLICY))
        newest = comparison.end_ns
        as_of = None if newest is None else newest + int(scenario.days_old * DAY_NS)
        return Judgement(comparison, as_of).action


def macro_f1(wanted: np.ndarray, found: np.ndarray) -> float:
    """Return the mean over the wanted actions of the harmonic mean of precision and recall."""
    scores = []
    for action in np.unique(wanted):
        right = ((wanted == action) & (found == action)).sum()
        scores.append(2 * right / max((wanted == action).sum() + (found == action).sum(), 1))
    return float(np.mean(scores))
