"""Part ``offline``: throughput of an offline engine with its real core (target A1)."""

from __future__ import annotations

from typing import Any

from benchmarks.engine.arms import Load, engines, native_arm, ours_arm, plain_engine
from benchmarks.engine.rounds import Arm, run_rounds
from benchmarks.engine.setting import REAL_MODEL, SMALL_VOCABULARY, engine_args, one_layer_args
from benchmarks.engine.telemetry import Sink, meter_provider

# Requests per measurement, tokens per request.
ONE_LAYER_LOAD = (128, 16)
REAL_MODEL_LOAD = (16, 16)


def run(rounds: int) -> dict[str, Any]:
    """Measure the one-layer model: an engine as cheap as one with a real vocabulary gets."""
    plain_llm, stats_llm, switch = engines(one_layer_args())
    plain, stats = Load(plain_llm, *ONE_LAYER_LOAD), Load(stats_llm, *ONE_LAYER_LOAD)
    arms = [
        *_plain_arms(plain),
        ours_arm(plain, "ours_metrics", Sink(), meter_provider()),
        stats.arm("stats"),
        ours_arm(stats, "ours_stats", Sink()),
        native_arm(stats, "native", switch, Sink()),
    ]
    return {"facts": {}, "groups": {"one_layer": run_rounds("offline, one layer", arms, rounds)}}


def run_small_vocabulary(rounds: int) -> dict[str, Any]:
    """Measure the one-layer model of the tests, whose vocabulary of 4,096 makes it cheaper than any real one."""
    arms = _plain_arms(Load(plain_engine(engine_args(SMALL_VOCABULARY)), *ONE_LAYER_LOAD))
    return {"facts": {}, "groups": {"small_vocabulary": run_rounds("offline, vocabulary of 4,096", arms, rounds)}}


def run_real_model(rounds: int) -> dict[str, Any]:
    """Measure a real model of 135 M parameters, with few requests."""
    arms = _plain_arms(Load(plain_engine(engine_args(REAL_MODEL)), *REAL_MODEL_LOAD))
    return {"facts": {}, "groups": {"real_model": run_rounds("offline, 135 M", arms, rounds)}}


def _plain_arms(load: Load) -> list[Arm]:
    return [load.arm("bare"), load.arm("bare_again"), ours_arm(load, "ours", Sink())]
