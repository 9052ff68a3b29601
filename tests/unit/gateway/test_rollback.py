"""The guard over candidates that answer users: when it acts, and how long that holds."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from traceai_vllm.gateway.burn import Window
from traceai_vllm.gateway.options import GuardLimits
from traceai_vllm.gateway.rollback import Rollback, RolloutGuard, Shift

SHIFT = Shift("support", "decision 'd1'", '{"mode":"candidate"}', rests_on=900.0)
LIMITS = GuardLimits(min_answers=20, short_s=60, long_s=600, burn_rate=2, max_errors=0.05, slow_first_byte_s=1.0)


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def seen() -> list[Rollback]:
    return []


@pytest.fixture
def make(clock: Clock, seen: list[Rollback]) -> Callable[..., RolloutGuard]:
    def made(limits: GuardLimits = LIMITS, path: Path | None = None) -> RolloutGuard:
        given_path = None if path is None else str(path)
        return RolloutGuard(lambda: limits, given_path, seen.append, clock=clock, wall_clock=clock)

    return made


def good(guard: RolloutGuard, count: int, shift: Shift = SHIFT) -> None:
    for _ in range(count):
        guard.answered(shift, failed=False, timed_out=False, first_byte_s=0.1)


def failed(guard: RolloutGuard, count: int, *, timed_out: bool = False, shift: Shift = SHIFT) -> None:
    for _ in range(count):
        guard.answered(shift, failed=True, timed_out=timed_out, first_byte_s=None)


def test_errors_beyond_the_budget_take_the_route_back_at_once(
    make: Callable[..., RolloutGuard], seen: list[Rollback], caplog: pytest.LogCaptureFixture
) -> None:
    """With the answer that uses the budget up too fast, with a log line and an event that say why."""
    guard = make()
    good(guard, 40)
    failed(guard, 4)
    assert guard.undone(SHIFT) is None
    with caplog.at_level(logging.ERROR):
        failed(guard, 1)

    rollback = guard.undone(SHIFT)
    assert rollback is not None
    assert (rollback.signal, seen) == ("errors", [rollback])
    assert "errors: 5 for 45 answers" in rollback.why
    assert rollback.why in caplog.text
    assert guard.counts == {("support", "errors"): 1}


def test_few_answers_say_nothing(make: Callable[..., RolloutGuard]) -> None:
    """Not before there are enough of them."""
    guard = make()
    failed(guard, 19)
    assert guard.undone(SHIFT) is None
    failed(guard, 1)
    assert guard.undone(SHIFT) is not None


def test_trouble_that_is_over_does_not_count(make: Callable[..., RolloutGuard], clock: Clock) -> None:
    """Both windows have to burn: the short one has forgotten what was minutes ago."""
    guard = make()
    failed(guard, 15)
    clock.now += 120
    good(guard, 100)
    failed(guard, 1)
    assert guard.undone(SHIFT) is None


@pytest.mark.parametrize("signal", ["timeouts", "slow", "failed_evaluations", "negative_feedback"])
def test_each_signal_is_watched(make: Callable[..., RolloutGuard], seen: list[Rollback], signal: str) -> None:
    """Time-outs, slow first bytes, evaluations that fail, users who complain."""
    guard = make(LIMITS.model_copy(update={"max_errors": 1.0}))
    good(guard, 30)
    for _ in range(30):
        if signal == "timeouts":
            failed(guard, 1, timed_out=True)
        elif signal == "slow":
            guard.answered(SHIFT, failed=False, timed_out=False, first_byte_s=2.0)
        elif signal == "failed_evaluations":
            guard.evaluated(SHIFT, passed=False)
        else:
            guard.criticized(SHIFT)
    assert [rollback.signal for rollback in seen] == [signal]


def test_a_rollback_holds_until_a_decision_rests_on_newer_evidence(make: Callable[..., RolloutGuard]) -> None:
    """The same decision written again, or another one from before, does not undo it."""
    guard = make()
    failed(guard, 20)
    assert guard.undone(SHIFT._replace(source="decision 'd2'", rests_on=999.0)) is not None
    assert guard.undone(SHIFT._replace(rests_on=1001.0)) is None
    assert guard.undone(SHIFT._replace(route="other")) is None


def test_a_rollback_holds_against_a_decision_of_a_clock_that_is_ahead(
    make: Callable[..., RolloutGuard], seen: list[Rollback]
) -> None:
    """Its evidence ends in the future: it is taken back once, and stays so; a later one of a good clock counts."""
    guard, ahead = make(), SHIFT._replace(rests_on=5000.0)
    failed(guard, 40, shift=ahead)
    assert guard.undone(ahead) is not None
    assert len(seen) == 1
    assert guard.undone(SHIFT._replace(rests_on=999.0)) is not None
    assert guard.undone(SHIFT._replace(rests_on=1001.0)) is None


def test_such_a_rollback_outlives_a_restart_too(make: Callable[..., RolloutGuard], tmp_path: Path) -> None:
    """Also one that a gateway of before wrote, which noted the decision's date as its own."""
    path, ahead = tmp_path / "rollbacks.json", SHIFT._replace(rests_on=5000.0)
    failed(make(path=path), 20, shift=ahead)
    assert make(path=path).undone(ahead) is not None
    [entry] = json.loads(path.read_text())
    del entry["rests_on"]
    path.write_text(json.dumps([{**entry, "at": 5000.0}]))
    assert make(path=path).undone(ahead) is not None


def test_windows_of_another_length_are_obeyed_at_once(clock: Clock, seen: list[Rollback]) -> None:
    """The limits are read anew for each answer."""
    limits = [LIMITS]
    guard = RolloutGuard(lambda: limits[0], None, seen.append, clock=clock, wall_clock=clock)
    good(guard, 1000)
    guard.baseline_answered("support", failed=False)
    limits[0] = LIMITS.model_copy(update={"short_s": 5, "long_s": 10, "baseline_s": 10})
    clock.now += 20
    failed(guard, 20)
    assert [rollback.signal for rollback in seen] == ["errors"]
    assert guard.of_the_baseline("support", "errors") == (0, 0)


def test_a_rollback_of_the_configuration_holds_until_it_changes(make: Callable[..., RolloutGuard]) -> None:
    """The text of what is in force decides."""
    guard = make()
    configured = Shift("support", "gateway.yaml", '{"mode":"canary","share":0.5}', None)
    failed(guard, 20, shift=configured)
    assert guard.undone(configured) is not None
    assert guard.undone(configured._replace(serving='{"mode":"canary","share":0.1}')) is None


def test_a_rollback_outlives_a_restart(make: Callable[..., RolloutGuard], tmp_path: Path) -> None:
    """Where a file is given; one that cannot be read is no reason not to start."""
    path = tmp_path / "rollbacks.json"
    failed(make(path=path), 20)
    assert make(path=path).undone(SHIFT) is not None
    no_time = [{**entry, "at": "never"} for entry in json.loads(path.read_text())]
    for text in ("[{]", json.dumps(no_time)):
        path.write_text(text)
        assert make(path=path).undone(SHIFT) is None


@pytest.mark.parametrize("signal", ["errors", "failed_evaluations"])
def test_a_candidate_that_is_worse_than_the_baseline_is_taken_back(
    make: Callable[..., RolloutGuard], seen: list[Rollback], signal: str
) -> None:
    """Within its budget, and before there are enough answers for burn rates: the baseline's own rate is known."""
    limits = LIMITS.model_copy(update={"max_errors": 1.0, "max_failed_evaluations": 1.0, "min_answers": 100})
    guard = make(limits)
    for number in range(400):
        guard.baseline_answered("support", failed=number % 100 == 0)
        guard.baseline_evaluated("support", passed=number % 100 != 0)
    for number in range(90):
        bad = number % 3 == 0
        if signal == "errors":
            guard.answered(SHIFT, failed=bad, timed_out=False, first_byte_s=0.1)
        else:
            guard.evaluated(SHIFT, passed=not bad)
    [rollback] = seen
    assert rollback.signal == signal
    assert "the baseline, which had 4 for 400 answers" in rollback.why


@pytest.mark.parametrize("known", [0, 400])
def test_a_candidate_that_is_as_bad_as_the_baseline_is_not(make: Callable[..., RolloutGuard], known: int) -> None:
    """Also where both fail often; and without answers of the baseline's nothing is compared."""
    guard = make(LIMITS.model_copy(update={"max_failed_evaluations": 1.0}))
    for number in range(known):
        guard.baseline_evaluated("support", passed=number % 3 != 0)
    for number in range(3000):
        guard.evaluated(SHIFT, passed=number % 3 != 0)
    assert guard.undone(SHIFT) is None


def test_it_can_be_turned_off(make: Callable[..., RolloutGuard]) -> None:
    """For those who watch in another way."""
    guard = make(GuardLimits(enabled=False))
    failed(guard, 1000)
    assert guard.undone(SHIFT) is None


@given(st.lists(st.tuples(st.floats(0, 30), st.integers(0, 5), st.integers(0, 5)), max_size=100))
def test_a_window_counts_what_is_not_older_than_it(steps: list[tuple[float, int, int]]) -> None:
    """Within one of its 60 slots: all of the last 59, none of what is older than 60."""
    clock = Clock()
    window = Window(60.0, clock)
    added: list[tuple[float, int, int]] = []
    for wait_s, events, bad in steps:
        clock.now += wait_s
        window.add(events, bad)
        added.append((clock.now, events, bad))
    for column, count in enumerate(window.counts(), start=1):
        certain = sum(entry[column] for entry in added if entry[0] > clock.now - 59)
        possible = sum(entry[column] for entry in added if entry[0] >= clock.now - 61)
        assert certain <= count <= possible
