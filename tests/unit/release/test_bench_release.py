"""What `make bench-release` sets beside our verdicts is what SciPy says, and its score is the usual one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from benchmarks.release.actions import macro_f1
from benchmarks.release.ordinary import mann_whitney_at, t_test_at
from benchmarks.release.rows import median, share
from benchmarks.release.scenarios import POLICY, SCENARIOS
from scipy import stats

from traceai_vllm.gateway.decision import Action
from traceai_vllm.release import Judgement, compare, decision_of, open_source, parse_policy
from traceai_vllm.release.simulator.spans import write_parquet
from traceai_vllm.release.simulator.streams import NEVER, paired_fails


def test_the_ordinary_tests_are_scipys() -> None:
    """At any look, the running t-test and Mann-Whitney test decide as SciPy does on the pairs so far."""
    random = np.random.default_rng(4)
    signs = paired_fails(random, (30, 400), disagreement=0.2, difference=0.05)
    both = (signs == 0) & (random.random(signs.shape) < 0.1)
    baseline, candidate = (signs < 0) | both, (signs > 0) | both
    t_test, mann_whitney = t_test_at(signs), mann_whitney_at(baseline, candidate)
    for look in (50, 173, 400):
        for stream in range(30):
            first, second = baseline[stream, :look].astype(float), candidate[stream, :look].astype(float)
            by_t = stats.ttest_rel(second, first, alternative="greater").pvalue < 0.05
            by_ranks = stats.mannwhitneyu(
                second, first, alternative="greater", method="asymptotic", use_continuity=False
            ).pvalue

            assert t_test[stream, look - 1] == by_t
            assert mann_whitney[stream, look - 1] == (by_ranks < 0.05)


def test_macro_f1_by_hand() -> None:
    """Of a: 2 of 3 found, none wrongly: .8. Of b: 1 of 1, once wrongly: 2/3."""
    wanted, found = np.array(["a", "a", "a", "b"]), np.array(["a", "a", "b", "b"])

    assert macro_f1(wanted, found) == pytest.approx((0.8 + 2 / 3) / 2)


def test_lines_say_how_sure_they_are() -> None:
    """A share and a median come with limits, and are held to their target."""
    row = share("D1", "x", np.array([True] * 5 + [False] * 95), most=0.06)
    late = median("D6", "x", np.array([10, 20, 30, NEVER, NEVER]), most=25)

    assert row.found == "0.0500 (0.0164 to 0.1128)"
    assert row.met
    assert late.found.startswith("30 (")
    assert late.met is False


def test_the_scenarios_can_all_be_simulated() -> None:
    """At least forty kinds of release, each action among them, each with traffic that can be made."""
    assert len({scenario.name for scenario in SCENARIOS}) == len(SCENARIOS) >= 40
    assert len({scenario.action for scenario in SCENARIOS}) == 5
    assert all(scenario.traffic(1).planted is not None for scenario in SCENARIOS)
    assert parse_policy(POLICY).gains


def test_a_slice_that_is_worse_on_every_route_is_withheld_on_every_route(tmp_path: Path) -> None:
    """Why the scenario wants a restriction: no regulated request goes to the candidate, and the rest is equal."""
    [scenario] = [one for one in SCENARIOS if one.name == "worse on regulated answers of every route"]
    write_parquet(scenario.traffic(1), tmp_path, scenario.pairs)

    decision = decision_of(Judgement(compare(open_source(tmp_path), parse_policy(POLICY))))

    assert decision.action is scenario.action
    assert decision.routes.pop("*").action is Action.KEEP_MIRRORING
    assert decision.routes
    assert all(route.only and route.only.except_slices == {"regulated"} for route in decision.routes.values())
