"""Part ``micro``: the pieces in loops of their own, without vLLM: a bare SDK span against our pipeline."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from opentelemetry.context import Context
from opentelemetry.metrics import NoOpMeterProvider
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF

from benchmarks.engine.floor import bare_measurements, bare_span, histograms, span_one_by_one
from benchmarks.engine.rounds import Arm, run_rounds
from benchmarks.engine.telemetry import Sink, meter_provider
from traceai_vllm.record import RequestRecord, Variant
from traceai_vllm.telemetry.pipeline import Pipeline

if TYPE_CHECKING:
    from collections.abc import Callable

    from opentelemetry.metrics import MeterProvider
    from opentelemetry.trace import TracerProvider

CALLS = 400
METRIC_ATTRIBUTES = {
    "gen_ai.operation.name": "text_completion",
    "gen_ai.provider.name": "vllm",
    "gen_ai.request.model": "llama-3.1-70b",
    "model_variant": "llama-3.1-70b-awq",
    "quantization_format": "int4",
}
_VARIANT = Variant("llama-3.1-70b-awq", "int4", "llama-3.1-70b", "awq", "int4", "fp16", "auto", 128)


def run(rounds: int) -> dict[str, Any]:
    """Measure, and return the samples; ``seconds per request`` is per call here."""
    reference = _reference()
    return {
        "facts": {"span_attributes": len(reference.attributes)},
        "groups": {"micro": run_rounds("loops", _arms(reference), rounds)},
    }


def record() -> RequestRecord:
    """Return the record of a request of a server with statistics on."""
    start = time.time_ns() - 2_000_000_000
    made = RequestRecord(Context(), _VARIANT, "text_completion", start, start + 1_500_000_000, "cmpl-1234567890")
    made.max_tokens, made.temperature, made.top_p, made.output_type, made.stream = 256, 0.7, 0.95, "text", False
    made.engine_running, made.engine_waiting, made.engine_kv_cache_usage = 12, 0, 0.25
    made.input_tokens, made.output_tokens, made.cached_tokens, made.preemptions = 512, 200, 0, 0
    made.finish_reasons, made.time_to_first_token, made.e2e = ["stop"], 0.12, 1.5
    made.time_in_queue, made.time_in_model_prefill = 0.01, 0.11
    made.time_in_model_decode, made.time_in_model_inference = 1.38, 1.49
    return made


def _pipeline(tracers: TracerProvider, meters: MeterProvider) -> Pipeline:
    return Pipeline(tracers.get_tracer("benchmark"), meters.get_meter("benchmark"))


def _reference() -> Any:
    exporter = InMemorySpanExporter()
    sink = Sink(exporter)
    _pipeline(sink.provider, NoOpMeterProvider()).finish(record())
    sink.provider.shutdown()
    return exporter.get_finished_spans()[0]


def _arms(reference: Any) -> list[Arm]:
    attributes, name = dict(reference.attributes), reference.name
    meters = meter_provider()
    measure = bare_measurements(histograms(meters), METRIC_ATTRIBUTES)
    span = bare_span(Sink().provider.get_tracer("benchmark"), name, attributes)()
    return [
        _loop("sdk_span", Sink(), lambda sink: bare_span(_tracer(sink), name, attributes)),
        _loop("sdk_span_one_by_one", Sink(), lambda sink: span_one_by_one(_tracer(sink), name, attributes)),
        _loop("sdk_span_off", Sink(sampler=ALWAYS_OFF), lambda sink: bare_span(_tracer(sink), name, attributes), 0),
        _loop("sdk_five_histograms", None, lambda sink: lambda: measure(span)),
        _loop("ours", Sink(), lambda sink: _finisher(sink, NoOpMeterProvider())),
        _loop("ours_metrics", Sink(), lambda sink: _finisher(sink, meters)),
        _loop("ours_off", Sink(sampler=ALWAYS_OFF), lambda sink: _finisher(sink, NoOpMeterProvider()), 0),
    ]


def _tracer(sink: Sink) -> Any:
    return sink.provider.get_tracer("benchmark")


def _finisher(sink: Sink, meters: MeterProvider) -> Callable[[], Any]:
    finish, made = _pipeline(sink.provider, meters).finish, record()
    return lambda: finish(made)


def _loop(name: str, sink: Sink | None, build: Callable[[Any], Callable[[], Any]], spans: int = 1) -> Arm:
    call = build(sink)

    def work(calls: int = CALLS) -> int:
        for _ in range(calls):
            call()
        return calls

    def warm() -> int:
        return work(20)

    if sink is None:
        return Arm(name, work, warm)
    return Arm(name, work, warm, flush=sink.flush, spans=sink.count, spans_per_request=spans)
