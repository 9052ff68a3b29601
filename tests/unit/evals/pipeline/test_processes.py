"""Evaluation in processes of their own: the same outcomes, and a process that dies or hangs is replaced."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

import psutil
import pytest

from tests.support.gateway import wait_until
from traceai_vllm.evals import EvaluationResult, JSONValidation, registry
from traceai_vllm.evals.pipeline import processes
from traceai_vllm.evals.pipeline.processes import ProcessRunner
from traceai_vllm.evals.pipeline.runner import Runner

if TYPE_CHECKING:
    from collections.abc import Iterator

INPUTS = {"response": '{"days": 90}', "schema": {"type": "object", "required": ["days"]}}


class Where:
    """Says in which process it ran, by its label."""

    name = "Where"

    def evaluate(self, *, response: str) -> dict[str, Any]:
        return {"score": 1.0, "label": str(os.getpid())}


class Deadly:
    """Takes its process with it when it is told to."""

    name = "Deadly"

    def evaluate(self, *, response: str) -> float:
        if response == "die":
            os._exit(3)
        return 1.0


class Slow:
    """Takes longer than the runner's own limit."""

    name = "Slow"
    timeout_s = 30.0

    def evaluate(self, *, response: str) -> float:
        threading.Event().wait(0.3)
        return 1.0


class Stuck:
    """Keeps its process from ever coming back when it is told to."""

    name = "Stuck"

    def evaluate(self, *, response: str) -> float:
        deadline = time.monotonic() + (60 if response == "hang" else 0)
        while time.monotonic() < deadline:
            time.sleep(0.05)
        return 1.0


@pytest.fixture
def runners() -> Iterator[Any]:
    made: list[ProcessRunner] = []

    def make(*evaluators: Any, timeout_s: float = 20.0) -> ProcessRunner:
        made.append(ProcessRunner(evaluators, processes=1, timeout_s=timeout_s))
        return made[-1]

    yield make
    for runner in made:
        runner.close()


def test_outcomes_are_those_of_the_same_evaluators_here(runners: Any) -> None:
    """Scores, labels, counts and explanations come back whole."""
    assert runners(JSONValidation()).run(INPUTS) == Runner([JSONValidation()]).run(INPUTS)


def test_details_that_cannot_be_sent_cost_nobody_a_score(runners: Any) -> None:
    """The rest of the details comes back, and the other evaluators' scores."""

    class Held:
        name = "Held"

        def evaluate(self, *, response: str) -> EvaluationResult:
            details = {"client": threading.Lock(), "cost_usd": 0.25}
            return EvaluationResult(self.name, 1.0, "good", 0.5, details=details)

    held, valid = runners(Held(), JSONValidation()).run(INPUTS)

    assert (held.status, held.result and held.result.details) == ("ok", {"cost_usd": 0.25})
    assert valid.status == "ok"


def test_it_runs_elsewhere(runners: Any) -> None:
    """Not in the process that serves."""
    (outcome,) = runners(Where()).run({"response": "any"})

    assert outcome.result is not None
    assert outcome.result.label.isdecimal()
    assert outcome.result.label != str(os.getpid())


def test_a_process_that_dies_is_an_error_and_is_replaced(runners: Any, caplog: pytest.LogCaptureFixture) -> None:
    """The request that it had has no score, and the log says why, once; the next one is evaluated."""
    runner = runners(Deadly())

    (first,) = runner.run({"response": "die"})
    (second,) = runner.run({"response": "live"})
    runner.run({"response": "die"})

    assert (first.status, first.result) == ("error", None)
    assert caplog.text.count("A process for evaluators ended") == 1
    assert second.status == "ok"


def test_a_process_that_was_killed_while_it_had_nothing_to_do_costs_no_score(runners: Any) -> None:
    """As the kernel does when memory is short: the next request finds a new one."""
    runner = runners(Where())
    (first,) = runner.run({"response": "any"})
    pool = runner._pool
    os.kill(int(first.result.label), signal.SIGKILL)
    wait_until(lambda: pool._flags.broken is not None, "loky notices")

    assert runner.call(len, "abc") == 3
    (second,) = runner.run({"response": "any"})

    assert second.status == "ok"
    assert second.result.label != first.result.label


def test_an_evaluation_that_hangs_there_is_given_up(runners: Any) -> None:
    """Its deadline holds in the other process as well."""
    (outcome,) = runners(Stuck(), timeout_s=0.2).run({"response": "hang"})

    assert (outcome.status, outcome.result) == ("timeout", None)


def test_an_evaluator_that_takes_longer_may_say_so(runners: Any) -> None:
    """A judge writes for more than the usual five seconds; its scores would never come."""
    (outcome,) = runners(Slow(), timeout_s=0.05).run({"response": "take your time"})

    assert (outcome.status, outcome.result and outcome.result.score) == ("ok", 1.0)


def test_a_process_that_never_answers_is_killed(runners: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even its threads come back: it is ended from here, and the next request gets a new one."""
    runner = runners(Stuck())
    runner.run({"response": "start the process"})
    monkeypatch.setattr(processes, "_GRACE_S", 0.1)
    runner._timeout_s = 0.1

    (outcome,) = runner.run({"response": "hang"})
    monkeypatch.undo()
    runner._timeout_s = 20.0
    (next_one,) = runner.run({"response": "go on"})

    assert (outcome.status, outcome.result) == ("timeout", None)
    assert next_one.status == "ok"


SERVING = """
import json, sys
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from traceai_vllm.evals import JSONValidation
from traceai_vllm.evals.pipeline import EvaluatorSpanProcessor

exporter, provider = InMemorySpanExporter(), TracerProvider()
provider.add_span_processor(
    EvaluatorSpanProcessor(SimpleSpanProcessor(exporter), evaluators=[JSONValidation({})], processes=2)
)
messages = json.dumps([{"role": "assistant", "parts": [{"type": "text", "content": "{}"}]}])
attributes = {"gen_ai.operation.name": "chat", "gen_ai.output.messages": messages}
provider.get_tracer("test").start_span("chat m", attributes=attributes).end()
provider.force_flush(25_000)
(span,) = exporter.get_finished_spans()
print(span.attributes["traceai.evaluation.status"], flush=True)
sys.stdin.read()
"""


def test_the_processes_end_with_a_server_that_was_killed() -> None:
    """It could not tell them to; without it they would wait for ever."""
    command = [sys.executable, "-c", SERVING]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        assert server.stdout.readline().strip() == "ok"
        scoring = psutil.Process(server.pid).children(recursive=True)
        server.kill()

    assert len(scoring) >= 2
    try:
        wait_until(lambda: not any(map(_lives, scoring)), "the processes end")
    finally:
        for process in filter(_lives, scoring):
            process.kill()


def _lives(process: psutil.Process) -> bool:
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


@pytest.mark.parametrize("name", registry.names())
def test_each_evaluator_of_ours_works_there(runners: Any, name: str) -> None:
    """Also those that hold on to things that cannot be sent as they are."""
    inputs = {
        "response": '{"days": 90}',
        "context": ["The waiting period is 90 days."],
        "schema": {"type": "object"},
        "message": {"role": "assistant", "content": '{"days": 90}', "tool_calls": []},
        "tools": [{"type": "function", "function": {"name": "wait", "parameters": {"type": "object"}}}],
        "expected": [],
    }

    (outcome,) = runners(*registry.evaluators([name])).run(inputs)

    assert (outcome.name, outcome.status, outcome.error) == (name, "ok", None)


def test_what_cannot_be_sent_is_refused_by_name(runners: Any) -> None:
    """Here, and not as an error of every request."""
    evaluator = Deadly()
    evaluator.lock = threading.Lock()  # type: ignore[attr-defined]

    with pytest.raises(TypeError, match="Deadly cannot be pickled"):
        runners(evaluator)
