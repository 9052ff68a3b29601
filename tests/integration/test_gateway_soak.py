"""Many requests through the program while its candidate breaks in one way after the other: users never notice.

``TRACEAI_GATEWAY_SOAK`` sets how many requests (default 10,000; ``make soak``: 100,000), ``TRACEAI_GATEWAY_HANG_S`` how
long the candidate hangs under load (default 2 s; ``make soak``: 600).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import httpx
import psutil
import pytest
import yaml

from tests.support.api_server import free_port
from tests.support.gateway import wait_until
from tests.support.stub_upstream import HANG, StubUpstream

REQUESTS = int(os.environ.get("TRACEAI_GATEWAY_SOAK", "10000"))
HANG_S = float(os.environ.get("TRACEAI_GATEWAY_HANG_S", "2"))
PER_SECOND = 200
AT_ONCE = 16
MIB = 1024 * 1024
FAULTS = (None, "500", "garbage", "slow", HANG, "hang_mid_stream", "killed", "truncated", "error_event", "refused")


@contextlib.contextmanager
def program(directory: Path, baseline: str, candidate: str, **mirror: Any) -> Iterator[tuple[str, str, psutil.Process]]:
    """Run the gateway with everything mirrored; yield its URL, its operators' URL and its process."""
    listen, admin = (f"127.0.0.1:{free_port()}" for _ in range(2))
    settings = {
        "listen": listen,
        "admin": admin,
        "books": str(directory / "books"),
        "servers": {"one": {"url": baseline}, "two": {"url": candidate}},
        "routes": [{"name": "r", "baseline": "one", "candidate": "two"}],
        "mirror": mirror,
    }
    path = directory / "gateway.yaml"
    path.write_text(yaml.safe_dump(settings))
    environment = {**os.environ, "OTEL_TRACES_EXPORTER": "none", "OTEL_METRICS_EXPORTER": "none"}
    environment["OTEL_LOGS_EXPORTER"] = "none"
    command = [sys.executable, "-m", "traceai_vllm.cli", "gateway", "--config", str(path)]
    process = subprocess.Popen(command, env=environment)
    try:
        wait_until(lambda: is_up(f"http://{admin}/healthz") and is_up(f"http://{listen}/health"), "the program serves")
        yield f"http://{listen}", f"http://{admin}", psutil.Process(process.pid)
    finally:
        process.terminate()
        process.wait(30)


def is_up(url: str) -> bool:
    with contextlib.suppress(httpx.TransportError):
        return httpx.get(url).status_code == 200
    return False


def chat(number: int) -> dict[str, Any]:
    return {"model": "m", "messages": [{"role": "user", "content": f"question {number}"}], "stream": number % 4 != 0}


def books(admin: str) -> dict[str, Any]:
    [balance] = httpx.get(f"{admin}/books").json()
    assert balance["difference"] == 0
    return dict(balance)


async def altered(url: str, numbers: range, expected: list[bytes], per_second: float | None = None) -> list[int]:
    """Return the requests whose answers are not those expected, byte for byte; paced, or as fast as they go."""
    found: list[int] = []
    waiting = iter(numbers)
    start = time.monotonic()

    async def user(session: aiohttp.ClientSession) -> None:
        for number in waiting:
            if per_second is not None:
                await asyncio.sleep(max(0.0, start + (number - numbers.start) / per_second - time.monotonic()))
            async with session.post(url + "/v1/chat/completions", json=chat(number % len(expected))) as response:
                if await response.read() != expected[number % len(expected)] or response.status != 200:
                    found.append(number)

    async with aiohttp.ClientSession() as session:
        await asyncio.gather(*(user(session) for _ in range(AT_ONCE)))
    return found


@pytest.fixture
def baseline() -> Iterator[StubUpstream]:
    with StubUpstream(keep=False) as stub:
        yield stub


@pytest.fixture
def expected(baseline: StubUpstream) -> list[bytes]:
    return [httpx.post(baseline.url + "/v1/chat/completions", json=chat(i)).content for i in range(20)]


@pytest.mark.timeout(0)
def test_no_answer_is_altered_while_the_candidate_breaks_in_every_way(
    baseline: StubUpstream, expected: list[bytes], tmp_path: Path
) -> None:
    """None of 10,000; the books add up at every look, and in the end nothing is in flight."""
    port = free_port()
    each = REQUESTS // len(FAULTS)
    mirror = {"concurrency": 64, "queue": 64, "queue_timeout_s": 0.5, "timeout_s": 0.5}
    with program(tmp_path, baseline.url, f"http://127.0.0.1:{port}", **mirror) as (url, admin, _):
        for place, fault in enumerate(FAULTS):
            numbers = range(place * each, (place + 1) * each)
            with contextlib.ExitStack() as stack:
                if fault != "refused":
                    stack.enter_context(StubUpstream(port, keep=False, fault=fault))
                assert asyncio.run(altered(url, numbers, expected)) == [], fault
            assert books(admin)["sampled"] == numbers.stop
        wait_until(lambda: books(admin)["in_flight"] == 0, "all copies are settled")
        balance = books(admin)
    assert balance["sampled"] == each * len(FAULTS)
    assert balance["primary_error"] == 0
    assert balance["paired"] > 0
    assert balance["candidate_error"] > 0


@pytest.mark.timeout(0)
def test_a_candidate_that_hangs_under_load_costs_bounded_memory(
    baseline: StubUpstream, expected: list[bytes], tmp_path: Path
) -> None:
    """At 200 requests a second, as long as is asked for: at most 64 MiB more than before, and no altered answer."""
    with (
        StubUpstream(keep=False, fault=HANG) as candidate,
        program(tmp_path, baseline.url, candidate.url) as (url, admin, process),
    ):
        assert asyncio.run(altered(url, range(400), expected)) == []
        before = process.memory_info().rss
        assert asyncio.run(altered(url, range(400, 400 + int(PER_SECOND * HANG_S)), expected, PER_SECOND)) == []
        grown = process.memory_info().rss - before
        balance = books(admin)
    assert grown <= 64 * MIB, f"{grown / MIB:.0f} MiB"
    assert balance["in_flight"] <= 64 + 256
