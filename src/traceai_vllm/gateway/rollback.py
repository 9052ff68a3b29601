"""The guard over candidates that answer users: it watches their answers, and gives the route back to the baseline.

It rests on burn rates (:mod:`.burn`), one for each way to be bad; and, for errors and evaluations, on a sequential
test against what the baseline did on the same route (:mod:`.drift`). What it took back stays so until there is a
decision that rests on newer evidence, or ``gateway.yaml`` says something else for the route.
"""

from __future__ import annotations

import json
import logging
import os
import time
from collections import Counter
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from traceai_vllm.gateway.burn import Burn, Window
from traceai_vllm.gateway.drift import Detector, upper_rate

if TYPE_CHECKING:
    from collections.abc import Callable

    from traceai_vllm.gateway.options import GuardLimits

_log = logging.getLogger("traceai_vllm.gateway")

ERRORS = "errors"
TIMEOUTS = "timeouts"
SLOW = "slow"
EVALUATIONS = "failed_evaluations"
FEEDBACK = "negative_feedback"
# The source of what no decision says.
CONFIGURATION = "gateway.yaml"
# Of these the baseline's rate is known too.
_COMPARED = (ERRORS, EVALUATIONS)


class Shift(NamedTuple):
    """What moved users of a route to the candidate.

    Attributes:
        route: the route.
        source: a decision's id, or ``gateway.yaml``.
        serving: what is in force for the route, as text; another text is another shift.
        rests_on: the newest evidence of the decision, in seconds since the epoch; None for the configuration.
    """

    route: str
    source: str
    serving: str
    rests_on: float | None


class Rollback(NamedTuple):
    """A route that was given back to the baseline.

    Attributes:
        route: the route.
        at: when, in seconds since the epoch.
        signal: what was watched: ``errors``, ``timeouts``, ``slow``, ``failed_evaluations`` or ``negative_feedback``.
        why: in one sentence.
        source: what had moved users to the candidate.
        serving: how the route was served.
        rests_on: the newest evidence of the decision that had, in seconds since the epoch; None for the configuration.
    """

    route: str
    at: float
    signal: str
    why: str
    source: str
    serving: str
    rests_on: float | None = None

    def undoes(self, shift: Shift) -> bool:
        """Return whether it still holds against what is in force."""
        if shift.rests_on is None:
            return shift.serving == self.serving
        # The decision itself may be dated in the future, by mistake or by a clock that is ahead.
        return shift.rests_on <= self.at or shift.rests_on == self.rests_on


class RolloutGuard:
    """Watches candidates that answer users.

    Args:
        limits: what is allowed; read anew for each answer.
        path: file that keeps what was taken back; None: memory alone.
        rolled_back: called with each rollback, when it is in force.
        current: returns what moves a route's users now, where they are served as an earlier shift had them served: what
            comes late of that one counts too; None: it does not count.
        clock: seconds, monotonic; for tests.
        wall_clock: seconds since the epoch; for tests.
    """

    def __init__(
        self,
        limits: Callable[[], GuardLimits],
        path: str | None,
        rolled_back: Callable[[Rollback], None],
        *,
        current: Callable[[Shift], Shift | None] = lambda shift: shift,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self._limits = limits
        self._path = None if path is None else Path(path)
        self._rolled_back = rolled_back
        self._current = current
        self._clock = clock
        self._wall_clock = wall_clock
        # By route, how it is served, and signal: a decision that is made again asks for nothing else.
        self._burns: dict[tuple[str, str, str], Burn] = {}
        self._detectors: dict[tuple[str, str, str], Detector] = {}
        self._baselines: dict[tuple[str, str], Window] = {}
        self.counts: Counter[tuple[str, str]] = Counter()
        self.rollbacks: dict[str, Rollback] = self._kept()

    def undone(self, shift: Shift) -> Rollback | None:
        """Return the rollback that holds against what moved a route's users to the candidate; None when none does."""
        rollback = self.rollbacks.get(shift.route)
        return rollback if rollback is not None and rollback.undoes(shift) else None

    def served(self, route: str, shift: Shift | None) -> None:
        """Take in what moves a route's users from now on: what the configuration no longer says is not undone again.

        Args:
            route: the route.
            shift: what moves its users to the candidate; None when nothing does.
        """
        rollback = self.rollbacks.get(route)
        if rollback is None or rollback.source != CONFIGURATION or (shift is not None and rollback.undoes(shift)):
            return
        del self.rollbacks[route]
        self._keep()

    def answered(self, shift: Shift, *, failed: bool, timed_out: bool, first_byte_s: float | None) -> None:
        """Take in an answer of the candidate's to a user.

        Args:
            shift: what moved the route's users to the candidate.
            failed: whether it failed, or the baseline had to answer instead.
            timed_out: whether that was because of a time-out.
            first_byte_s: how long its first byte took; None when there was none.
        """
        limits = self._limits()
        self._note(shift, ERRORS, 1, int(failed), limits.max_errors)
        self._note(shift, TIMEOUTS, 1, int(timed_out), limits.max_timeouts)
        self._note(shift, FEEDBACK, 1, 0, limits.max_negative_feedback)
        if limits.slow_first_byte_s is not None:
            slow = first_byte_s is None or first_byte_s > limits.slow_first_byte_s
            self._note(shift, SLOW, 1, int(slow), limits.max_slow)

    def given_up(self, shift: Shift, waited_s: float) -> None:
        """Take in that a user hung up before the candidate's first byte, after so many seconds."""
        limits = self._limits()
        if limits.slow_first_byte_s is not None and waited_s > limits.slow_first_byte_s:
            self._note(shift, SLOW, 1, 1, limits.max_slow)

    def evaluated(self, shift: Shift, *, passed: bool) -> None:
        """Take in an evaluation of an answer of the candidate's to a user."""
        self._note(shift, EVALUATIONS, 1, int(not passed), self._limits().max_failed_evaluations)

    def baseline_answered(self, route: str, *, failed: bool) -> None:
        """Take in an answer of the baseline's to a user."""
        self._baseline(route, ERRORS).add(1, int(failed))

    def baseline_evaluated(self, route: str, *, passed: bool) -> None:
        """Take in an evaluation of an answer of the baseline's to a user."""
        self._baseline(route, EVALUATIONS).add(1, int(not passed))

    def of_the_baseline(self, route: str, signal: str) -> tuple[int, int]:
        """Return how many answers of the baseline's are known on a route, and how many of them were bad in that way."""
        return self._baseline(route, signal).counts()

    def criticized(self, shift: Shift) -> None:
        """Take in a user's negative feedback on an answer of the candidate's."""
        self._note(shift, FEEDBACK, 0, 1, self._limits().max_negative_feedback)

    def _note(self, earlier: Shift, signal: str, events: int, bad: int, budget: float) -> None:
        limits, shift = self._limits(), self._current(earlier)
        if not limits.enabled or shift is None or self.undone(earlier) is not None or self.undone(shift) is not None:
            return
        key = (shift.route, shift.serving, signal)
        burn = self._burns.get(key)
        if burn is None or (burn.short.span_s, burn.long.span_s) != (limits.short_s, limits.long_s):
            self._forget_others(shift)
            burn = self._burns[key] = Burn(limits.short_s, limits.long_s, self._clock)
        burn.add(events, bad)
        if bad and burn.exceeds(budget, limits.burn_rate, limits.min_answers):
            all_, bad_ = burn.long.counts()
            why = f"{bad_} for {all_} answers of the candidate in {limits.long_s:g} s, where {budget:.1%} are allowed"
            self._roll_back(shift, signal, why)
        elif signal in _COMPARED:
            self._compare(shift, signal, bool(bad))

    def _compare(self, shift: Shift, signal: str, bad: bool) -> None:
        limits = self._limits()
        events, bad_ones = self.of_the_baseline(shift.route, signal)
        allowed = upper_rate(bad_ones, events) + limits.max_excess
        if events < limits.min_answers or allowed >= 1:
            return
        detector = self._detectors.setdefault((shift.route, shift.serving, signal), Detector())
        if detector.add(bad, allowed) >= limits.answers_per_false_alarm and bad:
            why = (
                f"the candidate is worse than the baseline, which had {bad_ones} for {events} answers, by more than "
                f"{limits.max_excess:.1%} of the answers (sequential test)"
            )
            self._roll_back(shift, signal, why)

    def _baseline(self, route: str, signal: str) -> Window:
        window, span_s = self._baselines.get((route, signal)), self._limits().baseline_s
        if window is None or window.span_s != span_s:
            window = self._baselines[route, signal] = Window(span_s, self._clock)
        return window

    def _roll_back(self, shift: Shift, signal: str, reason: str) -> None:
        why = f"{signal}: {reason}"
        rollback = Rollback(shift.route, self._wall_clock(), signal, why, shift.source, shift.serving, shift.rests_on)
        self.rollbacks[shift.route] = rollback
        self.counts[shift.route, signal] += 1
        self._forget_others(shift._replace(serving=""))
        _log.error("The baseline answers on the route %r again, against %s. %s", shift.route, shift.source, why)
        self._keep()
        self._rolled_back(rollback)

    def _forget_others(self, shift: Shift) -> None:
        # What was counted before the route was served in this way says nothing about this way.
        route, serving = shift.route, shift.serving
        self._burns = {k: burn for k, burn in self._burns.items() if k[0] != route or k[1] == serving}
        self._detectors = {k: v for k, v in self._detectors.items() if k[0] != route or k[1] == serving}

    def _keep(self) -> None:
        if self._path is None:
            return
        new = self._path.with_name(self._path.name + ".new")
        try:
            new.write_text(json.dumps([rollback._asdict() for rollback in self.rollbacks.values()], indent=1))
            os.replace(new, self._path)
        except OSError as error:
            _log.error("The rollback is in force, and would be forgotten by a restart: %s", error)

    def _kept(self) -> dict[str, Rollback]:
        if self._path is None:
            return {}
        try:
            entries: Any = json.loads(self._path.read_text())
            return {entry["route"]: Rollback(**{**entry, "at": float(entry["at"])}) for entry in entries}
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, TypeError, KeyError) as error:
            _log.error("%s cannot be read (%s): rollbacks from before the restart are not known", self._path, error)
            return {}


def when(rollback: Rollback) -> str:
    """Return when a rollback was, as text."""
    return datetime.fromtimestamp(rollback.at, timezone.utc).isoformat(timespec="seconds")
