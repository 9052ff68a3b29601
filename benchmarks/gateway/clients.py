"""``python -m benchmarks.gateway.clients``: what a request costs in each HTTP client that the gateway could rest on.

CPU of this process for each request with a 600-byte prompt to the stub upstream, keep-alive, 16 at a time: a plain
answer, and a stream of 20 events. Rounds in turns; medians with quartiles.
"""

from __future__ import annotations

import asyncio
import time
from statistics import quantiles
from typing import TYPE_CHECKING, Any

import aiohttp
import httpx
import uvloop
from tests.support.stub_upstream import StubUpstream
from tqdm import tqdm

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    Ask = Callable[[Any, str, dict[str, Any]], Awaitable[None]]

_PATH = "/v1/chat/completions"
_REQUESTS, _AT_ONCE, _ROUNDS = 400, 16, 7


async def _with_aiohttp(session: Any, url: str, body: dict[str, Any]) -> None:
    async with session.post(url + _PATH, json=body) as response:
        while await response.content.readany():
            pass


async def _with_httpx(client: Any, url: str, body: dict[str, Any]) -> None:
    async with client.stream("POST", url + _PATH, json=body) as response:
        async for _ in response.aiter_raw():
            pass


async def _cost_ms(ask: Ask, client: Any, url: str, *, stream: bool) -> float:
    body = {"model": "m", "messages": [{"role": "user", "content": "x" * 600}], "stream": stream}
    waiting = iter(range(_REQUESTS))

    async def user() -> None:
        for _ in waiting:
            await ask(client, url, body)

    before = time.thread_time()  # not that of the stub, which has a thread of its own
    await asyncio.gather(*(user() for _ in range(_AT_ONCE)))
    return (time.thread_time() - before) / _REQUESTS * 1000


async def _measure(url: str) -> dict[str, list[float]]:
    costs: dict[str, list[float]] = {}
    async with aiohttp.ClientSession(auto_decompress=False) as session, httpx.AsyncClient() as client:
        arms: list[tuple[str, Ask, Any]] = [("aiohttp", _with_aiohttp, session), ("httpx", _with_httpx, client)]
        for number in tqdm(range(_ROUNDS + 1), unit="round"):
            for name, ask, made in arms if number % 2 else reversed(arms):
                for stream in (False, True):
                    cost = await _cost_ms(ask, made, url, stream=stream)
                    if number:  # the first round is warm-up
                        costs.setdefault(f"{name}, {'stream' if stream else 'whole'}", []).append(cost)
    return costs


def main() -> None:
    """Measure and print a table."""
    with StubUpstream(tokens=20, keep=False) as stub:
        costs = uvloop.run(_measure(stub.url))
    print("| client | CPU per request, ms |\n|---|---|")
    for name in sorted(costs):
        low, middle, high = quantiles(costs[name], n=4)
        print(f"| {name} | {middle:.2f} [{low:.2f}-{high:.2f}] |")


if __name__ == "__main__":
    main()
