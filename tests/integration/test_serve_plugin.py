"""`TRACEAI_VLLM_ENABLED=1 vllm serve ... --api-server-count 2`: plugin, several processes, and hostile callers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.support.api_server import SERVED_NAME, ApiServer, Call
from traceai_vllm.evals.backends import LLMJudge

MESSAGES: Any = [{"role": "user", "content": "Hello"}]
DURATION = "gen_ai.server.request.duration"
# A connection for each request: that is how the processes share the port.
NO_REUSE = httpx.Limits(max_keepalive_connections=0)


@pytest.fixture(scope="module")
def server(one_layer_model: str) -> Iterator[ApiServer]:
    with ApiServer.vllm(
        one_layer_model,
        "--api-server-count",
        "2",
        # Left to itself, a model with random weights fills its JSON with blanks until there are no tokens left.
        "--structured-outputs-config",
        '{"backend": "xgrammar", "disable_any_whitespace": true}',
        TRACEAI_VLLM_ENABLED="1",
        TRACEAI_VLLM_MODEL_VARIANT="tiny-by-environment",
        TRACEAI_VLLM_HEADERS="prompt_version=x-prompt",
        TRACEAI_VLLM_MAX_VALUES="20",
    ) as server:
        yield server


async def ask(client: httpx.AsyncClient, call: Call, **headers: str) -> None:
    body = {"model": SERVED_NAME, "messages": MESSAGES, "max_tokens": 2}
    answer = await client.post("/v1/chat/completions", json=body, headers=call.headers(**headers), timeout=60)
    assert answer.status_code == 200, answer.text


def ask_many(server: ApiServer, count: int, **headers: str) -> list[Call]:
    calls = [Call() for _ in range(count)]

    async def all_at_once() -> None:
        async with httpx.AsyncClient(base_url=server.base_url, limits=NO_REUSE) as client:
            await asyncio.gather(*(ask(client, call, **headers) for call in calls))

    asyncio.run(all_at_once())
    return calls


def ask_until_both_answered(server: ApiServer, **headers: str) -> list[Call]:
    """Ask until two processes have answered: one may begin to take requests long after the other."""
    calls: list[Call] = []
    instances: set[Any] = set()
    end = time.monotonic() + 120
    while len(instances) < 2 and time.monotonic() < end:
        more = ask_many(server, 48, **headers)
        instances |= {server.pair(call)[1].resource["service.instance.id"] for call in more}
        calls += more
    return calls


def test_each_process_exports_and_nothing_doubles(server: ApiServer) -> None:
    """Requests over two processes: as many pairs of spans, from two instances, and as many measurements."""
    calls = ask_until_both_answered(server, x_route="support", x_prompt="v7")
    instances = set()
    for call in calls:
        span, engine = server.pair(call)
        assert span.resource["service.instance.id"] == engine.resource["service.instance.id"]
        instances.add(engine.resource["service.instance.id"])
        assert (engine.attributes["model_variant"], engine.attributes["prompt_version"]) == (
            "tiny-by-environment",
            "v7",
        )
    assert len(instances) == 2
    with server.receiver._received:
        server.receiver._received.wait_for(lambda: server.measured(DURATION, "route").get("support") == len(calls), 15)
    assert server.measured(DURATION, "route")["support"] == len(calls)


def test_the_process_that_runs_the_model_says_what_it_takes_and_nothing_else(server: ApiServer) -> None:
    """One worker, wherever two API servers ask it: its weights and KV cache are reported once, with the variant."""
    weights = server.wait_for_points("vllm.weights_memory")
    (worker,) = {resource["service.instance.id"] for resource, _ in weights}
    assert {point.attributes["model_variant"] for _, point in weights} == {"tiny-by-environment"}
    assert server.total("vllm.weights_memory") > 0
    assert server.total("vllm.kv_cache_memory") == pytest.approx(2**30, rel=0.01)  # VLLM_CPU_KVCACHE_SPACE=1
    assert worker not in {span.resource["service.instance.id"] for span in server.receiver.spans()}
    callers = {
        resource["service.instance.id"] for resource, _ in server.receiver.points("traceai.callers.values_replaced")
    }
    assert 2 <= len(callers - {worker}) <= 3  # two API servers, and the process that started them
    assert worker not in callers


def test_a_hostile_client_cannot_fill_the_metrics(server: ApiServer) -> None:
    """160 made-up routes: after 20 per process they are `other`, on spans and in metrics; known ones stay known."""

    async def flood() -> None:
        async with httpx.AsyncClient(base_url=server.base_url, limits=NO_REUSE) as client:
            for start in range(0, 160, 16):
                headers = [{"x-route": f"made-up-{start + n}", "x-agent-step": "a" * 8000} for n in range(16)]
                await asyncio.gather(*(ask(client, Call(), **one) for one in headers))

    asyncio.run(flood())
    for call in ask_many(server, 6, x_route="one-more", x_agent_step="b" * 8000):
        _, engine = server.pair(call)
        assert engine.attributes["route"] == "other"
        assert len(engine.attributes["agent_step"]) == 256
    assert ask_and_read(server, x_route="support")["route"] == "support"
    replaced = "traceai.callers.values_replaced"
    with server.receiver._received:
        server.receiver._received.wait_for(lambda: server.total(replaced, dimension="route") >= 120, 15)
    assert server.total(replaced, dimension="route") >= 120
    routes = server.measured(DURATION, "route")
    assert len(routes) <= 2 * 21 + 1


def ask_and_read(server: ApiServer, **headers: str) -> dict[str, Any]:
    (call,) = ask_many(server, 1, **headers)
    return server.pair(call)[1].attributes


def test_what_the_server_logs_of_us_is_no_error(server: ApiServer) -> None:
    log = server.log.read_text(errors="replace")
    assert "hit an error of its own" not in log
    assert "Traceback" not in log


def test_a_judge_gets_its_verdicts_and_is_not_traced(server: ApiServer) -> None:
    """On a server that traces, guided JSON gives a verdict for each sentence, and there is no span of it."""
    judge = LLMJudge(server.base_url + "/v1", model=SERVED_NAME, max_tokens=600, retries=0)
    before = {span.span_id for span in server.receiver.spans()}
    verdicts = judge.check("Claims are paid after 90 days.", "Claims are paid after 180 days.")
    assert [verdict.unsupported for verdict in verdicts] in ([0.05], [0.95])
    assert judge.usage.calls == 1
    assert judge.usage.output_tokens > 0

    calls = ask_many(server, 16)  # exported later than the judge's would be, by either process
    for call in calls:
        server.pair(call)
    found = {span.trace_id for span in server.receiver.spans() if span.span_id not in before}
    assert found == {call.trace_id for call in calls}
