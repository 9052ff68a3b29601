"""From vLLM's engines and workers to readings of their load and memory: pure reads, made when metrics are collected.

What a frontend can know: the last ``SchedulerStats`` of its engine (only with vLLM's statistics on: offline, pass
``disable_log_stats=False``), and the capacity of the KV cache, which the engine core reports when it is ready. Only the
worker, which is often another process, knows the bytes of weights and KV cache: they are read there, once its KV cache
has been set up, if that process is instrumented too.
"""

from __future__ import annotations

import os
import weakref
from typing import TYPE_CHECKING, Any

from traceai_vllm.engine import funnel, runtime
from traceai_vllm.guard import Guard
from traceai_vllm.telemetry.engine_metrics import EngineReading, Readings, WorkerReading

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from opentelemetry.metrics import Meter

WORKER_MODULE = "vllm.v1.worker.worker_base"
_WORKER = Guard("the memory of a worker")
# vLLM's WorkerWrapperBase to the bytes of its weights and of its KV cache.
_workers: weakref.WeakKeyDictionary[Any, tuple[int, int]] = weakref.WeakKeyDictionary()
# Processors and workers that a fork copied are its parent's.
os.register_at_fork(after_in_child=_workers.clear)


def worker_ready(wrapped: Any, worker: Any, args: Any, kwargs: Any) -> Any:
    """Hook on ``WorkerWrapperBase.initialize_from_config(kv_cache_configs)``: weights and KV cache are in memory."""
    result = wrapped(*args, **kwargs)
    with _WORKER:
        runner = worker.worker.model_runner
        _workers[worker] = (_weights_bytes(runner), _storage_bytes(_tensors(getattr(runner, "kv_caches", ()))))
    return result


def read_all(meter: Meter) -> Readings:
    """Return what the engines and workers of this process are doing; nothing once ``meter`` is no longer in force."""
    active = runtime.current()
    if active is None or active.meter is not meter:
        return Readings()
    return Readings(list(_engines(active)), list(_worker_readings(active.model_variant, active.quantization_format)))


def read_workers() -> Readings:
    """Return what the workers of a process take that has no runtime; declarations come from the environment."""
    declared = (os.environ.get(f"TRACEAI_VLLM_{name}") or None for name in ("MODEL_VARIANT", "QUANTIZATION_FORMAT"))
    return Readings(workers=list(_worker_readings(*declared)))


def _engines(active: runtime.Runtime) -> Iterator[EngineReading]:
    for tracker in funnel.trackers():
        if tracker.config is None:
            continue
        variant = tracker.variant(active)
        load, cache = tracker.load, getattr(tracker.config, "cache_config", None)
        known = load is not None
        yield EngineReading(
            variant=variant,
            running=getattr(load, "num_running_reqs", None),
            waiting=load.num_waiting_reqs + getattr(load, "num_skipped_waiting_reqs", 0) if known else None,
            kv_cache_usage=getattr(load, "kv_cache_usage", None),
            prefix_cache_queries=tracker.prefix_cache_queries if known else None,
            prefix_cache_hits=tracker.prefix_cache_hits if known else None,
            kv_cache_size_tokens=getattr(cache, "kv_cache_size_tokens", None),
            num_gpu_blocks=getattr(cache, "num_gpu_blocks", None),
            gpus=_gpus(tracker.config),
            pids=_core_pids(tracker.engine() if tracker.engine is not None else None),
        )


def _gpus(config: Any) -> int:
    parallel = getattr(config, "parallel_config", None)
    return int(getattr(parallel, "world_size", 1)) * max(1, int(getattr(parallel, "data_parallel_size_local", 1)))


def _core_pids(engine: Any) -> tuple[int, ...]:
    resources = getattr(getattr(engine, "engine_core", None), "resources", None)
    # engine_manager: 0.10 and later; core_engines with a proc_handle before are not worth a second path.
    processes = getattr(getattr(resources, "engine_manager", None), "processes", ())
    return tuple(process.pid for process in processes if process.pid is not None)


def _worker_readings(model_variant: str | None, quantization_format: str | None) -> Iterator[WorkerReading]:
    from traceai_vllm.engine.variant import detect_variant, override_variant  # see funnel._chosen_variant

    for worker, (weights_bytes, kv_cache_bytes) in tuple(_workers.items()):
        variant = override_variant(
            detect_variant(worker.vllm_config),
            model_variant=model_variant,
            quantization_format=quantization_format,
        )
        yield WorkerReading(variant, int(worker.worker.rank), weights_bytes, kv_cache_bytes)


def _weights_bytes(runner: Any) -> int:
    model = runner.get_model()
    return _storage_bytes([*model.parameters(), *model.buffers()])


def _tensors(nested: Any) -> Iterator[Any]:
    # Some layers (Mamba) keep several tensors.
    if hasattr(nested, "untyped_storage"):
        yield nested
        return
    for item in nested:
        yield from _tensors(item)


def _storage_bytes(tensors: Iterable[Any]) -> int:
    # Tied weights and layers that share an allocation count once.
    storages = [tensor.untyped_storage() for tensor in tensors]
    return sum({storage.data_ptr(): storage.nbytes() for storage in storages}.values())
