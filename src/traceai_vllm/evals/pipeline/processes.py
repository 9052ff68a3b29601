"""Runs evaluators in processes of their own, so that scoring never holds the GIL of the process that serves.

By loky: its processes do not import the application's main module (that of ``vllm serve`` would bring vLLM and torch),
take evaluators that are defined there all the same, and can be killed.
"""

from __future__ import annotations

import contextlib
import logging
import os
import pickle
import threading
import time
from concurrent.futures import BrokenExecutor
from concurrent.futures import TimeoutError as FutureTimeoutError
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from traceai_vllm.evals.errors import optional
from traceai_vllm.evals.pipeline.runner import ERROR, TIMEOUT, Outcome, Runner, inputs_for, time_limit

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from traceai_vllm.evals.base import Evaluator

_log = logging.getLogger("traceai_vllm")
_GRACE_S = 10.0
_START_S = 30.0
_NICENESS = 10
_LOOK_FOR_PARENT_S = 2.0
_ENVIRONMENT = {"OMP_NUM_THREADS": "1", "TRACEAI_VLLM_ENABLED": "0"}


class ProcessRunner:
    """As :class:`~traceai_vllm.evals.pipeline.runner.Runner`, in other processes, which give way to the server's.

    A process that hangs or dies is replaced; the request that it had gets a status and no score.

    Args:
        evaluators: anything with a name and ``evaluate``; they are pickled (by cloudpickle).
        processes: how many.
        timeout_s: how long one evaluation may take, in seconds.

    Raises:
        MissingExtra: loky is not installed.
        TypeError: one of them is no evaluator, or cannot be pickled.
        ValueError: two evaluators have one name.
    """

    def __init__(self, evaluators: Sequence[Evaluator], *, processes: int, timeout_s: float) -> None:
        Runner(evaluators)  # refuses here what it would refuse there
        self._loky = optional("loky", "evaluation in processes of their own")
        if unsendable := [evaluator.name for evaluator in evaluators if not sendable(evaluator)]:
            raise TypeError(f"{', '.join(unsendable)} cannot be pickled for another process; use processes=0")
        self._evaluators = list(evaluators)
        self._processes = processes
        self._timeout_s = timeout_s
        self._lock = threading.Lock()
        self._pool: Any = None
        self._parents: Any = None
        self._told = False

    def run(self, inputs: Mapping[str, Any]) -> list[Outcome]:
        """Return an outcome for each evaluator that this request has the inputs for."""
        limit_s = sum(time_limit(evaluator, self._timeout_s) for evaluator in self._evaluators) + _GRACE_S
        pool, submitted = self._submit(_run, dict(inputs))
        try:
            outcomes: list[Outcome] = submitted.result(timeout=limit_s)
        except FutureTimeoutError:
            self._give_up(pool)
            return self._failed(inputs, TIMEOUT, None)
        except Exception as error:  # the process died, or the pool was closed meanwhile
            self._tell(error)
            self._give_up(pool)
            return self._failed(inputs, ERROR, type(error).__name__)
        return outcomes

    def call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Call a function of ours in one of the processes.

        Raises:
            Exception: what it raises; or the process died, or took too long.
        """
        return self._submit(function, *arguments)[1].result(timeout=_START_S)

    def close(self) -> None:
        """End the processes, also those that hang."""
        with self._lock:
            pool, self._pool = self._pool, None
        _kill(pool)

    def _submit(self, function: Callable[..., Any], *arguments: Any) -> tuple[Any, Any]:
        """Return the pool that has taken a call, and its future; a pool that broke since the last call is replaced."""
        pool = self._running()
        try:
            return pool, pool.submit(function, *arguments)
        except BrokenExecutor as error:  # its process was killed while it had nothing to do
            self._tell(error)
            self._give_up(pool)
        pool = self._running()
        return pool, pool.submit(function, *arguments)

    def renew(self) -> None:
        """Begin anew in a forked child: the processes are its parent's, who goes on with them."""
        self._lock = threading.Lock()
        # Held, because collecting it as garbage would have something to say to the parent's processes.
        self._parents, self._pool = self._pool, None

    def _running(self) -> Any:
        with self._lock:
            if self._pool is None:
                self._pool = self._loky.ProcessPoolExecutor(
                    self._processes,
                    initializer=_prepare,
                    initargs=(self._evaluators, self._timeout_s, os.getpid()),
                    env=_ENVIRONMENT,
                )
            return self._pool

    def _tell(self, error: Exception) -> None:
        # What broke the pool (an import that fails, a signal) says nothing of the answer; other errors might.
        if isinstance(error, BrokenExecutor) and not self._told:
            self._told = True
            _log.warning(
                "A process for evaluators ended; its request has no scores. Next time only counted.", exc_info=error
            )

    def _give_up(self, pool: Any) -> None:
        with self._lock:
            if self._pool is pool:
                self._pool = None
        _kill(pool)

    def _failed(self, inputs: Mapping[str, Any], status: str, error: str | None) -> list[Outcome]:
        asked = [evaluator for evaluator in self._evaluators if inputs_for(evaluator, inputs) is not None]
        return [Outcome(evaluator.name, status, error=error) for evaluator in asked]


def sendable(evaluator: Evaluator) -> bool:
    """Return whether an evaluator can be sent to another process."""
    try:
        optional("cloudpickle", "evaluation in processes of their own").dumps(evaluator)
    except Exception:  # whatever the evaluator's own objects raise
        return False
    return True


def _kill(pool: Any) -> None:
    if pool is not None:
        with contextlib.suppress(Exception):  # it may be broken already
            pool.shutdown(wait=False, kill_workers=True)


_runner: Runner | None = None


def _prepare(evaluators: Sequence[Evaluator], timeout_s: float, parent: int) -> None:
    global _runner  # noqa: PLW0603 - one per process, made when the process starts
    threading.Thread(target=_end_with, args=(parent,), name="traceai-parent", daemon=True).start()
    os.nice(_NICENESS)
    _runner = Runner(evaluators, timeout_s=timeout_s)


def _end_with(parent: int) -> None:
    """End this process when its parent is gone, which was killed and could not say so: it would wait for ever."""
    while os.getppid() == parent:
        time.sleep(_LOOK_FOR_PARENT_S)
    os._exit(0)


def _run(inputs: dict[str, Any]) -> list[Outcome]:
    assert _runner is not None
    return [_plain(outcome) for outcome in _runner.run(inputs)]


def _plain(outcome: Outcome) -> Outcome:
    # What a result holds may be views of something (`mappingproxy`), which cannot be sent.
    if outcome.result is None:
        return outcome
    details = {name: value for name, value in outcome.result.details.items() if _can_be_sent(value)}
    return replace(outcome, result=replace(outcome.result, counts=dict(outcome.result.counts), details=details))


def _can_be_sent(value: Any) -> bool:
    # One evaluator's client or lock among its details would cost the scores of all, and this process.
    try:
        pickle.dumps(value)
    except Exception:  # whatever the value's own objects raise
        return False
    return True
