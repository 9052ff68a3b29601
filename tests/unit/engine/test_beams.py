"""A beam search in vLLM's server: one request, whatever it asks the engine for, and the caller gets what vLLM gives."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from types import SimpleNamespace
from typing import Any

import pytest
from opentelemetry import context as otel_context

from traceai_vllm.engine import beams
from traceai_vllm.engine.live import INTERNAL, SCOPE_KEY, begin
from traceai_vllm.testing import capture


class Processor:
    pass


class Engine:
    output_processor = Processor()
    vllm_config = SimpleNamespace()


SERVING = SimpleNamespace(engine_client=Engine())
PARAMS = SimpleNamespace(beam_width=2, max_tokens=9, temperature=0.0)
OUTPUT = SimpleNamespace(
    prompt="hello",
    prompt_token_ids=[1, 2, 3],
    outputs=[
        SimpleNamespace(index=0, text="good morning", token_ids=[7, 8], finish_reason="stop"),
        SimpleNamespace(index=1, text="good", token_ids=[7], finish_reason="length"),
    ],
)


def search(beam_search: Any) -> AsyncGenerator[Any, None]:
    """Call it as vLLM's handlers do."""
    return beams.search(beam_search, SERVING, ("a prompt", "cmpl-1", PARAMS), {"lora_request": None})


async def step() -> Any:
    """What becomes of a request to the engine at this place."""
    return begin(beams.tracker_of_engine(SERVING.engine_client), None)


def test_a_search_is_one_request_and_its_steps_are_none() -> None:
    steps, outside, seen = [], [], []

    async def beam_search(*args: Any, **kwargs: Any) -> AsyncGenerator[Any, None]:
        for _ in range(3):
            steps.append(await asyncio.create_task(step()))
        yield OUTPUT
        steps.append(await step())

    async def use() -> None:
        async for output in search(beam_search):
            seen.append(output)
            outside.append(otel_context.get_value(SCOPE_KEY))

    with capture() as captured:
        asyncio.run(use())
    (span,) = captured.requests
    attributes = span.attributes
    assert seen == [OUTPUT]
    assert steps == [INTERNAL] * 4
    assert outside == [None]
    assert attributes["gen_ai.response.id"] == "cmpl-1"
    assert attributes["traceai.beam.width"] == attributes["gen_ai.request.choice.count"] == 2
    assert (attributes["gen_ai.usage.input_tokens"], attributes["gen_ai.usage.output_tokens"]) == (3, 3)
    assert attributes["gen_ai.response.finish_reasons"] == ("stop", "length")
    assert "error.type" not in attributes
    assert "good" not in span.to_json()


def test_a_search_whose_caller_has_enough_ends_once_and_not_before_it_began(monkeypatch: pytest.MonkeyPatch) -> None:
    """Closed early, and the machine's clock was set back meanwhile."""
    closed = []

    async def beam_search(*args: Any, **kwargs: Any) -> AsyncGenerator[Any, None]:
        try:
            yield OUTPUT
        finally:
            closed.append(True)

    async def use() -> None:
        generator = search(beam_search)
        monkeypatch.setattr("time.time_ns", lambda: 1)
        await anext(generator)
        await generator.aclose()

    with capture() as captured:
        asyncio.run(use())
    (span,) = captured.requests
    (point,) = captured.metrics()["gen_ai.server.request.duration"]
    assert closed == [True]
    assert "error.type" not in span.attributes
    assert span.end_time >= span.start_time
    assert point["sum"] >= 0


def test_its_answers_are_captured_like_others() -> None:
    async def beam_search(*args: Any, **kwargs: Any) -> AsyncGenerator[Any, None]:
        yield OUTPUT

    async def use() -> None:
        await anext(search(beam_search))

    with capture(capture_content=True) as captured:
        asyncio.run(use())
    (span,) = captured.requests
    assert "hello" in span.attributes["gen_ai.input.messages"]
    assert "good morning" in span.attributes["gen_ai.output.messages"]


def test_its_error_is_the_callers_and_the_spans() -> None:
    async def beam_search(*args: Any, **kwargs: Any) -> AsyncGenerator[Any, None]:
        raise NotImplementedError("Embedding prompt not supported for beam search")
        yield

    async def use() -> None:
        with pytest.raises(NotImplementedError, match="Embedding prompt"):
            await anext(search(beam_search))

    with capture() as captured:
        asyncio.run(use())
    (span,) = captured.requests
    assert span.attributes["error.type"] == "NotImplementedError"


def test_a_caller_that_leaves_cancels_it() -> None:
    """The search itself learns of it, so that vLLM aborts its steps."""
    begun, ended = asyncio.Event(), []

    async def beam_search(*args: Any, **kwargs: Any) -> AsyncGenerator[Any, None]:
        try:
            begun.set()
            await asyncio.Event().wait()
            yield OUTPUT
        except asyncio.CancelledError:
            ended.append("cancelled")
            raise

    async def use() -> None:
        task = asyncio.ensure_future(anext(search(beam_search)))
        await begun.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    with capture() as captured:
        asyncio.run(use())
    (span,) = captured.requests
    assert span.attributes["error.type"] == "cancelled"
    assert ended == ["cancelled"]


def test_it_is_left_alone_while_instrumentation_is_off() -> None:
    generator = object()
    assert search(lambda *args, **kwargs: generator) is generator
