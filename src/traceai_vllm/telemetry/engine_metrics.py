"""What the engines of this process carry right now: load, caches and memory, with the variant's tags.

Everything is read when a reader collects, from what vLLM keeps anyway: nothing here runs per request or per engine
step. Engines that have the same tags are one series; their counts are added up.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from opentelemetry.metrics import CallbackOptions, NoOpMeter, Observation

from traceai_vllm.guard import Guard
from traceai_vllm.telemetry import semconv

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from opentelemetry.metrics import Meter

    from traceai_vllm.record import RequestRecord, Variant

    Attributes = dict[str, Any]
    Callback = Callable[[CallbackOptions], Iterable[Observation]]

_COLLECT = Guard("collecting the engines' metrics")


@dataclass(slots=True, frozen=True)
class EngineReading:
    """One engine as its frontend sees it. What vLLM does not say is None.

    Attributes:
        variant: what it serves.
        running: requests in the running batch.
        waiting: requests that wait for the scheduler.
        kv_cache_usage: share of the KV cache in use, 0 to 1.
        prefix_cache_queries: prompt tokens looked up in the prefix cache since the engine was first seen.
        prefix_cache_hits: prompt tokens found there.
        kv_cache_size_tokens: how many tokens fit into the KV cache of one data-parallel engine.
        num_gpu_blocks: blocks of the KV cache, over all data-parallel engines ("GPU" on CPUs too).
        gpus: how many accelerators of this machine the engine uses at most.
        pids: processes of the engine core, without this one.
    """

    variant: Variant
    running: int | None = None
    waiting: int | None = None
    kv_cache_usage: float | None = None
    prefix_cache_queries: int | None = None
    prefix_cache_hits: int | None = None
    kv_cache_size_tokens: int | None = None
    num_gpu_blocks: int | None = None
    gpus: int = 1
    pids: tuple[int, ...] = ()


@dataclass(slots=True, frozen=True)
class WorkerReading:
    """The memory of one model worker that runs in this process.

    Attributes:
        variant: what it serves.
        rank: its rank among the engine's workers.
        weights_bytes: what its parameters and buffers take.
        kv_cache_bytes: what is allocated for its KV cache.
    """

    variant: Variant
    rank: int
    weights_bytes: int
    kv_cache_bytes: int


@dataclass(slots=True, frozen=True)
class Readings:
    """Everything of vLLM's in this process, read at one moment."""

    engines: Sequence[EngineReading] = ()
    workers: Sequence[WorkerReading] = ()


class EngineMetrics:
    """Observable instruments for the engines of this process.

    Args:
        meter: where the instruments are made.
        read: returns what is there now; nothing when instrumentation is off.
    """

    def __init__(self, meter: Meter, read: Callable[[], Readings]) -> None:
        if isinstance(meter, NoOpMeter):
            return
        self._read = read
        for metric, observe in (
            (semconv.NUM_REQUESTS_RUNNING, self._each("running", sum)),
            (semconv.NUM_REQUESTS_WAITING, self._each("waiting", sum)),
            (semconv.KV_CACHE_USAGE, self._each("kv_cache_usage", max)),
            (semconv.KV_CACHE_SIZE_TOKENS, self._each("kv_cache_size_tokens", sum)),
            (semconv.NUM_GPU_BLOCKS, self._each("num_gpu_blocks", sum)),
            (semconv.PREFIX_CACHE_QUERIES, self._each("prefix_cache_queries", sum)),
            (semconv.PREFIX_CACHE_HITS, self._each("prefix_cache_hits", sum)),
            (semconv.WEIGHTS_MEMORY, self._of_workers("weights_bytes")),
            (semconv.KV_CACHE_MEMORY, self._of_workers("kv_cache_bytes")),
            (semconv.PROCESS_MEMORY_USAGE, self._process_memory),
            (semconv.GPU_MEMORY_USAGE, self._gpu_memory("used")),
            (semconv.GPU_MEMORY_LIMIT, self._gpu_memory("total")),
        ):
            _CREATE[metric.instrument](meter, metric, _guarded(observe))

    def _each(self, name: str, merge: Callable[[list[Any]], Any]) -> Callable[[], Iterator[Observation]]:
        def observe() -> Iterator[Observation]:
            found: dict[tuple[Any, ...], list[Any]] = {}
            for engine in self._read().engines:
                value = getattr(engine, name)
                if value is not None:
                    found.setdefault(tuple(engine_attributes(engine.variant).items()), []).append(value)
            for attributes, values in found.items():
                yield Observation(merge(values), dict(attributes))

        return observe

    def _of_workers(self, name: str) -> Callable[[], Iterator[Observation]]:
        def observe() -> Iterator[Observation]:
            found: dict[tuple[Any, ...], int] = {}
            for worker in self._read().workers:
                key = (*engine_attributes(worker.variant).items(), (semconv.WORKER_RANK, worker.rank))
                found[key] = found.get(key, 0) + getattr(worker, name)
            for attributes, value in found.items():
                yield Observation(value, dict(attributes))

        return observe

    def _process_memory(self) -> Iterator[Observation]:
        engines = self._read().engines
        if not engines:
            return
        from traceai_vllm.telemetry import machine

        for process in machine.memory_of_processes([pid for engine in engines for pid in engine.pids]):
            owners = [engine for engine in engines if process.root in engine.pids] or engines
            attributes = _common_attributes([owner.variant for owner in owners])
            yield Observation(process.resident_bytes, {**attributes, semconv.PROCESS_PID: process.pid})

    def _gpu_memory(self, name: str) -> Callable[[], Iterator[Observation]]:
        def observe() -> Iterator[Observation]:
            engines = self._read().engines
            if not engines:
                return
            from traceai_vllm.telemetry import machine

            attributes = _common_attributes([engine.variant for engine in engines])
            for gpu in machine.gpus(max(engine.gpus for engine in engines)):
                yield Observation(
                    getattr(gpu, name), {**attributes, semconv.HW_ID: gpu.uuid, semconv.HW_NAME: gpu.name}
                )

        return observe


class PreemptionCounter:
    """Counts preemptions, from the records of the requests that they happened to.

    vLLM tells its frontend of them request by request, so they are counted when the request ends.
    """

    def __init__(self, meter: Meter) -> None:
        metric = semconv.NUM_PREEMPTIONS
        self._counter = meter.create_counter(metric.name, unit=metric.unit, description=metric.meaning)

    def record(self, record: RequestRecord) -> None:
        """Add the preemptions of a request that has ended."""
        if record.preemptions:
            self._counter.add(record.preemptions, engine_attributes(record.variant))


def engine_attributes(variant: Variant) -> Attributes:
    """Return the tags of an engine's measurements."""
    attributes: Attributes = {semconv.PROVIDER_NAME: semconv.PROVIDER}
    for key, value in (
        (semconv.REQUEST_MODEL, variant.model),
        (semconv.MODEL_VARIANT, variant.model_variant),
        (semconv.QUANTIZATION_FORMAT, variant.quantization_format),
    ):
        if value is not None:
            attributes[key] = value
    return attributes


def _common_attributes(variants: Sequence[Variant]) -> Attributes:
    # A process or a GPU that several variants share is no single one's: it keeps the tags that they agree on.
    first, *others = (engine_attributes(variant) for variant in variants)
    return {key: value for key, value in first.items() if all(other.get(key) == value for other in others)}


def _guarded(observe: Callable[[], Iterable[Observation]]) -> Callback:
    def callback(options: CallbackOptions) -> Iterable[Observation]:
        with _COLLECT:
            return list(observe())
        return []

    return callback


def _gauge(meter: Meter, metric: semconv.Metric, callback: Callback) -> None:
    meter.create_observable_gauge(metric.name, [callback], metric.unit, metric.meaning)


def _counter(meter: Meter, metric: semconv.Metric, callback: Callback) -> None:
    meter.create_observable_counter(metric.name, [callback], metric.unit, metric.meaning)


def _up_down_counter(meter: Meter, metric: semconv.Metric, callback: Callback) -> None:
    meter.create_observable_up_down_counter(metric.name, [callback], metric.unit, metric.meaning)


_CREATE = {
    "observable gauge": _gauge,
    "observable counter": _counter,
    "observable up-down counter": _up_down_counter,
}
