"""A thousand requests between ``instrument()`` and ``uninstrument()``: nothing changed, nothing lost, nothing kept."""

from __future__ import annotations

import gc
from typing import Any

import psutil
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

import traceai_vllm
from traceai_vllm.engine.funnel import tracker_of

REQUESTS = 1000
BATCH = 100
MEBIBYTE = 1024 * 1024


class Counting(SpanProcessor):
    """Counts what starts and ends."""

    def __init__(self) -> None:
        self.started = self.ended = 0

    def on_start(self, span: Span, parent_context: Any = None) -> None:
        self.started += 1

    def on_end(self, span: ReadableSpan) -> None:
        self.ended += 1


class CountingExporter(SpanExporter):
    """Counts what is exported."""

    def __init__(self) -> None:
        self.exported = 0

    def export(self, spans: Any) -> SpanExportResult:
        self.exported += len(spans)
        return SpanExportResult.SUCCESS


def ask(llm: Any) -> list[tuple[int, ...]]:
    """Make a thousand requests in batches, with every end that offline requests have in turn."""
    from vllm import SamplingParams

    tokens: list[tuple[int, ...]] = []
    for start in range(0, REQUESTS, BATCH):
        prompts = [{"prompt_token_ids": [10 + i % 50, 20, start + i]} for i in range(BATCH)]
        params = [
            SamplingParams(max_tokens=1 + i % 3, temperature=i % 2, seed=i, stop=["a"] if i % 5 else None)
            for i in range(BATCH)
        ]
        outputs = llm.generate(prompts, params, use_tqdm=False)
        tokens.extend(tuple(output.outputs[0].token_ids) for output in outputs)
    return tokens


def resident() -> int:
    gc.collect()
    return psutil.Process().memory_info().rss


def test_a_thousand_requests_leave_outputs_and_memory_as_they_were(llm: Any) -> None:
    """Token for token what vLLM gives alone; started = ended = exported; no request kept; resident memory flat."""
    alone = ask(llm)
    counting, exporter = Counting(), CountingExporter()
    provider = TracerProvider()
    provider.add_span_processor(counting)
    provider.add_span_processor(BatchSpanProcessor(exporter, max_queue_size=4 * REQUESTS))

    traceai_vllm.instrument(tracer_provider=provider)
    first = ask(llm)
    before = resident()
    second = ask(llm)
    growth = resident() - before
    open_requests = dict(tracker_of(llm.llm_engine.output_processor).open)
    traceai_vllm.uninstrument()
    provider.force_flush()
    after = ask(llm)

    assert first == second == after == alone
    batches = 2 * REQUESTS // BATCH
    assert counting.started == counting.ended == exporter.exported == 2 * REQUESTS + batches
    assert open_requests == {}
    assert growth < 16 * MEBIBYTE
    provider.shutdown()
