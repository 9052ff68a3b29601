"""Runs arms in turns, in short rounds, so that the drift of a shared machine hits all of them alike."""

from __future__ import annotations

import gc
import time
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


@dataclass(frozen=True, slots=True)
class Arm:
    """One way to run the same work.

    Attributes:
        name: as it appears in the results.
        work: does the work and returns how many requests that were.
        warm: a little of the same work, before each measurement and outside of it.
        enter: puts the arm's instrumentation in place; it is taken back on exit.
        flush: exports what is queued; counted as CPU of the arm, not as time to the answers.
        spans: returns how many spans were exported so far, to check that the arm did what it says.
        spans_per_request: how many spans each request must leave.
        spans_per_work: how many spans each call of ``work`` must leave besides.
        cpu: the CPU seconds used so far by the process in which the work is done; this one, if not given.
    """

    name: str
    work: Callable[[], int]
    warm: Callable[[], int]
    enter: Callable[[], AbstractContextManager[None]] = nullcontext
    flush: Callable[[], None] = lambda: None
    spans: Callable[[], int | None] = lambda: None
    spans_per_request: int = 0
    spans_per_work: int = 0
    cpu: Callable[[], float] = time.process_time


@dataclass(slots=True)
class Samples:
    """Per round, for one arm: seconds per request, by the wall clock and by the CPU of the process that serves them."""

    wall_s: list[float] = field(default_factory=list)
    cpu_s: list[float] = field(default_factory=list)


def run_rounds(title: str, arms: Sequence[Arm], rounds: int) -> dict[str, Samples]:
    """Run all arms ``rounds`` times and return their samples.

    The order turns by one arm each round and reverses every other round, so that no arm always follows the same one.
    """
    samples = {arm.name: Samples() for arm in arms}
    for arm in arms:
        _measure(arm, Samples())
    gc.collect()
    gc.freeze()
    for number in range(rounds):
        for arm in _order(arms, number):
            _measure(arm, samples[arm.name])
        _progress(title, number + 1, rounds, samples)
    gc.unfreeze()
    return samples


def _order(arms: Sequence[Arm], number: int) -> list[Arm]:
    shift = (number // 2) % len(arms)
    turned = [*arms[shift:], *arms[:shift]]
    return turned if number % 2 == 0 else turned[::-1]


def _measure(arm: Arm, into: Samples) -> None:
    with arm.enter():
        arm.warm()
        arm.flush()
        gc.collect()
        before = arm.spans()
        cpu, wall = arm.cpu(), time.perf_counter()
        requests = arm.work()
        wall = time.perf_counter() - wall
        arm.flush()
        cpu = arm.cpu() - cpu
        _check_spans(arm, before, requests)
    into.wall_s.append(wall / requests)
    into.cpu_s.append(cpu / requests)


def _check_spans(arm: Arm, before: int | None, requests: int) -> None:
    after = arm.spans()
    expected = arm.spans_per_request * requests + arm.spans_per_work
    if before is not None and after is not None and after - before != expected:
        raise RuntimeError(f"arm {arm.name!r} exported {after - before} spans instead of {expected}")


def _progress(title: str, done: int, rounds: int, samples: dict[str, Samples]) -> None:
    if done % max(1, rounds // 5) == 0 or done == rounds:
        latest = ", ".join(f"{name} {value.wall_s[-1] * 1e3:.3f}" for name, value in samples.items())
        print(f"  {title}: round {done}/{rounds}, ms per request: {latest}", flush=True)
