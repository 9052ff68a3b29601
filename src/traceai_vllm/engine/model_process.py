"""In a process of vLLM's that runs the model and sees no request: what the model takes of its memory, as metrics."""

from __future__ import annotations

import functools
from typing import Any

import wrapt
from opentelemetry import metrics

from traceai_vllm.engine import readings
from traceai_vllm.guard import Guard
from traceai_vllm.version import __version__

_PATCH = Guard("patching vLLM's worker")
_BEGIN = Guard("the metrics of a process that runs the model")


def report_memory() -> None:
    """Report the memory of this process's model workers, from the moment when they are ready; trace nothing.

    Exporters are set up when there is a worker: an engine core whose workers are other processes gets none.
    """
    wrapt.register_post_import_hook(_patch, readings.WORKER_MODULE)


def _patch(module: Any) -> None:
    with _PATCH:
        if hasattr(getattr(module, "WorkerWrapperBase", None), "initialize_from_config"):  # 0.10
            wrapt.wrap_function_wrapper(module, "WorkerWrapperBase.initialize_from_config", _worker_ready)


def _worker_ready(wrapped: Any, worker: Any, args: Any, kwargs: Any) -> Any:
    result = readings.worker_ready(wrapped, worker, args, kwargs)
    with _BEGIN:
        _begin()
    return result


@functools.cache
def _begin() -> None:
    from traceai_vllm.telemetry import providers
    from traceai_vllm.telemetry.engine_metrics import EngineMetrics

    provider = providers.configure(metrics_only=True).meter_provider
    EngineMetrics(metrics.get_meter("traceai_vllm", __version__, provider), readings.read_workers)
