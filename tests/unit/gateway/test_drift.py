"""The sequential test of the guard: the release decision's bets, asked for as long as the candidate answers."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from statsmodels.stats.proportion import proportion_confint

from traceai_vllm.gateway.drift import Detector, upper_rate
from traceai_vllm.release.statistics import betting
from traceai_vllm.release.statistics.stream import stream_of


def evidence(answers: list[bool], allowed: float, detector: Detector) -> list[float]:
    return [detector.add(bad, allowed) for bad in answers]


def of_the_release(answers: list[bool], allowed: float) -> list[float]:
    """Return the log of what the release decision's bets have made of 1, for differences of -1 (good) and 1 (bad)."""
    differences = np.where(answers, 1.0, -1.0)
    return [float(log) for log in betting.log_wealth_path(stream_of(differences), 2 * allowed - 1)]


@given(st.lists(st.booleans(), min_size=1, max_size=60), st.floats(0.01, 0.6))
def test_it_never_has_less_evidence_than_the_release_decision(answers: list[bool], allowed: float) -> None:
    """With the same bets; and exactly as much as long as no bet has lost."""
    detector = Detector(list(betting.FRACTIONS), list(betting.SHARES))
    found = [math.log(value) for value in evidence(answers, allowed, detector)]
    expected = of_the_release(answers, allowed)
    assert all(ours >= theirs - 1e-9 for ours, theirs in zip(found, expected, strict=True))
    bad = answers.index(False) if False in answers else len(answers)
    assert found[:bad] == pytest.approx(expected[:bad])


def test_a_candidate_that_is_just_good_enough_is_left_alone() -> None:
    """40 runs of 2,000 answers at the allowed rate itself; an alarm is expected once in 100,000 answers at most."""
    chance = random.Random(6)
    alarms = 0
    for _ in range(40):
        detector = Detector()
        alarms += max(evidence([chance.random() < 0.05 for _ in range(2000)], 0.05, detector)) >= 100_000
    assert alarms <= 2


@pytest.mark.parametrize(("share", "within"), [(1.0, 10), (0.3, 120), (0.15, 500)])
@pytest.mark.parametrize("good_before", [0, 10_000])
def test_trouble_is_found_as_fast_after_a_good_week(share: float, within: int, good_before: int) -> None:
    """Where 5 % are allowed, and after as many good answers as you like."""
    chance = random.Random(7)
    detector = Detector()
    assert not any(value >= 1e6 for value in evidence([False] * good_before, 0.05, detector))
    found = evidence([chance.random() < share for _ in range(within)], 0.05, detector)
    assert max(found) >= 1e6


@given(st.integers(0, 2000), st.integers(1, 2000))
def test_the_upper_rate_is_wilsons(bad: int, events: int) -> None:
    """As statsmodels has it."""
    bad = min(bad, events)
    _, high = proportion_confint(bad, events, alpha=0.05, method="wilson")
    assert upper_rate(bad, events) == pytest.approx(min(1.0, high), rel=1e-4)
    assert upper_rate(0, 0) == 1.0
