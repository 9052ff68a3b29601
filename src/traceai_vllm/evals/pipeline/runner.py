"""Runs evaluators so that none of them can do harm: in bounded time, and with a rest for one that keeps failing.

An evaluation that fails, hangs or answers nonsense has a status and no score.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from traceai_vllm.evals.calling import check_evaluator, run_evaluator
from traceai_vllm.evals.errors import MissingInput, UnusableInput
from traceai_vllm.evals.pipeline.inputs import without_written_calls

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Mapping, Sequence

    from traceai_vllm.evals.base import Evaluator
    from traceai_vllm.evals.result import EvaluationResult

OK = "ok"
ERROR = "error"
TIMEOUT = "timeout"
CIRCUIT_OPEN = "circuit_open"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one evaluation.

    Attributes:
        name: the evaluator's name.
        status: ``ok``, ``error``, ``timeout`` or ``circuit_open``.
        result: the result; None unless ``ok``.
        error: class of the exception, when there was one. Never its message: that may quote the answer.
    """

    name: str
    status: str
    result: EvaluationResult | None = None
    error: str | None = None


class CircuitBreaker:
    """Keeps an evaluator that failed several times in a row from being called for a while (Nygard, *Release It!*).

    After the rest one call is let through; its outcome decides.

    Args:
        failures: in a row, until it opens.
        rest_s: how long it stays open, in seconds.
        clock: monotonic, in seconds.
    """

    def __init__(self, failures: int, rest_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._limit = failures
        self._rest_s = rest_s
        self._clock = clock
        self._lock = threading.Lock()
        self._failures = 0
        self._closed_again_at = 0.0

    def allows(self) -> bool:
        """Return whether a call may be made now."""
        with self._lock:
            if self._failures < self._limit:
                return True
            now = self._clock()
            if now < self._closed_again_at:
                return False
            self._closed_again_at = now + self._rest_s  # one call is tried; others wait for what comes of it
            return True

    def succeeded(self) -> None:
        """Take note of a call that came back."""
        with self._lock:
            self._failures = 0

    def failed(self) -> None:
        """Take note of a call that did not."""
        with self._lock:
            self._failures += 1
            self._closed_again_at = self._clock() + self._rest_s


class Runner:
    """Runs a set of evaluators on the inputs of one request; several threads may use it at a time.

    Args:
        evaluators: anything with a name and ``evaluate``.
        timeout_s: how long one evaluation may take, in seconds; an evaluator's own ``timeout_s`` may be longer.
        failures: failures in a row after which an evaluator gets a rest.
        rest_s: how long that is, in seconds.

    Raises:
        TypeError: one of them is no evaluator.
        ValueError: two evaluators have one name.
    """

    def __init__(
        self, evaluators: Sequence[Evaluator], *, timeout_s: float = 5.0, failures: int = 5, rest_s: float = 60.0
    ) -> None:
        for evaluator in evaluators:
            check_evaluator(evaluator)
        names = [evaluator.name for evaluator in evaluators]
        if len({*names}) < len(names):
            raise ValueError(f"evaluators need names of their own, and these are {', '.join(names)}")
        self._evaluators = [(evaluator, CircuitBreaker(failures, rest_s)) for evaluator in evaluators]
        self._timeout_s = timeout_s
        self._failures, self._rest_s = failures, rest_s

    def renew(self) -> None:
        """Begin anew in a forked child, where a thread of the parent's may hold a breaker's lock for ever."""
        self._evaluators = [
            (evaluator, CircuitBreaker(self._failures, self._rest_s)) for evaluator, _ in self._evaluators
        ]

    def run(self, inputs: Mapping[str, Any], only: Container[str] | None = None) -> list[Outcome]:
        """Return an outcome for each evaluator that this request has the inputs for.

        Args:
            inputs: what the request has.
            only: the names of the evaluators that are asked; all when None.
        """
        inputs = without_written_calls(inputs)
        outcomes = []
        for evaluator, breaker in self._evaluators:
            if only is not None and evaluator.name not in only:
                continue
            outcome = self._run_one(evaluator, breaker, inputs)
            if outcome is not None:
                outcomes.append(outcome)
        return outcomes

    def call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Call a function of ours, which needs no watching, where the evaluators run."""
        return function(*arguments)

    def _run_one(self, evaluator: Evaluator, breaker: CircuitBreaker, inputs: Mapping[str, Any]) -> Outcome | None:
        given = inputs_for(evaluator, inputs)
        if given is None:
            return None
        if not breaker.allows():
            return Outcome(evaluator.name, CIRCUIT_OPEN)
        try:
            result = within(time_limit(evaluator, self._timeout_s), partial(run_evaluator, evaluator, given))
        except MissingInput:
            breaker.succeeded()
            return None
        except _TooLate:
            breaker.failed()
            return Outcome(evaluator.name, TIMEOUT)
        except Exception as error:
            # What nobody could judge is not the evaluator's failure: a few such requests would silence it for all.
            if isinstance(error, UnusableInput):
                breaker.succeeded()
            else:
                breaker.failed()
            return Outcome(evaluator.name, ERROR, error=type(error).__name__)
        breaker.succeeded()
        return Outcome(evaluator.name, OK, result)


def inputs_for(evaluator: Evaluator, inputs: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return what an evaluator gets of a request's inputs; None when the request is nothing for it.

    An evaluator says by ``needs`` (names of inputs) without what it is not asked, though its ``evaluate`` could do
    without; and by ``reads_tool_calls`` that it takes an answer with tool calls as a message and not as text.
    """
    if any(inputs.get(name) is None for name in getattr(evaluator, "needs", ())):
        return None
    message = inputs.get("message")
    if message is not None and getattr(evaluator, "reads_tool_calls", False):
        return {**inputs, "response": message}
    return None if inputs.get("response") is None else inputs


def time_limit(evaluator: Evaluator, usual_s: float) -> float:
    """Return how long an evaluation may take, in seconds: more than usual for one that says so by ``timeout_s``."""
    own = getattr(evaluator, "timeout_s", None)
    return max(own, usual_s) if isinstance(own, (int, float)) else usual_s


class _TooLate(Exception):
    """An evaluation was not back in time."""


def within(timeout_s: float, function: Callable[[], Any]) -> Any:
    """Call a function in a thread of its own and return what it returns.

    A thread cannot be stopped: one that hangs is left behind. It is a daemon, so it does not keep the process, and the
    circuit breaker sees to it that there are few.

    Raises:
        _TooLate: it was not back after ``timeout_s`` seconds.
        Exception: whatever it raises.
    """
    done = threading.Event()
    returned: list[Any] = []
    raised: list[BaseException] = []

    def call() -> None:
        try:
            returned.append(function())
        except BaseException as error:  # handed to the caller, SystemExit too
            raised.append(error)
        finally:
            done.set()

    threading.Thread(target=call, name="traceai-evaluation", daemon=True).start()
    if not done.wait(timeout_s):
        raise _TooLate
    if raised:
        error = raised[0]
        raise error if isinstance(error, Exception) else RuntimeError(type(error).__name__)
    return returned[0]
