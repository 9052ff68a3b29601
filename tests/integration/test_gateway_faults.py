"""Whatever is wrong with the candidate, users get the baseline's answers, byte for byte, and the books add up.

``TRACEAI_GATEWAY_REQUESTS`` sets how many requests each fault gets (default 200; the soak run takes 10,000 and more).
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from typing import Any

import aiohttp
import httpx
import pytest

from tests.support.gateway import GatewayUnderTest, wait_until
from tests.support.stub_upstream import StubUpstream
from traceai_vllm.gateway import client
from traceai_vllm.gateway.measures import prometheus

REQUESTS = int(os.environ.get("TRACEAI_GATEWAY_REQUESTS", "200"))
AT_ONCE = 16
MAX_BYTES = 4 * 1024 * 1024

ERRORS = {"500": "500", "garbage": "invalid_response", "slow": "timeout", "hang": "timeout"}
ERRORS |= {"hang_mid_stream": "timeout", "killed": "connection_broken", "truncated": "incomplete_response"}
ERRORS |= {"error_event": "EngineDeadError", "refused": "connection_refused"}


@pytest.fixture
def baseline() -> Iterator[StubUpstream]:
    with StubUpstream(keep=False) as stub:
        yield stub


def config(baseline: StubUpstream, candidate_url: str, **mirror: Any) -> dict[str, Any]:
    return {
        "servers": {"bf16": {"url": baseline.url}, "int4": {"url": candidate_url}},
        "routes": [{"name": "support", "baseline": "bf16", "candidate": "int4"}],
        "mirror": {
            "concurrency": 16,
            "queue": 32,
            "queue_timeout_s": 0.5,
            "timeout_s": 0.3,
            "max_bytes": MAX_BYTES,
            **mirror,
        },
    }


def chat(number: int) -> dict[str, Any]:
    # Mid-stream faults need a stream; every fourth user waits for the whole answer.
    messages = [{"role": "user", "content": f"question {number % 10}"}]
    return {"model": "m", "messages": messages, "stream": number % 4 != 0}


async def ask(url: str, numbers: range) -> list[tuple[int, bytes]]:
    """Return status and body for each request, with some of them under way at any time."""
    answers: dict[int, tuple[int, bytes]] = {}
    waiting = iter(numbers)

    async def user(session: aiohttp.ClientSession) -> None:
        for number in waiting:
            async with session.post(url + "/v1/chat/completions", json=chat(number)) as response:
                answers[number] = (response.status, await response.read())

    async with aiohttp.ClientSession() as session:
        await asyncio.gather(*(user(session) for _ in range(AT_ONCE)))
    return [answers[number] for number in numbers]


@pytest.mark.parametrize("fault", ERRORS)
def test_a_broken_candidate_changes_nothing_for_users(baseline: StubUpstream, fault: str) -> None:
    """Each fault of the candidate, under load: no failed or altered answer, books that add up, nothing kept after."""
    expected = asyncio.run(ask(baseline.url, range(20)))
    candidate = StubUpstream(keep=False, fault=fault)
    with candidate:
        if fault == "refused":
            candidate.stop()
        with GatewayUnderTest(config(baseline, candidate.url)) as gateway:
            answers = asyncio.run(ask(gateway.url, range(REQUESTS)))
            gateway.settled()
            balance, held = gateway.balance(), gateway.runtime.budget.used
            errors = {
                span.attributes["error.type"]
                for span in gateway.spans()
                if span.attributes.get("traceai.pair.outcome") == "candidate_error"
            }

    altered = [number for number, answer in enumerate(answers) if answer != expected[number % 20]]
    assert altered == []
    assert (balance.sampled, balance.difference, balance.in_flight) == (REQUESTS, 0, 0)
    assert balance.candidate_error > 0
    assert ERRORS[fault] in errors
    assert held == 0


def test_a_candidate_that_hangs_does_not_grow_the_gateway(baseline: StubUpstream) -> None:
    """With every copy hanging, what is kept stays below its bound, and what does not fit is dropped and counted."""
    limits = {"timeout_s": 60, "queue_timeout_s": 60, "max_bytes": 20_000, "concurrency": 8, "queue": 8}
    with StubUpstream(keep=False, fault="hang") as candidate:
        with GatewayUnderTest(config(baseline, candidate.url, **limits)) as gateway:
            asyncio.run(ask(gateway.url, range(REQUESTS)))

            balance, mirror = gateway.balance(), gateway.runtime.mirror
            assert (mirror.running, gateway.runtime.budget.used <= 20_000) == (8, True)
            assert mirror.queued <= 8
            assert balance.in_flight == mirror.running + mirror.queued
            assert balance.difference == 0
            assert balance.dropped["queue_full"] + balance.dropped.get("no_room", 0) == REQUESTS - balance.in_flight
            assert 'outcome="dropped",reason="queue_full",prompt_length_decile="' in prometheus(gateway.runtime)
        [after] = gateway.runtime.books.balances().values()
    assert (after.in_flight, after.difference) == (0, 0)
    assert after.dropped["shutdown"] == balance.in_flight


@pytest.mark.parametrize(
    ("fault", "status", "error"),
    [("refused", 502, "connection_refused"), ("500", 500, "500"), ("hang", 504, "timeout"), ("killed", 200, None)],
)
def test_a_failing_primary_is_booked_as_such(fault: str, status: int, error: str | None) -> None:
    """The user gets the server's error, or the gateway's where the server gave none; a cut answer looks cut."""
    with StubUpstream(fault=fault) as broken, StubUpstream() as candidate:
        if fault == "refused":
            broken.stop()
        settings = config(broken, candidate.url, timeout_s=10)
        settings["servers"]["bf16"]["read_timeout_s"] = 0.2
        with GatewayUnderTest(settings) as gateway:
            if fault == "killed":
                with pytest.raises(httpx.RemoteProtocolError):
                    httpx.post(gateway.url + "/v1/chat/completions", json=chat(1))
            else:
                answer = httpx.post(gateway.url + "/v1/chat/completions", json=chat(1))
                assert answer.status_code == status
                assert "message" in answer.json()["error"]
            gateway.settled()
            balance = gateway.balance()
            [server] = [span for span in gateway.spans(at_least=3) if span.kind.name == "SERVER"]
    assert (balance.primary_error, balance.difference) == (1, 0)
    assert server.status.status_code.name == "ERROR"
    if error is not None:
        assert server.attributes["error.type"] == error


def test_why_a_server_cannot_be_reached_is_logged_once(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not for each request: spans and answers tell of those, and of the network, names and certificates they cannot."""
    monkeypatch.setattr(client, "_said", {})
    with StubUpstream() as gone, StubUpstream() as candidate:
        gone.stop()
        with GatewayUnderTest(config(gone, candidate.url)) as gateway:
            for number in range(3):
                assert httpx.post(gateway.url + "/v1/chat/completions", json=chat(number)).status_code == 502
            gateway.settled()
    [said] = [record.getMessage() for record in caplog.records if "cannot be reached" in record.getMessage()]
    assert said.startswith(f"The server at {gone.url} cannot be reached: ")
    assert "onnect" in said


def test_a_candidate_killed_under_load_and_back_again(baseline: StubUpstream) -> None:
    """Users notice neither; pairs go on once it is back."""
    expected = asyncio.run(ask(baseline.url, range(20)))
    first = StubUpstream(keep=False).__enter__()
    port = int(first.url.rpartition(":")[2])
    with GatewayUnderTest(config(baseline, first.url, timeout_s=20, queue_timeout_s=20)) as gateway:
        answers = asyncio.run(ask(gateway.url, range(40)))
        gateway.settled()
        first.stop()
        answers += asyncio.run(ask(gateway.url, range(40, 80)))
        gateway.settled()
        failed, paired = gateway.balance().candidate_error, gateway.balance().paired
        with StubUpstream(port, keep=False):
            answers += asyncio.run(ask(gateway.url, range(80, 120)))
            gateway.settled()
            balance = gateway.balance()
    assert [number for number, answer in enumerate(answers) if answer != expected[number % 20]] == []
    assert failed == 40
    assert (balance.paired - paired, balance.difference) == (40, 0)


def test_a_slow_reader_holds_the_server_back(baseline: StubUpstream) -> None:
    """What a user does not read is not collected in the gateway: the server is made to wait."""
    with StubUpstream(tokens=100_000, keep=False) as endless:
        settings = config(endless, baseline.url)
        settings["routes"][0]["mode"] = "baseline"
        with (
            GatewayUnderTest(settings) as gateway,
            httpx.stream("POST", gateway.url + "/v1/chat/completions", json=chat(1)) as response,
        ):
            pieces = response.iter_raw()
            next(pieces)
            wait_until(lambda: endless.paused, "the stub's socket is full")
            assert not response.is_closed
