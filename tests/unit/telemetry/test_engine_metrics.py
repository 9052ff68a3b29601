"""Engine metrics from readings: what is shared is added up once, what is unknown is left out."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from tests.support.records import VARIANT, finished_record, in_memory_metrics, points
from traceai_vllm.telemetry import machine
from traceai_vllm.telemetry.engine_metrics import (
    EngineMetrics,
    EngineReading,
    PreemptionCounter,
    Readings,
    WorkerReading,
)

TAGS = {
    "gen_ai.provider.name": "vllm",
    "gen_ai.request.model": "llama-3.1-70b",
    "model_variant": "llama-3.1-70b-awq",
    "quantization_format": "int4",
}
GIB = 2**30


def collected(*engines: EngineReading, workers: tuple[WorkerReading, ...] = ()) -> dict[str, list[Any]]:
    provider, reader = in_memory_metrics()
    EngineMetrics(provider.get_meter("test"), lambda: Readings(engines, workers))
    return points(reader)


def without_machine(found: dict[str, list[Any]]) -> set[str]:
    return {name for name in found if not name.startswith(("process.", "hw."))}


@pytest.fixture
def gpus(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """NVIDIA's library with two GPUs; it fails whoever asks it outside of init and shutdown."""
    cards = [("GPU-a", "H100", 30 * GIB, 80 * GIB), ("GPU-b", "H100", 50 * GIB, 80 * GIB)]
    module = ModuleType("pynvml")
    initialized: list[bool] = []

    class NVMLError(Exception):
        pass

    def card(index: int) -> Any:
        assert initialized
        return cards[index]

    by_uuid = {uuid: index for index, (uuid, *_) in enumerate(cards)}
    vars(module).update(
        NVMLError=NVMLError,
        nvmlInit=lambda: initialized.append(True),
        nvmlShutdown=initialized.pop,
        nvmlDeviceGetCount=lambda: len(cards),
        nvmlDeviceGetHandleByIndex=card,
        nvmlDeviceGetHandleByUUID=lambda uuid: card(by_uuid[uuid]),
        nvmlDeviceGetUUID=lambda handle: handle[0],
        nvmlDeviceGetName=lambda handle: handle[1].encode(),
        nvmlDeviceGetMemoryInfo=lambda handle: SimpleNamespace(used=handle[2], total=handle[3]),
    )
    monkeypatch.setitem(sys.modules, "pynvml", module)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    yield module
    assert not initialized


def test_engines_of_one_variant_are_one_series() -> None:
    """Requests and capacity add up, the fuller cache counts, and each point has the variant's tags."""
    engine = EngineReading(VARIANT, running=2, waiting=1, kv_cache_usage=0.25, num_gpu_blocks=100)
    other = replace(engine, running=3, kv_cache_usage=0.75, prefix_cache_hits=8)

    found = collected(engine, other)

    assert {name: [point.value for point in found[name]] for name in without_machine(found)} == {
        "vllm.num_requests_running": [5],
        "vllm.num_requests_waiting": [2],
        "vllm.kv_cache_usage": [0.75],
        "vllm.num_gpu_blocks": [200],
        "vllm.prefix_cache_hits": [8],
    }
    assert dict(found["vllm.num_requests_running"][0].attributes) == TAGS


def test_engines_of_two_variants_are_two_series() -> None:
    """A baseline and a candidate in one process do not mix, and their process is neither's alone."""
    candidate = replace(VARIANT, model_variant="llama-fp8", quantization_format="fp8")

    found = collected(EngineReading(VARIANT, running=1), EngineReading(candidate, running=4))

    running = {p.attributes["model_variant"]: p.value for p in found["vllm.num_requests_running"]}
    assert running == {"llama-3.1-70b-awq": 1, "llama-fp8": 4}
    (memory,) = found["process.memory.usage"]
    assert dict(memory.attributes) == {
        "gen_ai.provider.name": "vllm",
        "gen_ai.request.model": "llama-3.1-70b",
        "process.pid": os.getpid(),
    }


def test_without_an_engine_nothing_is_reported(gpus: ModuleType) -> None:
    """Neither zeros nor the machine's memory: what is not there has no points."""
    assert collected() == {}


def test_a_worker_reports_its_memory_by_rank() -> None:
    """Each worker's weights and KV cache are a series of their own, so that a sum is the engine's."""
    found = collected(
        workers=(WorkerReading(VARIANT, 0, 5 * GIB, 7 * GIB), WorkerReading(VARIANT, 1, 6 * GIB, 7 * GIB))
    )

    weights = {point.attributes["vllm.worker.rank"]: point.value for point in found["vllm.weights_memory"]}
    assert weights == {0: 5 * GIB, 1: 6 * GIB}
    assert [point.value for point in found["vllm.kv_cache_memory"]] == [7 * GIB, 7 * GIB]


@pytest.mark.parametrize(
    ("visible", "count", "expected"),
    [
        (None, 1, {"GPU-a": 30 * GIB}),
        (None, 8, {"GPU-a": 30 * GIB, "GPU-b": 50 * GIB}),
        ("1", 2, {"GPU-b": 50 * GIB}),
        ("GPU-b,GPU-a", 1, {"GPU-b": 50 * GIB}),
        ("1,-1,0", 2, {"GPU-b": 50 * GIB}),
        ("", 1, {}),
    ],
)
def test_gpu_memory_is_that_of_the_gpus_that_the_engine_may_use(
    gpus: ModuleType, monkeypatch: pytest.MonkeyPatch, visible: str | None, count: int, expected: dict[str, int]
) -> None:
    """The first visible devices, as CUDA counts them, with their identity and the variant's tags."""
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)

    found = collected(EngineReading(VARIANT, gpus=count))

    usage = found.get("hw.gpu.memory.usage", [])
    assert {point.attributes["hw.id"]: point.value for point in usage} == expected
    assert all({**TAGS, "hw.name": "H100"}.items() <= dict(point.attributes).items() for point in usage)
    assert [point.value for point in found.get("hw.gpu.memory.limit", [])] == [80 * GIB] * len(expected)


def test_a_machine_without_a_driver_has_no_gpu_metrics(gpus: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """NVIDIA's library without its driver is no error of ours."""

    def no_driver() -> None:
        raise gpus.NVMLError("Driver Not Loaded")

    monkeypatch.setattr(gpus, "nvmlInit", no_driver)

    assert "hw.gpu.memory.usage" not in collected(EngineReading(VARIANT))


@pytest.mark.parametrize("library", ["pynvml", "psutil"])
def test_a_missing_library_leaves_its_metrics_out(monkeypatch: pytest.MonkeyPatch, library: str) -> None:
    """Everything else is still reported."""
    monkeypatch.setitem(sys.modules, library, None)

    found = collected(EngineReading(VARIANT, running=1))

    assert found["vllm.num_requests_running"][0].value == 1
    assert ("process.memory.usage" in found) == (library != "psutil")


def test_processes_of_the_engine_core_are_counted_until_they_end() -> None:
    """A child and what it started have their memory reported; a process that is gone is left out."""
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        found = {process.pid: process for process in machine.memory_of_processes([child.pid])}
        assert set(found) == {os.getpid(), child.pid}
        assert found[child.pid].resident_bytes > 0
    finally:
        child.communicate(b"\n")

    assert [process.pid for process in machine.memory_of_processes([child.pid])] == [os.getpid()]


@pytest.mark.internal_errors_expected
def test_an_error_while_reading_leaves_the_collection_alone() -> None:
    """An engine that cannot be read gives no points, and other metrics are still collected."""

    def read() -> Readings:
        raise RuntimeError("vLLM has changed")

    provider, reader = in_memory_metrics()
    EngineMetrics(provider.get_meter("test"), read)
    provider.get_meter("app").create_counter("orders").add(1)

    assert set(points(reader)) == {"orders"}


def test_preemptions_are_counted_with_the_variants_tags() -> None:
    """Requests without preemptions leave no point."""
    provider, reader = in_memory_metrics()
    counter = PreemptionCounter(provider.get_meter("test"))

    counter.record(finished_record(preemptions=0))
    assert "vllm.num_preemptions" not in points(reader)
    counter.record(finished_record(preemptions=2))
    counter.record(finished_record(preemptions=1))

    (point,) = points(reader)["vllm.num_preemptions"]
    assert (point.value, dict(point.attributes)) == (3, TAGS)
