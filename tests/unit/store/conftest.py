from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from opentelemetry.sdk.trace import ReadableSpan
    from opentelemetry.trace import Tracer

    MakeSpans = Callable[..., list[ReadableSpan]]


@pytest.fixture(scope="session")
def recording() -> Iterator[tuple[Tracer, InMemorySpanExporter]]:
    """A real tracer, and the memory that its finished spans go to."""
    memory = InMemorySpanExporter()
    provider = TracerProvider(resource=Resource({"service.name": "vllm", "host.name": "node-1"}))
    provider.add_span_processor(SimpleSpanProcessor(memory))
    yield provider.get_tracer("traceai_vllm"), memory
    provider.shutdown()


@pytest.fixture(scope="session")
def make_spans(recording: tuple[Tracer, InMemorySpanExporter]) -> MakeSpans:
    """Makes finished spans of the SDK: ``make_spans(3, {"route": "support"})``."""
    tracer, memory = recording

    def make(count: int = 1, attributes: dict[str, Any] | None = None) -> list[ReadableSpan]:
        memory.clear()
        for _ in range(count):
            tracer.start_span("chat llama", attributes=attributes).end()
        return list(memory.get_finished_spans())

    return make
