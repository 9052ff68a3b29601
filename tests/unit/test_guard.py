"""The guard: errors of ours stay here, everything of the user's goes on."""

from __future__ import annotations

import asyncio
import logging
import subprocess
import sys
from collections import Counter

import pytest

from tests.support.records import in_memory_metrics, points
from traceai_vllm import guard
from traceai_vllm.guard import Guard
from traceai_vllm.telemetry.metrics import RequestMetrics

pytestmark = pytest.mark.internal_errors_expected


@pytest.fixture(autouse=True)
def _no_errors_so_far(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "_errors", Counter())


def test_an_error_of_ours_is_swallowed_counted_and_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    """The first of a kind is logged, with a traceback and the word that the user's call is fine; all are counted."""
    for _ in range(3):
        with Guard("reading a request"):
            raise KeyError("no such field")

    assert guard.internal_errors() == {("reading a request", "KeyError"): 3}
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert "Your vLLM call is not affected" in record.getMessage()
    assert record.exc_info


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, GeneratorExit, asyncio.CancelledError])
def test_what_belongs_to_the_user_passes(error: type[BaseException]) -> None:
    """Cancellation, a closed generator and an interrupt are no errors of ours."""
    with pytest.raises(error), Guard("anything"):
        raise error

    assert guard.internal_errors() == {}


def test_a_broken_log_handler_reaches_nobody() -> None:
    """Not even an error while reporting an error gets to the user."""

    class Broken(logging.Handler):
        def handle(self, record: logging.LogRecord) -> bool:
            raise OSError("disk full")

    handler = Broken()
    logging.getLogger("traceai_vllm").addHandler(handler)
    try:
        with Guard("reading a request"):
            raise KeyError
    finally:
        logging.getLogger("traceai_vllm").removeHandler(handler)

    assert guard.internal_errors() == {("reading a request", "KeyError"): 1}


def test_internal_errors_are_a_metric() -> None:
    """What was swallowed can be watched in production."""
    provider, reader = in_memory_metrics()
    RequestMetrics(provider.get_meter("test"))
    with Guard("reading a request"):
        raise KeyError

    (point,) = points(reader)["traceai.internal.errors"]
    assert point.value == 1
    assert dict(point.attributes) == {"where": "reading a request", "error.type": "KeyError"}


@pytest.mark.parametrize("module", ["traceai_vllm.guard", "traceai_vllm.telemetry.metrics"])
def test_a_child_is_not_stuck_that_is_forked_while_a_thread_counts(module: str) -> None:
    """It has a lock of nobody's, and counts of its own: those of its parent are reported by its parent."""
    script = f"""
import importlib, os, signal, threading
from collections import Counter
from opentelemetry.metrics import NoOpMeter
from traceai_vllm import guard
from traceai_vllm.telemetry import metrics
counts, held, done = metrics.counts_of(meter := NoOpMeter("m")), threading.Event(), threading.Event()
full = metrics.CappedDimension(0, counts, "route")
def count():
    full("a")
    guard.report("here", KeyError())
def hold():
    with importlib.import_module("{module}")._lock:
        held.set()
        done.wait(0.2)
count()
threading.Thread(target=hold).start()
held.wait()
child = os.fork()
signal.alarm(20)
count()
if not child:
    os._exit(counts["route"] * 10 + guard.internal_errors()["here", "KeyError"])
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    ended = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script], capture_output=True, text=True, timeout=60, check=False
    )
    assert ended.stdout.split() == ["11"], ended.stderr
