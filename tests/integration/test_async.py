"""``AsyncLLM`` on real vLLM, its engine core in a process of its own: streams, every end, 32 callers at once."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
from collections.abc import AsyncIterator
from typing import Any

import psutil
import pytest
from opentelemetry import trace
from opentelemetry.trace import StatusCode

import traceai_vllm
from tests.integration.conftest import ENGINE_ARGS, Run, Traced
from tests.integration.test_offline import MODEL, TAGS
from traceai_vllm.engine.funnel import tracker_of

ENGINE_TIMES = {
    "gen_ai.latency.e2e",
    "gen_ai.latency.time_to_first_token",
    "gen_ai.latency.time_in_queue",
    "gen_ai.latency.time_in_model_prefill",
    "gen_ai.latency.time_in_model_decode",
    "gen_ai.latency.time_in_model_inference",
}
LOAD = {"traceai.engine.running", "traceai.engine.waiting", "traceai.engine.kv_cache_usage"}


def params(stream: bool = True, **options: Any) -> Any:
    from vllm import SamplingParams
    from vllm.sampling_params import RequestOutputKind

    kind = RequestOutputKind.DELTA if stream else RequestOutputKind.FINAL_ONLY
    return SamplingParams(**{"max_tokens": 6, "temperature": 0.0, "ignore_eos": True, "output_kind": kind, **options})


async def collect(generator: AsyncIterator[Any]) -> list[Any]:
    return [output async for output in generator]


def open_requests(engine: Any) -> tuple[int, int]:
    """Return how many requests, and how many calls not yet begun, are held for an engine."""
    tracker = tracker_of(engine.output_processor)
    return len(tracker.open), len(tracker.calls)


def test_a_streamed_request_has_every_attribute_of_the_contract(async_engine: Any, run: Run, traced: Traced) -> None:
    """One streamed request: exactly these attributes, with the engine's own times and its load at admission."""

    async def ask() -> list[Any]:
        await collect(async_engine.generate("warm up", params(), "w"))  # the load is known from the first step on
        with traceai_vllm.tags(**TAGS):
            return await collect(async_engine.generate("hello", params(), "mine"))

    outputs = run(ask())

    span = traced.requests[-1]
    attributes = dict(span.attributes or {})
    prompt = len(outputs[0].prompt_token_ids)
    assert {k: v for k, v in attributes.items() if k not in ENGINE_TIMES | LOAD} == {
        **MODEL,
        **TAGS,
        "gen_ai.operation.name": "text_completion",
        "gen_ai.request.max_tokens": 6,
        "gen_ai.request.temperature": 0.0,
        "gen_ai.request.top_p": 1.0,
        "gen_ai.request.stream": True,
        "gen_ai.output.type": "text",
        "gen_ai.response.id": "mine",
        "gen_ai.response.finish_reasons": ("length",),
        "gen_ai.usage.input_tokens": prompt,
        "gen_ai.usage.output_tokens": 6,
        "gen_ai.usage.cache_read.input_tokens": 0,
        "llm.token_count.prompt": prompt,
        "llm.token_count.completion": 6,
        "llm.token_count.total": prompt + 6,
        "traceai.preemptions": 0,
    }
    assert set(attributes) >= ENGINE_TIMES | LOAD
    times = {key.rpartition(".")[2]: attributes[key] for key in ENGINE_TIMES}
    inference = times["time_in_model_prefill"] + times["time_in_model_decode"]
    assert times["time_in_model_inference"] == pytest.approx(inference)
    assert 0 < times["time_to_first_token"] <= times["e2e"]
    assert span.status.status_code is StatusCode.UNSET
    assert open_requests(async_engine) == (0, 0)


def test_32_concurrent_callers_never_mix(async_engine: Any, run: Run, traced: Traced) -> None:
    """Each span has the tags and the parent of its own caller, although all use the same id, prompt and task tree."""
    tracer = traced.tracer_provider.get_tracer("app")
    sampling = params()

    async def call(i: int) -> tuple[str, int]:
        with tracer.start_as_current_span(f"caller {i}") as span, traceai_vllm.tags(route=f"route-{i}"):
            generator = async_engine.generate("hello", sampling, "the same id")
        # The server's handler returns here; another task consumes what it made, without the handler's context.
        await asyncio.create_task(collect(generator))
        return f"route-{i}", span.get_span_context().span_id

    async def main() -> list[tuple[str, int]]:
        return await asyncio.gather(*(call(i) for i in range(32)))

    expected = run(main())

    assert sorted((s.attributes["route"], s.parent.span_id) for s in traced.requests) == sorted(expected)
    assert open_requests(async_engine) == (0, 0)


def test_a_client_that_goes_away_ends_its_request(async_engine: Any, run: Run, traced: Traced) -> None:
    """Closing the generator in the middle of a stream is `cancelled`, with what was generated until then."""

    async def leave_early() -> None:
        generator = async_engine.generate("hello", params(max_tokens=500), "mine")
        async for _ in generator:
            break
        await generator.aclose()

    run(leave_early())

    span, attributes = traced.request()
    assert attributes["error.type"] == "cancelled"
    assert attributes["gen_ai.response.finish_reasons"] == ("abort",)
    assert 0 < attributes["gen_ai.usage.output_tokens"] < 500
    assert span.status.status_code is StatusCode.ERROR


@pytest.mark.parametrize("n", [1, 2])
def test_a_cancelled_task_ends_its_request(async_engine: Any, run: Run, traced: Traced, n: int) -> None:
    """A task that is cancelled while it waits for tokens is `cancelled`; the cancellation itself is the user's."""

    async def cancel() -> bool:
        started = asyncio.Event()

        async def consume() -> None:
            async for _ in async_engine.generate("hello", params(max_tokens=500, n=n, temperature=1.0), "mine"):
                started.set()

        task = asyncio.create_task(consume())
        await started.wait()
        task.cancel()
        await asyncio.wait([task])
        return task.cancelled()

    assert run(cancel())

    _, attributes = traced.request()
    assert attributes["error.type"] == "cancelled"
    assert attributes["gen_ai.response.finish_reasons"] == ("abort",) * n
    assert open_requests(async_engine) == (0, 0)


def test_a_callers_deadline_ends_its_request(async_engine: Any, run: Run, traced: Traced) -> None:
    """A caller's `wait_for` raises its own TimeoutError; vLLM sees a cancellation, and so does the span."""

    async def too_slow() -> None:
        await asyncio.wait_for(collect(async_engine.generate("hello", params(max_tokens=900), "mine")), timeout=0.02)

    with pytest.raises(asyncio.TimeoutError):
        run(too_slow())

    assert traced.request()[1]["error.type"] == "cancelled"


def test_an_aborted_request_ends(async_engine: Any, run: Run, traced: Traced) -> None:
    """`abort()` by the public id ends the span, and the caller gets vLLM's final output as always."""

    async def abort() -> list[Any]:
        outputs = []
        async for output in async_engine.generate("hello", params(max_tokens=500), "mine"):
            if not outputs:
                await async_engine.abort("mine")
            outputs.append(output)
        return outputs

    outputs = run(abort())

    assert outputs[-1].outputs[0].finish_reason == "abort"
    assert traced.request()[1]["error.type"] == "cancelled"


def test_a_rejected_request_is_a_span_with_its_error(async_engine: Any, run: Run, traced: Traced) -> None:
    """A prompt that is too long: the user's exception is vLLM's own, and the span says what kind it was."""
    from vllm.exceptions import VLLMValidationError

    with pytest.raises(VLLMValidationError, match="maximum context length"):
        run(collect(async_engine.generate({"prompt_token_ids": [5] * 2000}, params(), "mine")))

    span, attributes = traced.request()
    assert attributes["error.type"] == "VLLMValidationError"
    assert attributes["gen_ai.response.id"] == "mine"
    assert span.status.status_code is StatusCode.ERROR


def test_an_error_of_the_callers_own_input_stream_is_the_requests_error(
    async_engine: Any, run: Run, traced: Traced
) -> None:
    """Streamed input that raises: the caller gets their exception, and the request ends with it."""
    from vllm.engine.protocol import StreamingInput

    class Mine(Exception):
        pass

    async def broken() -> AsyncIterator[Any]:
        yield StreamingInput(prompt="hello")
        raise Mine("the microphone fell off")

    with pytest.raises(Mine):
        run(collect(async_engine.generate(broken(), params(), "mine")))

    assert [span.attributes["error.type"] for span in traced.requests] == ["InputStreamError"]
    assert open_requests(async_engine) == (0, 0)


def test_a_streamed_input_session_is_one_request(async_engine: Any, run: Run, traced: Traced) -> None:
    """Input that comes in pieces is one request from its first piece to the end of the session."""
    from vllm.engine.protocol import StreamingInput

    async def pieces() -> AsyncIterator[Any]:
        for text in ("hello", " again"):
            yield StreamingInput(prompt=text)

    async def ask() -> None:
        with traceai_vllm.tags(route="voice"):
            await collect(async_engine.generate(pieces(), params(max_tokens=3), "mine"))

    run(ask())

    _, attributes = traced.request()
    assert attributes["route"] == "voice"
    assert "error.type" not in attributes
    assert open_requests(async_engine) == (0, 0)


def test_a_generator_that_is_never_consumed_leaves_nothing_behind(async_engine: Any, run: Run, traced: Traced) -> None:
    """Making the generator is not yet a request: dropped, it holds no context and makes no span."""

    async def make_and_drop() -> None:
        async_engine.generate("hello", params(), "mine")
        gc.collect()

    run(make_and_drop())

    assert traced.requests == []
    assert open_requests(async_engine) == (0, 0)


def test_phase_spans_come_on_demand(async_engine: Any, run: Run) -> None:
    """`phase_spans=True` adds queue, prefill and decode under the request, from the engine's own times."""
    seen = Traced()
    seen.instrument(phase_spans=True)
    try:
        run(collect(async_engine.generate("hello", params(), "mine")))
    finally:
        traceai_vllm.uninstrument()

    *phases, request = seen.spans
    assert [span.name for span in phases] == ["queue", "prefill", "decode"]
    assert {span.parent.span_id for span in phases} == {request.context.span_id}


def test_requests_in_flight_at_uninstrument_still_end(async_engine: Any, run: Run, traced: Traced) -> None:
    """Switching off in the middle of a stream: that stream's span still ends, and new requests make none."""

    async def switch_off() -> None:
        generator = async_engine.generate("hello", params(max_tokens=20), "old")
        await anext(generator)
        traceai_vllm.uninstrument()
        await asyncio.gather(collect(generator), collect(async_engine.generate("hello", params(), "new")))

    run(switch_off())

    _, attributes = traced.request()
    assert attributes["gen_ai.response.id"] == "old"
    assert attributes["gen_ai.usage.output_tokens"] == 20


def test_the_callers_span_is_the_parent_and_stays_the_callers(async_engine: Any, run: Run, traced: Traced) -> None:
    """The current span of the caller is the same before, during and after the call."""
    tracer = traced.tracer_provider.get_tracer("app")

    async def ask() -> bool:
        with tracer.start_as_current_span("agent") as agent:
            same = [trace.get_current_span() is agent]
            async for _ in async_engine.generate("hello", params(), "mine"):
                same.append(trace.get_current_span() is agent)
            return all([*same, trace.get_current_span() is agent])

    assert run(ask())
    agent = next(span for span in traced.spans if span.name == "agent")
    assert traced.request()[0].parent.span_id == agent.context.span_id


def test_a_dead_engine_ends_every_open_request(one_layer_model: str, run: Run, traced: Traced) -> None:
    """The engine's process is killed: all callers get EngineDeadError, and all their spans end with it."""
    from vllm import AsyncEngineArgs
    from vllm.v1.engine.async_llm import AsyncLLM
    from vllm.v1.engine.exceptions import EngineDeadError

    children = set(psutil.Process().children(recursive=True))

    async def kill() -> list[Any]:
        engine = AsyncLLM.from_engine_args(AsyncEngineArgs(model=one_layer_model, **ENGINE_ARGS))
        started = [asyncio.Event() for _ in range(4)]

        async def consume(i: int) -> None:
            async for _ in engine.generate("hello", params(max_tokens=900), f"r{i}"):
                started[i].set()

        tasks = [asyncio.create_task(consume(i)) for i in range(4)]
        await asyncio.gather(*(event.wait() for event in started))
        for process in set(psutil.Process().children(recursive=True)) - children:
            if process.is_running() and "EngineCore" in " ".join(process.cmdline()) + process.name():
                os.kill(process.pid, signal.SIGKILL)
        results = await asyncio.gather(*tasks, return_exceptions=True)
        late = await asyncio.gather(collect(engine.generate("late", params(), "late")), return_exceptions=True)
        engine.shutdown()
        return [*results, *late]

    results = run(kill())

    assert {type(result) for result in results} == {EngineDeadError}
    assert [span.attributes["error.type"] for span in traced.requests] == ["EngineDeadError"] * 5
