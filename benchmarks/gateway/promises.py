"""What has to hold whatever the machine does: users' answers, the books, whole captures, who is obeyed and how soon.

All of it through the program, with stubs as its servers. ``make soak`` has the long forms of the faults.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections import Counter
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

import httpx
from tests.support.stub_upstream import HANG, Behaviour, words_of

from benchmarks.engine.verdicts import MET, NOT_MET, Row
from benchmarks.gateway.load import PATH, answers
from benchmarks.gateway.processes import free_port, gateway, stub
from traceai_vllm.gateway import Decision, names
from traceai_vllm.gateway.decision import Action, RouteDecision
from traceai_vllm.store import connect
from traceai_vllm.telemetry import semconv

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    import psutil

_MIB = 1024 * 1024
_SIZES = (_MIB, 4 * _MIB, 16 * _MIB)
_FAULTS = ("500", "slow", HANG, "hang_mid_stream", "garbage", "killed", "truncated", "error_event", "refused")
_PER_SECOND = 200.0
_TOKENS = 50
_MIN_ANSWERS = 20
# The stub's made-up words are looked for as they were said: now and then they look like the number of a payment card,
# which the gateway takes out unless it is told not to.
_ENVIRONMENT = {"OTEL_TRACES_EXPORTER": "none", "TRACEAI_VLLM_CONTENT_PATTERNS": "none"}


@dataclass
class Amounts:
    """How much is asked.

    Attributes:
        each: requests for each fault.
        hang_s: how long the candidate hangs under load.
        streams: streams that are looked at on both arms.
        changes: of the decision file.
        rollbacks: candidates that the guard takes back.
    """

    each: int = 1_000
    hang_s: float = 20.0
    streams: int = 400
    changes: int = 20
    rollbacks: int = 10


QUICK = Amounts(each=100, hang_s=3.0, streams=50, changes=4, rollbacks=2)


class _Program:
    """A gateway that runs with everything mirrored, and where it is reached."""

    def __init__(self, process: psutil.Process, port: int, admin: int) -> None:
        self.process = process
        self.port = port
        self._admin = admin
        self.differences: list[int] = []

    def balance(self) -> dict[str, Any]:
        """Return the books; what they lack is noted."""
        [balance] = httpx.get(f"http://127.0.0.1:{self._admin}/books").json()
        self.differences.append(abs(balance["difference"]))
        return dict(balance)

    def settled(self) -> dict[str, Any]:
        """Return the books when nothing is in flight any more."""
        while (balance := self.balance())["in_flight"]:
            time.sleep(0.05)
        return balance


def rows(directory: Path, amounts: Amounts, begins: Callable[[str], None]) -> list[Row]:
    """Measure all of it, and return the lines of the table.

    Args:
        directory: for files.
        amounts: how much is asked.
        begins: is told what is measured next.
    """
    made: list[Row] = []
    for name, measure in (
        ("faults", _faults),
        ("streams", streams),
        ("bodies", _bodies),
        ("decisions", _decisions),
        ("rollbacks", _rollbacks),
    ):
        begins(name)
        own = directory / name
        own.mkdir()
        made += measure(own, amounts)
    return made


def _faults(directory: Path, amounts: Amounts) -> list[Row]:
    port, candidate = free_port(), free_port()
    bodies = [_body(str(number % 20), stream=number % 4 != 0) for number in range(amounts.each)]
    limits = {"queue_timeout_s": 0.5, "timeout_s": 0.5}
    wrong = 0
    with stub(port), _running(directory, port, candidate, mirror=limits) as program:
        expected = asyncio.run(answers(port, bodies[:20]))
        for fault in _FAULTS:
            with contextlib.nullcontext() if fault == "refused" else stub(candidate, "--fault", fault):
                given = asyncio.run(answers(program.port, bodies))
            wrong += sum(answer != expected[number % 20] for number, answer in enumerate(given))
            program.balance()
        program.settled()
        looks = program.differences
    hung = [bodies[number % 20] for number in range(int(_PER_SECOND * amounts.hang_s))]
    with stub(port), stub(candidate, "--fault", HANG), _running(directory, port, candidate) as program:
        asyncio.run(answers(program.port, hung[:400]))
        before = program.process.memory_info().rss
        given = asyncio.run(answers(program.port, hung, per_second=_PER_SECOND))
        grown = (program.process.memory_info().rss - before) / _MIB
        wrong += sum(answer != expected[number % 20] for number, answer in enumerate(given))
        program.balance()
        looks += program.differences
    asked = len(_FAULTS) * len(bodies) + len(hung)
    ways = f"failed or altered answers of {asked:,}, the candidate broken in {len(_FAULTS)} ways"
    memory = f"memory grown by in {amounts.hang_s:g} s of a hanging candidate at 200 requests/s"
    return [
        _row("B4", ways, "0", str(wrong), wrong == 0),
        _row("B4", memory, "≤ 64 MiB", f"{grown:.1f} MiB", grown <= 64),
        _row("B5", f"difference in the books, largest of {len(looks)} looks", "0", str(max(looks)), not any(looks)),
    ]


def streams(directory: Path, amounts: Amounts) -> list[Row]:
    """Return the line on streams: how many of those sampled are in the store whole, on both arms."""
    port, candidate = free_port(), free_port()
    bodies = [_body(str(number), stream=True, tools=number % 4 == 0) for number in range(amounts.streams)]
    telemetry = {"content": "SPAN_ONLY", "store": str(directory / "store")}
    given = ("--tokens", str(_TOKENS), "--gap-ms", "1")
    with (
        stub(port, *given),
        stub(candidate, *given),
        _running(directory, port, candidate, telemetry=telemetry) as program,
    ):
        asyncio.run(answers(program.port, bodies))
        sampled = program.settled()["sampled"]
    said = {body["messages"][0]["content"]: "".join(words_of(body, Behaviour(tokens=_TOKENS))) for body in bodies}
    with connect(directory / "store") as connection:
        spans = connection.execute("SELECT attributes FROM spans").fetchall()
    arms = Counter(
        attributes[names.PAIR_ID]
        for attributes in (json.loads(text) for (text,) in spans)
        if names.PAIR_ARM in attributes and _whole(attributes, said)
    )
    whole = sum(count == 2 for count in arms.values())
    label = f"sampled streams captured whole on both arms, of {sampled}"
    return [_row("B6", label, "100 %", f"{whole / sampled:.1%}", whole == sampled == len(bodies))]


def _whole(attributes: dict[str, Any], said: dict[str, str]) -> bool:
    """Whether an arm's span has all that the stub said, and why it ended."""
    [asked] = json.loads(attributes[semconv.INPUT_MESSAGES])
    [answer] = json.loads(attributes[semconv.OUTPUT_MESSAGES])
    [part] = answer["parts"]
    expected = said[asked["parts"][0]["content"]]
    if part["type"] == "tool_call":
        return bool(part["arguments"] == {"say": expected} and answer["finish_reason"] == "tool_calls")
    return bool(part["content"] == expected and answer["finish_reason"] == "stop")


def _bodies(directory: Path, amounts: Amounts) -> list[Row]:
    port, candidate = free_port(), free_port()
    bodies = [_body("x" * (size - len(json.dumps(_body("", stream=False)))), stream=False) for size in _SIZES]
    with stub(port), stub(candidate), _running(directory, port, candidate) as program:
        whole = asyncio.run(answers(program.port, bodies, 1)) == asyncio.run(answers(port, bodies, 1))
        paired = program.settled()["paired"]
    label = "bodies of 1, 4 and 16 MiB: users have the server's answer, and both arms are a pair"
    return [_row("B6", label, "3 of 3", f"{paired} of 3" if whole else "altered", whole and paired == len(_SIZES))]


def _decisions(directory: Path, amounts: Amounts) -> list[Row]:
    took = []
    with _decided(directory, {"enabled": False}) as (ask, decide):
        for number in range(amounts.changes):
            wanted = number % 2 == 0
            decide(Action.PROMOTE if wanted else Action.FALLBACK)
            began = time.perf_counter()
            while ask() != wanted:
                time.sleep(0.005)
            took.append(time.perf_counter() - began)
    label = f"from a change of the decision file to the first answer by it, slowest of {len(took)}"
    return [_row("B7", label, "≤ 1 s", f"{max(took):.2f} s", max(took) <= 1)]


def _rollbacks(directory: Path, amounts: Amounts) -> list[Row]:
    further = []
    # Every first byte is too slow for this guard, so the last of so many answers is the trigger.
    with _decided(directory, {"slow_first_byte_s": 1e-6, "min_answers": _MIN_ANSWERS}) as (ask, decide):
        for _ in range(amounts.rollbacks):
            decide(Action.PROMOTE)
            while not ask():
                time.sleep(0.005)
            further.append(1 + sum(ask() for _ in range(3 * _MIN_ANSWERS)) - _MIN_ANSWERS)
    label = f"further requests to the candidate after the trigger of a rollback, most of {len(further)}"
    return [_row("B7", label, "≤ 1", str(max(further)), 0 <= max(further) <= 1)]


@contextlib.contextmanager
def _decided(directory: Path, guard: dict[str, Any]) -> Iterator[tuple[Callable[[], bool], Callable[[Action], None]]]:
    """Run a gateway with a decision file; yield who asks (True: the candidate answers), and who writes decisions."""
    path = directory / "decision.json"
    port, candidate = free_port(), free_port()
    settings = {"decision_file": str(path), "guard": guard}

    def decide(action: Action) -> None:
        now = datetime.now(timezone.utc)
        routes = {"r": RouteDecision(action=action)}
        decision = Decision(id=str(now), action=action, policy_hash="sha256:0", made_at=now, routes=routes)
        new = path.with_suffix(".new")
        new.write_text(decision.model_dump_json(exclude_none=True))
        new.replace(path)

    with (
        stub(port, "--variant", "baseline-"),
        stub(candidate, "--variant", "candidate-"),
        _running(directory, port, candidate, **settings) as program,
        httpx.Client() as client,
    ):
        url, body = f"http://127.0.0.1:{program.port}{PATH}", _body("x", stream=False)
        yield lambda: "candidate-" in client.post(url, json=body).raise_for_status().text, decide


@contextlib.contextmanager
def _running(directory: Path, baseline: int, candidate: int, **settings: Any) -> Iterator[_Program]:
    port, admin = free_port(), free_port()
    servers = {"one": baseline, "two": candidate}
    config = {
        "listen": f"127.0.0.1:{port}",
        "admin": f"127.0.0.1:{admin}",
        "books": str(directory / f"books-{port}"),
        "servers": {name: {"url": f"http://127.0.0.1:{server}"} for name, server in servers.items()},
        "routes": [{"name": "r", "baseline": "one", "candidate": "two"}],
        **settings,
    }
    path = directory / f"gateway-{port}.yaml"
    path.write_text(json.dumps(config))  # JSON is YAML
    with gateway(path, port, _ENVIRONMENT) as process:
        yield _Program(process, port, admin)


def _body(content: str, *, stream: bool, tools: bool = False) -> dict[str, Any]:
    body = {"model": "m", "messages": [{"role": "user", "content": content}], "stream": stream}
    return {**body, "tools": [{"type": "function", "function": {"name": "say"}}]} if tools else body


def _row(target: str, what: str, limit: str, measured: str, met: bool) -> Row:
    return Row(target, what, limit, measured, verdict=MET if met else NOT_MET)
