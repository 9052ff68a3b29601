"""Ends telemetry providers in bounded time: a dead collector must not hold up the process that it watched.

The SDK's own exit handlers wait for the exporters' retries, batch by batch and signal after signal. Seen with
opentelemetry-sdk 1.45 and both OTLP exporters, spans and metrics only: a collector that refuses connections
held up the exit for 12 s with one span queued and for 30 s with 2,000; one that accepts and never answers,
for 16 s and 43 s. Their public methods take no timeout that they keep. So each provider is ended by a thread
of its own, and the process waits for all of them together, and no longer.
"""

from __future__ import annotations

import atexit
import logging
import os
import threading
import time
from typing import TYPE_CHECKING, Any

from traceai_vllm import guard
from traceai_vllm.telemetry.forking import at_exit_of_children

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_log = logging.getLogger("traceai_vllm")


class Closer:
    """Runs ``close`` once, in a thread of its own, when asked.

    The thread is started now and waits, because Python 3.12 and later refuse new threads while they exit.

    Args:
        name: of the thread.
        close: what to run.
    """

    def __init__(self, name: str, close: Callable[[], Any]) -> None:
        self._name = name
        self._close = close
        self._start()
        os.register_at_fork(after_in_child=self._start)

    def ask(self) -> None:
        """Let the thread go ahead; the first call counts."""
        self._asked.set()

    def wait(self, timeout_s: float) -> bool:
        """Return whether it has ended after at most ``timeout_s`` seconds."""
        return self._ended.wait(max(0.0, timeout_s))

    def _start(self) -> None:
        self._asked = threading.Event()
        self._ended = threading.Event()
        threading.Thread(target=self._run, args=(self._asked, self._ended), name=self._name, daemon=True).start()

    def _run(self, asked: threading.Event, ended: threading.Event) -> None:
        asked.wait()
        try:
            self._close()
        except Exception as error:
            guard.report("shutdown", error)
        finally:
            ended.set()


def close_all(closers: Sequence[Closer], timeout_s: float) -> bool:
    """Run all closers side by side, and return whether they have ended within ``timeout_s`` seconds."""
    deadline = time.monotonic() + timeout_s
    for closer in closers:
        closer.ask()
    return all(closer.wait(deadline - time.monotonic()) for closer in closers)


def close_at_exit(closers: Sequence[Closer], timeout_s: float) -> None:
    """Run all closers when the process exits, and let it go after ``timeout_s`` seconds at most."""

    def close() -> None:
        if not close_all(closers, timeout_s):
            _log.warning(
                "traceai-vllm could not deliver all telemetry within %g s of exit (is the collector up?) and "
                "lets the process go. What was still queued is lost.",
                timeout_s,
            )

    atexit.register(close)
    at_exit_of_children(close)


def run_all(calls: Sequence[Callable[[], bool]], timeout_s: float) -> bool:
    """Run all calls side by side, and return whether all have returned True within ``timeout_s``."""
    results: list[bool] = []

    def run(call: Callable[[], bool]) -> None:
        try:
            results.append(bool(call()))
        except Exception as error:
            guard.report("flush", error)

    threads = [threading.Thread(target=run, args=(call,), daemon=True) for call in calls]
    deadline = time.monotonic() + timeout_s
    try:
        for thread in threads:
            thread.start()
    except RuntimeError:  # Python is on its way out and takes no more threads
        return False
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    return len(results) == len(calls) and all(results)
