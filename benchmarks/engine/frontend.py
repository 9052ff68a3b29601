"""Part ``frontend``: CPU added per request, on vLLM's real frontend over a stub core (targets A2, A3, A4)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from opentelemetry.sdk.trace.sampling import ALWAYS_OFF

from benchmarks.engine.arms import (
    Load,
    engines,
    floor_arm,
    native_arm,
    ours,
    ours_arm,
    plain_engine,
    reference_span,
)
from benchmarks.engine.floor import bare_measurements, bare_span, histograms, with_measurements
from benchmarks.engine.rounds import Arm, run_rounds
from benchmarks.engine.setting import one_layer_args
from benchmarks.engine.stubcore import StubCore
from benchmarks.engine.telemetry import Sink, meter_provider, otlp_receiver, otlp_sink

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.engine.telemetry import SwitchProvider

# Of each kind of load: requests per measurement, tokens per request, requests in flight.
SHORT = (64, 16, 64)
LONG = (16, 512, 16)
SHORT_ALONE = (32, 16, 1)
LONG_ALONE = (4, 512, 1)
METRIC_ATTRIBUTES = (
    "gen_ai.operation.name",
    "gen_ai.provider.name",
    "gen_ai.request.model",
    "model_variant",
    "quantization_format",
)


def run(rounds: int) -> dict[str, Any]:
    """Measure, and return the samples by group of arms."""
    plain, with_stats, switch = engines(one_layer_args())
    pristine = plain_engine(one_layer_args())
    cores = [_stub(llm, log_stats) for llm, log_stats in ((plain, False), (pristine, False), (with_stats, True))]
    reference = reference_span(Load(plain, 1, 16))
    facts = {
        "span_attributes": len(reference.attributes),
        "span_attributes_with_stats": len(reference_span(Load(with_stats, 1, 16)).attributes),
        "identity": identity(plain),
    }
    groups: dict[str, Any] = {}
    with otlp_receiver() as endpoint:
        load, stats_load = Load(plain, *SHORT[:2]), Load(with_stats, *SHORT[:2])
        arms = [Load(pristine, *SHORT[:2]).arm("pristine"), *_short_arms(load, stats_load, switch, reference)]
        arms += _otlp_arms(load, stats_load, switch, reference, endpoint)
        groups["short"] = run_rounds("frontend, 16 tokens", arms, rounds)
    for name, (requests, tokens, in_flight) in (
        ("long", LONG),
        ("short_alone", SHORT_ALONE),
        ("long_alone", LONG_ALONE),
    ):
        for core in cores:
            core.in_flight = in_flight
        arms = _length_arms(Load(plain, requests, tokens), Load(pristine, requests, tokens), reference)
        groups[name] = run_rounds(f"frontend, {tokens} tokens, {in_flight} in flight", arms, rounds)
    return {"facts": facts, "groups": groups}


def _stub(llm: Any, log_stats: bool) -> StubCore:
    core = StubCore(llm.llm_engine.engine_core, log_stats=log_stats)
    llm.llm_engine.engine_core = core
    return core


def _short_arms(plain: Load, stats: Load, switch: SwitchProvider, reference: Any) -> list[Arm]:
    measured, off = Sink(), Sink(sampler=ALWAYS_OFF)
    with_metrics = with_measurements(_floor(measured, reference), _measurements(reference))
    return [
        plain.arm("bare"),
        plain.arm("bare_again"),
        _floor_arm(plain, "floor", Sink(), reference),
        ours_arm(plain, "ours", Sink()),
        floor_arm(plain, "floor_metrics", measured, with_metrics),
        ours_arm(plain, "ours_metrics", Sink(), meter_provider()),
        floor_arm(plain, "floor_off", off, _floor(off, reference), spans=0),
        ours_arm(plain, "ours_off", Sink(sampler=ALWAYS_OFF), spans=0),
        stats.arm("stats"),
        ours_arm(stats, "ours_stats", Sink()),
        native_arm(stats, "native", switch, Sink()),
    ]


def _otlp_arms(plain: Load, stats: Load, switch: SwitchProvider, reference: Any, endpoint: str) -> list[Arm]:
    return [
        _floor_arm(plain, "floor_otlp", otlp_sink(endpoint), reference),
        ours_arm(plain, "ours_otlp", otlp_sink(endpoint)),
        native_arm(stats, "native_otlp", switch, otlp_sink(endpoint)),
    ]


def _length_arms(load: Load, pristine: Load, reference: Any) -> list[Arm]:
    return [
        pristine.arm("pristine"),
        load.arm("bare"),
        load.arm("bare_again"),
        _floor_arm(load, "floor", Sink(), reference),
        ours_arm(load, "ours", Sink()),
    ]


def _floor_arm(load: Load, name: str, sink: Sink, reference: Any) -> Arm:
    return floor_arm(load, name, sink, _floor(sink, reference))


def _floor(sink: Sink, reference: Any) -> Callable[[], Any]:
    return bare_span(sink.provider.get_tracer("benchmark"), reference.name, dict(reference.attributes))


def _measurements(reference: Any) -> Callable[[Any], None]:
    attributes = {key: reference.attributes[key] for key in METRIC_ATTRIBUTES if key in reference.attributes}
    return bare_measurements(histograms(meter_provider()), attributes)


def identity(llm: Any) -> dict[str, bool]:
    """Return whether vLLM's classes hold other function objects while instrumented, and the very same ones after."""
    before = _functions(llm)
    sink = Sink()
    with ours(sink):
        Load(llm, 1, 16).run()
        during = _functions(llm)
    after = _functions(llm)
    sink.provider.shutdown()
    return {
        "changed_while_instrumented": any(during[key] is not value for key, value in before.items()),
        "same_after": before.keys() == after.keys() and all(after[key] is value for key, value in before.items()),
    }


def _functions(llm: Any) -> dict[tuple[str, str], Any]:
    from vllm.v1.engine.async_llm import AsyncLLM

    engine = llm.llm_engine
    owners: list[type] = [type(llm), type(engine), type(engine.output_processor), AsyncLLM]
    return {(owner.__qualname__, name): value for owner in owners for name, value in vars(owner).items()}
