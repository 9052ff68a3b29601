"""Part ``concurrent``: ``AsyncLLM`` with its engine core in a process of its own and 64 requests in flight (target A1).

CPU is that of the frontend process alone, where all of our work is done. Statistics are on, as ``AsyncLLM`` has them by
default.
"""

from __future__ import annotations

import asyncio
import itertools
from functools import partial
from typing import Any

from benchmarks.engine.arms import WARM_REQUESTS, ours, reference_span
from benchmarks.engine.floor import at_finish, bare_span
from benchmarks.engine.rounds import Arm, run_rounds
from benchmarks.engine.setting import one_layer_args, prompts, sampling
from benchmarks.engine.telemetry import Sink, meter_provider

IN_FLIGHT = 64
REQUESTS = 256
TOKENS = 16


class AsyncLoad:
    """Keeps ``IN_FLIGHT`` requests running on an asynchronous engine until all are answered."""

    def __init__(self) -> None:
        from vllm import AsyncEngineArgs
        from vllm.v1.engine.async_llm import AsyncLLM

        self._loop = asyncio.new_event_loop()
        self._engine = self._loop.run_until_complete(self._start(AsyncLLM, AsyncEngineArgs))
        self._ids = itertools.count()

    @staticmethod
    async def _start(engine: Any, arguments: Any) -> Any:
        return engine.from_engine_args(arguments(**one_layer_args()))

    def run(self, requests: int = REQUESTS) -> int:
        """Run the requests and return how many they were."""
        self._loop.run_until_complete(self._serve(requests))
        return requests

    def close(self) -> None:
        """Stop the engine's process."""
        self._engine.shutdown()

    async def _serve(self, requests: int) -> None:
        waiting = iter(prompts(requests))
        await asyncio.gather(*(self._client(waiting) for _ in range(min(IN_FLIGHT, requests))))

    async def _client(self, waiting: Any) -> None:
        for prompt in waiting:
            name = f"request-{next(self._ids)}"
            last = None
            async for output in self._engine.generate(prompt, sampling(TOKENS), name):
                last = output
            if last is None or not last.finished:
                raise RuntimeError(f"{name} was not answered")


def run(rounds: int) -> dict[str, Any]:
    """Measure, and return the samples."""
    load = AsyncLoad()
    try:
        return {"facts": {}, "groups": {"concurrent": run_rounds("async, 64 in flight", _arms(load), rounds)}}
    finally:
        load.close()


def _arms(load: AsyncLoad) -> list[Arm]:
    floor = Sink()
    reference = reference_span(load)
    make = bare_span(floor.provider.get_tracer("benchmark"), reference.name, dict(reference.attributes))
    return [
        Arm("bare", load.run, partial(load.run, WARM_REQUESTS)),
        Arm("bare_again", load.run, partial(load.run, WARM_REQUESTS)),
        _arm(load, "floor", floor, partial(at_finish, make)),
        _arm(load, "ours", sink := Sink(), partial(ours, sink)),
        _arm(load, "ours_metrics", sink := Sink(), partial(ours, sink, meter_provider())),
    ]


def _arm(load: AsyncLoad, name: str, sink: Sink, enter: Any) -> Arm:
    return Arm(name, load.run, partial(load.run, WARM_REQUESTS), enter, sink.flush, sink.count, spans_per_request=1)
