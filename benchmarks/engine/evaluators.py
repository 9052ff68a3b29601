"""Part ``evaluators``: throughput of a real model with every answer evaluated, beside the same without (target A7).

Each prompt has a retrieved context, which its answer is checked against; a part of the prompts asks for JSON. Time runs
until the last span is exported, in all arms: evaluation that lags behind the answers is not free.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from opentelemetry.metrics import NoOpMeterProvider
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

import traceai_vllm
from benchmarks.engine.arms import Load, ours_arm, plain_engine
from benchmarks.engine.rounds import Arm, run_rounds
from benchmarks.engine.setting import REAL_MODEL, engine_args, sampling
from benchmarks.engine.telemetry import NullExporter, Sink
from traceai_vllm.evals.pipeline import EvaluatorSpanProcessor
from traceai_vllm.evals.registry import evaluators, names
from traceai_vllm.telemetry import semconv

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

REQUESTS, TOKENS = 16, 32
_CONTEXT = (
    "Section {0}. The waiting period of policy {0} is 30 days; claims above 1,200 euros need a receipt. Whoever has "
    "been insured since 2019-05-01 does not have to wait, unless the claim is for glasses. "
) * 3


def run(rounds: int) -> dict[str, Any]:
    """Measure, and return the samples."""
    load = ContextLoad(plain_engine(engine_args(REAL_MODEL)), REQUESTS, TOKENS)
    evaluating = EvaluatingSink()
    arms = [
        ours_arm(load, "ours", Sink()),
        ours_arm(load, "ours_again", Sink()),
        load.arm("ours_evaluated", partial(_scoring, evaluating), evaluating, (1, 1)),
    ]
    samples = run_rounds("evaluators, 135 M", [_to_the_last_span(arm) for arm in arms], rounds)
    attributes = evaluating.last_attributes()
    scored = [name for name in names() if f"{semconv.EVALUATION_PREFIX}{name}.score" in attributes]
    if attributes.get(semconv.EVALUATION_STATUS) != "ok" or not scored:
        raise RuntimeError(f"the answers were not evaluated: {dict(attributes)}")
    evaluating.provider.shutdown()
    return {"facts": {"evaluators": scored, "requests": REQUESTS, "tokens": TOKENS}, "groups": {"evaluators": samples}}


@dataclass(frozen=True, slots=True)
class ContextLoad(Load):
    """A load whose prompts have a retrieved context."""

    def run(self, requests: int | None = None) -> int:
        """Run the requests and return how many they were."""
        count = requests or self.requests
        contexts = [_CONTEXT.format(number) for number in range(4)]
        prompts = [f"{contexts[number % 4]}\nQuestion {number}: who has to wait?\nAnswer:" for number in range(count)]
        with traceai_vllm.tags(route="bench", context=contexts):
            return len(self.llm.generate(prompts, sampling(self.tokens), use_tqdm=False))


class EvaluatingSink(Sink):
    """As a sink, with all of the evaluators before the batch processor."""

    def __init__(self) -> None:
        self.exporter = self._counting = NullExporter()
        self.provider = TracerProvider()
        self.provider.add_span_processor(
            EvaluatorSpanProcessor(BatchSpanProcessor(self.exporter), evaluators=evaluators(names()), processes=1)
        )

    def last_attributes(self) -> Mapping[str, Any]:
        """Return the attributes of the span that came last."""
        return (self._counting.last and self._counting.last.attributes) or {}


@contextmanager
def _scoring(sink: Sink) -> Iterator[None]:
    traceai_vllm.instrument(
        tracer_provider=sink.provider, meter_provider=NoOpMeterProvider(), capture_content="SCORE_ONLY"
    )
    try:
        yield
    finally:
        traceai_vllm.uninstrument()


def _to_the_last_span(arm: Arm) -> Arm:
    def work() -> int:
        done = arm.work()
        arm.flush()
        return done

    return replace(arm, work=work)
