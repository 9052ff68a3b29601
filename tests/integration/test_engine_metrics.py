"""The engine's load and memory as metrics, on real vLLM: what vLLM itself says, as long as there is an engine."""

from __future__ import annotations

import asyncio
import gc
import os
from typing import Any

import psutil
import pytest

import traceai_vllm
from tests.integration.conftest import ENGINE_ARGS, Run, Traced
from tests.integration.test_offline import params

# A name of its own: other tests' engines may be alive in this process.
METERED = "metered"
VARIANT = {
    "gen_ai.provider.name": "vllm",
    "gen_ai.request.model": METERED,
    "model_variant": METERED,
    "quantization_format": "bf16",
}
# Ours to vLLM's own Prometheus metric.
SAME_AS_VLLM = {
    "vllm.num_requests_running": "vllm:num_requests_running",
    "vllm.num_requests_waiting": "vllm:num_requests_waiting",
    "vllm.kv_cache_usage": "vllm:kv_cache_usage_perc",
    "vllm.prefix_cache_queries": "vllm:prefix_cache_queries",
    "vllm.prefix_cache_hits": "vllm:prefix_cache_hits",
    "vllm.num_preemptions": "vllm:num_preemptions",
}
# What the engine's metrics are named after; all of them go with the engine.
OF_ENGINES = ("vllm.", "process.", "hw.")


def points_of(traced: Traced, variant: str) -> dict[str, list[Any]]:
    """Return the points of the engine metrics of one variant, by name; of names without any, none."""
    found = {
        name: [point for point in points if point.attributes.get("model_variant") == variant]
        for name, points in traced.points().items()
        if name.startswith(OF_ENGINES)
    }
    return {name: points for name, points in found.items() if points}


def values(traced: Traced, variant: str) -> dict[str, Any]:
    """Return the engine metrics of which a variant has one point each: name to value."""
    return {name: points[0].value for name, points in points_of(traced, variant).items() if len(points) == 1}


@pytest.fixture
def engine(one_layer_model: str, traced: Traced, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """An engine in this process, with statistics and too little KV cache; the test may empty the list."""
    from vllm import LLM

    monkeypatch.setenv("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
    options = {**ENGINE_ARGS, "served_model_name": METERED}
    return [LLM(one_layer_model, **options, disable_log_stats=False, num_gpu_blocks_override=24)]


def test_an_engines_metrics_are_vllms_own_and_end_with_it(engine: list[Any], traced: Traced) -> None:
    """Load, caches, preemptions and memory agree with vLLM; nothing is left when the engine is gone."""
    assert not any(name.startswith("vllm.num") for name in points_of(traced, METERED))

    llm = engine[0]
    same = {"prompt_token_ids": list(range(100, 300))}
    llm.generate(same, params(), use_tqdm=False)
    llm.generate(same, params(), use_tqdm=False)
    llm.generate([f"prompt {i}" for i in range(16)], params(max_tokens=700), use_tqdm=False)

    metrics = [metric for metric in llm.get_metrics() if metric.labels.get("model_name") == METERED]
    theirs = {metric.name: metric.value for metric in metrics if metric.name in SAME_AS_VLLM.values()}
    found = values(traced, METERED)
    assert {ours: found[ours] for ours in SAME_AS_VLLM} == {ours: theirs[name] for ours, name in SAME_AS_VLLM.items()}
    assert found["vllm.prefix_cache_hits"] > 0
    assert found["vllm.num_preemptions"] > 0
    cache = llm.llm_engine.vllm_config.cache_config
    assert found["vllm.num_gpu_blocks"] == cache.num_gpu_blocks == 24
    assert found["vllm.kv_cache_size_tokens"] == cache.kv_cache_size_tokens
    (parts,) = llm.apply_model(lambda model: [tensor.nbytes for tensor in (*model.parameters(), *model.buffers())])
    assert found["vllm.weights_memory"] == pytest.approx(sum(parts), rel=0.01)
    scheduler = llm.llm_engine.engine_core.engine_core.scheduler
    (group,) = scheduler.kv_cache_config.kv_cache_groups
    pages = 24 * len(group.layer_names) * group.kv_cache_spec.page_size_bytes
    assert found["vllm.kv_cache_memory"] == pages
    resident = {p.attributes["process.pid"]: p.value for p in traced.points()["process.memory.usage"]}
    assert resident[os.getpid()] == pytest.approx(psutil.Process().memory_info().rss, rel=0.1)
    points = points_of(traced, METERED)
    assert all(dict(points[name][0].attributes) == VARIANT for name in SAME_AS_VLLM)

    traceai_vllm.uninstrument()
    assert not live(traced)
    traced.instrument()
    assert "vllm.num_requests_running" in live(traced)

    del llm, cache, scheduler, group
    engine.clear()
    gc.collect()
    assert not live(traced)


def live(traced: Traced) -> set[str]:
    """Return the names of the engine metrics that have points, without the counter of what happened."""
    return set(points_of(traced, METERED)) - {"vllm.num_preemptions"}


def test_a_server_engine_reports_while_it_runs(async_engine: Any, traced: Traced, run: Run) -> None:
    """Requests in flight are counted while they run, and the engine core's process has its memory reported."""

    async def load_of_running() -> dict[str, Any]:
        requests = [asyncio.create_task(answer(async_engine, f"load-{i}")) for i in range(4)]
        try:
            async with asyncio.timeout(60):
                while values(traced, "one-layer").get("vllm.num_requests_running") != 4:
                    await asyncio.sleep(0.01)
            return values(traced, "one-layer")
        finally:
            for request in requests:
                request.cancel()
            await asyncio.gather(*requests, return_exceptions=True)

    busy = run(load_of_running())

    assert 0 < busy["vllm.kv_cache_usage"] < 1
    assert busy["vllm.num_gpu_blocks"] == async_engine.vllm_config.cache_config.num_gpu_blocks > 0
    memory = {p.attributes["process.pid"]: p for p in traced.points()["process.memory.usage"]}
    core = {process.pid for process in async_engine.engine_core.resources.engine_manager.processes}
    assert set(memory) >= {os.getpid(), *core}  # and what the core has started
    assert all(memory[pid].value > 50e6 for pid in (os.getpid(), *core))


async def answer(engine: Any, request_id: str) -> None:
    async for _ in engine.generate("a long story", params(max_tokens=1000), request_id):
        pass
