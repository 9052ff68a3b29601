"""Evaluators as such: the forms of a call, evaluators of users, and those that packages register by name."""

import asyncio
import math
import socket
import sys
import threading
from importlib.metadata import EntryPoint
from pathlib import Path

import numpy as np
import pytest

from traceai_vllm.evals import (
    EvaluationError,
    EvaluationResult,
    Groundedness,
    HallucinationScore,
    JSONValidation,
    MissingInput,
    ToolSelectionAccuracy,
    run_evaluator,
)
from traceai_vllm.evals.pipeline.runner import Runner
from traceai_vllm.evals.registry import evaluators, names

GIVEN = {"response": '{"days": 90}', "question": "How long?", "route": "claims", "schema": None}


class Users:
    """An evaluator as users write them."""

    name = "Users"

    def __init__(self, returned):
        self.returned = returned

    def evaluate(self, *, response):
        return self.returned


@pytest.mark.parametrize("kind", [Groundedness, HallucinationScore, JSONValidation, ToolSelectionAccuracy])
def test_a_threshold_is_from_0_to_1(kind):
    assert kind(threshold=1.0).threshold == 1.0
    with pytest.raises(ValueError, match=kind.name):
        kind(threshold=1.1)


def test_the_asynchronous_form_gives_the_same():
    evaluator = JSONValidation()
    assert asyncio.run(evaluator.aevaluate(response="{")) == evaluator.evaluate(response="{")
    with pytest.raises(MissingInput):
        asyncio.run(Groundedness().aevaluate(response="Yes.", context=[]))


def test_a_batch_is_in_order_and_stops_or_goes_on_at_a_failure():
    rows = [
        {"response": "Yes.", "context": "Yes."},
        {"response": "Yes.", "context": ""},
        {"response": "\u2026", "context": "No."},
    ]
    first, failed, last = Groundedness().evaluate_batch(rows, errors="return")
    assert (first.passed, type(failed), last.score) == (True, MissingInput, 1.0)
    with pytest.raises(MissingInput):
        Groundedness().evaluate_batch(rows)


@pytest.mark.parametrize(
    ("returned", "score", "label"),
    [
        (True, 1.0, "pass"),
        (0.25, 0.25, "fail"),
        ({"score": 0.75, "label": "kind", "reason": "says please"}, 0.75, "kind"),
        (EvaluationResult("Users", 0.5, "half", 0.5), 0.5, "half"),
    ],
)
def test_what_users_return_becomes_a_result(returned, score, label):
    result = run_evaluator(Users(returned), GIVEN)
    assert (result.name, result.score, result.label) == ("Users", score, label)


def test_numpys_numbers_are_numbers():
    assert run_evaluator(Users(np.float32(0.5)), GIVEN).score == 0.5
    assert run_evaluator(Users({"score": np.int64(1)}), GIVEN).score == 1.0
    assert run_evaluator(Users(np.float32(0.5) > 0.2), GIVEN).passed


def test_a_coroutine_is_awaited_where_a_loop_runs_already():
    class Slow(Users):
        async def evaluate(self, *, response):
            return 0.75

    async def notebook():
        return run_evaluator(Slow(None), GIVEN).score

    assert asyncio.run(notebook()) == 0.75


def test_a_coroutine_keeps_its_connection_from_one_evaluation_to_the_next():
    ours, theirs = socket.socketpair()

    def serve():
        with theirs, theirs.makefile("rwb", buffering=0) as lines:
            for line in lines:
                lines.write(line)

    class Connected(Users):
        connection = None

        async def evaluate(self, *, response):
            if self.connection is None:
                self.connection = await asyncio.open_connection(sock=ours)
            reader, writer = self.connection
            writer.write(b"0.75\n")
            return float(await reader.readline())

    threading.Thread(target=serve, daemon=True).start()
    with ours:
        connected = Connected(None)
        assert [run_evaluator(connected, GIVEN).score for _ in range(3)] == [0.75] * 3


def test_a_coroutine_that_blocks_holds_no_other_up():
    release = threading.Event()

    class Blocking(Users):
        name = "Blocking"

        async def evaluate(self, *, response):
            release.wait()

    class Slow(Users):
        async def evaluate(self, *, response):
            return 0.75

    blocked, slow = Runner([Blocking(None), Slow(None)], timeout_s=2.0).run(GIVEN)
    release.set()
    assert (blocked.status, slow.status) == ("timeout", "ok")


def test_a_coroutine_may_evaluate_and_may_exit():
    class Both(Users):
        async def evaluate(self, *, response):
            return run_evaluator(Slow(0.75), GIVEN).score

    class Slow(Users):
        async def evaluate(self, *, response):
            if self.returned is None:
                raise SystemExit
            return self.returned

    assert run_evaluator(Both(None), GIVEN).score == 0.75
    with pytest.raises(RuntimeError, match="SystemExit"):
        run_evaluator(Slow(None), GIVEN)
    assert run_evaluator(Both(None), GIVEN).score == 0.75


@pytest.mark.parametrize("given", [Users, lambda response: 1.0, "Groundedness", object(), None])
def test_what_is_no_evaluator_is_refused_where_it_is_given(given):
    with pytest.raises(TypeError, match=r"an evaluator (is an object: Users\(\)|has a `name` and a method)"):
        Runner([given])


@pytest.mark.parametrize(
    "returned",
    [
        *(None, "good", 1.5, -0.1, math.nan, {"label": "good"}, {"score": "1"}, {"score": 1, "threshold": "high"}),
        EvaluationResult("Users", 0.5, label=object(), threshold=0.5),
    ],
)
def test_what_is_no_score_is_an_error(returned):
    with pytest.raises(EvaluationError):
        run_evaluator(Users(returned), GIVEN)


def test_a_coroutine_function_is_awaited():
    class Slow(Users):
        async def evaluate(self, *, response, route="none"):
            return {"score": 1.0, "explanation": route}

    assert run_evaluator(Slow(None), GIVEN).explanation == "claims"


def test_an_evaluator_is_asked_only_about_what_there_is():
    class Needy(Users):
        def evaluate(self, response, schema):
            raise AssertionError("asked without a schema")

    with pytest.raises(MissingInput, match="schema"):
        run_evaluator(Needy(None), GIVEN)


def test_ours_are_known_by_name():
    assert {"Groundedness", "HallucinationScore", "JSONValidation", "ToolSelectionAccuracy"} <= set(names())
    made = evaluators(["JSONValidation", "ToolSelectionAccuracy", "JSONValidation"])
    assert [type(each) for each in made] == [JSONValidation, ToolSelectionAccuracy]
    with pytest.raises(ValueError, match=r"there is no evaluator 'Nonsense'; there are .*Groundedness"):
        evaluators(["Nonsense"])


@pytest.mark.parametrize(
    ("code", "error", "said"),
    [
        ("class Polite:\n    def __init__(self): self.key = {}['API_KEY']", ValueError, "API_KEY"),
        ("Polite = 3", ValueError, "cannot be made"),
        ("import no_such_package", ImportError, "no_such_package"),
        ("class P:\n    name = 'P'\n    def evaluate(self, response): return 1\nPolite = P()", None, ""),
    ],
)
def test_another_packages_broken_evaluator_is_named(code, error, said, tmp_path, monkeypatch):
    point = EntryPoint("Polite", "broken_politeness:Polite", "traceai_vllm.evaluators")
    (tmp_path / "broken_politeness.py").write_text(code)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "broken_politeness", raising=False)
    monkeypatch.setattr("traceai_vllm.evals.registry.entry_points", lambda **_: [point])
    if error is None:
        assert evaluators(["Polite"])[0].name == "P"
        return
    with pytest.raises(error, match=said):
        evaluators(["Polite"])


def test_another_packages_evaluator_is_known_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "politeness.py").write_text(
        "class Polite:\n    name = 'Polite'\n    def evaluate(self, response):\n        return 'please' in response\n"
    )
    metadata = tmp_path / "politeness-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: politeness\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text("[traceai_vllm.evaluators]\nPolite = politeness:Polite\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    (polite,) = evaluators(["Polite"])
    assert run_evaluator(polite, {"response": "please wait"}).passed
