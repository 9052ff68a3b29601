"""The arms on an offline engine: bare vLLM, ours, the floor, vLLM's own tracing."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from opentelemetry import trace
from opentelemetry.metrics import MeterProvider, NoOpMeterProvider
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

import traceai_vllm
from benchmarks.engine.floor import at_finish
from benchmarks.engine.rounds import Arm
from benchmarks.engine.setting import prompts, sampling
from benchmarks.engine.telemetry import Sink, SwitchProvider

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

WARM_REQUESTS = 8
_NOWHERE = "http://127.0.0.1:1"


@dataclass(frozen=True, slots=True)
class Load:
    """What one measurement runs on an offline engine.

    Attributes:
        llm: vLLM's ``LLM``.
        requests: how many requests it gets in one call.
        tokens: how many tokens each of them generates.
    """

    llm: Any
    requests: int
    tokens: int

    def run(self, requests: int | None = None) -> int:
        """Run the requests and return how many they were."""
        count = requests or self.requests
        answers = self.llm.generate(prompts(count), sampling(self.tokens), use_tqdm=False)
        if len(answers) != count:
            raise RuntimeError(f"vLLM returned {len(answers)} answers instead of {count}")
        return count

    def arm(self, name: str, enter: Any = None, sink: Sink | None = None, spans: tuple[int, int] = (0, 0)) -> Arm:
        """Return an arm that runs this load; ``spans`` are those per request and those per call."""
        warm = partial(self.run, min(WARM_REQUESTS, self.requests))
        if enter is None:
            return Arm(name, self.run, warm)
        if sink is None:
            return Arm(name, self.run, warm, enter)
        return Arm(name, self.run, warm, enter, sink.flush, sink.count, *spans)


@contextmanager
def ours(sink: Sink, meter_provider: MeterProvider | None = None) -> Iterator[None]:
    """Instrument vLLM with traceai-vllm; metrics go to a no-op meter unless a provider is given."""
    provider = meter_provider or NoOpMeterProvider()
    traceai_vllm.instrument(tracer_provider=sink.provider, meter_provider=provider)
    try:
        yield
    finally:
        traceai_vllm.uninstrument()


@contextmanager
def native(llm: Any, switch: SwitchProvider, sink: Sink) -> Iterator[None]:
    """Let vLLM's own tracing make its spans, on an engine that was built for it."""
    processor = llm.llm_engine.output_processor
    switch.target, processor.tracing_enabled = sink.provider, True
    try:
        yield
    finally:
        switch.target, processor.tracing_enabled = trace.NoOpTracerProvider(), False


def ours_arm(load: Load, name: str, sink: Sink, meter_provider: MeterProvider | None = None, spans: int = 1) -> Arm:
    """Return the arm with traceai-vllm on: one span per request and one per call."""
    return load.arm(name, partial(ours, sink, meter_provider), sink, (spans, spans))


def floor_arm(load: Load, name: str, sink: Sink, make: Callable[[], Any], spans: int = 1) -> Arm:
    """Return the arm in which ``make`` is called for each finished request."""
    return load.arm(name, partial(at_finish, make), sink, (spans, 0))


def native_arm(load: Load, name: str, switch: SwitchProvider, sink: Sink) -> Arm:
    """Return the arm with vLLM's own tracing on; ``load`` must run on an engine that was built for it."""
    return load.arm(name, partial(native, load.llm, switch, sink), sink, (1, 0))


def reference_span(load: Any) -> Any:
    """Return the span that traceai-vllm makes for a request of this load (any with ``run(requests)``)."""
    exporter = InMemorySpanExporter()
    sink = Sink(exporter)
    with ours(sink):
        load.run(1)
    sink.provider.shutdown()
    return next(span for span in exporter.get_finished_spans() if "gen_ai.response.id" in span.attributes)


def plain_engine(model_args: dict[str, Any]) -> Any:
    """Build an engine as ``LLM(...)`` is by default: without statistics."""
    from vllm import LLM

    return LLM(**model_args)


def engines(model_args: dict[str, Any]) -> tuple[Any, Any, SwitchProvider]:
    """Build two engines: one as ``LLM(...)`` is by default, one with statistics and vLLM's own tracing.

    vLLM's tracing takes the *global* tracer provider for its spans. Ours is set before vLLM would set its own, so that
    its spans go where the arm says, through the same batch processor and exporter as everybody's; the exporter that it
    makes for the endpoint stays idle.
    """
    switch = SwitchProvider()
    trace.set_tracer_provider(switch)
    plain = plain_engine(model_args)
    with_tracing = plain_engine({**model_args, "disable_log_stats": False, "otlp_traces_endpoint": _NOWHERE})
    with_tracing.llm_engine.output_processor.tracing_enabled = False
    return plain, with_tracing, switch
