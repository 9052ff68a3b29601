"""Ways to use ``AsyncLLM``."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from typing import Any

import traceai_vllm
from tests.support.usage import LONG, PROMPTS, TOO_LONG, Engines, answer, greedy, sampled


def _stream(engines: Engines, params: Any, prompt: Any = PROMPTS[0]) -> Any:
    return engines.engine.generate(prompt, params, "mine")


def _delta(**options: Any) -> Any:
    from vllm.sampling_params import RequestOutputKind

    return greedy(output_kind=RequestOutputKind.DELTA, **options)


def _whole(params: Any) -> Any:
    from vllm.sampling_params import RequestOutputKind

    params.output_kind = RequestOutputKind.FINAL_ONLY
    return params


async def _joined(stream: AsyncIterator[Any]) -> Any:
    # How many tokens come at a time is vLLM's affair.
    tokens, text, reason = [], "", None
    async for output in stream:
        (part,) = output.outputs
        tokens += part.token_ids
        text += part.text
        reason = part.finish_reason
    return tokens, text, reason


def collected(engines: Engines) -> Any:
    """Two requests at once, of which only the whole answers are wanted."""

    async def collect(params: Any, prompt: str) -> Any:
        return [answer(output) async for output in _stream(engines, _whole(params), prompt)]

    async def both() -> Any:
        return await asyncio.gather(collect(greedy(), PROMPTS[0]), collect(sampled(), PROMPTS[1]))

    return engines.run(both())


def streamed(engines: Engines) -> Any:
    """Tokens as they come; then again, when the engine's load is known."""

    async def twice() -> Any:
        return [await _joined(_stream(engines, _delta())) for _ in range(2)]

    return engines.run(twice())


def closed(engines: Engines) -> Any:
    """The consumer has seen enough after the first tokens and closes the stream."""

    async def close() -> Any:
        stream = _stream(engines, _delta(max_tokens=LONG))
        first = await anext(stream)
        await stream.aclose()
        return first.outputs[0].token_ids[0], first.finished

    return engines.run(close())


def dropped(engines: Engines) -> Any:
    """The consumer forgets the stream after the first tokens, without closing it."""

    async def drop() -> Any:
        stream = _stream(engines, _delta(max_tokens=LONG))
        first = await anext(stream)
        del stream
        await _until(lambda: not engines.engine.output_processor.request_states)
        return first.outputs[0].token_ids[0], first.finished

    return engines.run(drop())


def never_consumed(engines: Engines) -> Any:
    """The stream is made, and nobody reads it."""

    async def forget() -> Any:
        return type(_stream(engines, greedy())).__name__

    return engines.run(forget())


def cancelled(engines: Engines) -> Any:
    """The task that reads the stream is cancelled, as a server does when its client hangs up."""

    async def cancel() -> Any:
        first = asyncio.Event()

        async def read() -> None:
            async for _ in _stream(engines, _delta(max_tokens=LONG)):
                first.set()

        task = asyncio.create_task(read())
        await asyncio.wait([task, asyncio.create_task(first.wait())], return_when=asyncio.FIRST_COMPLETED)
        task.cancel()
        return await task

    return engines.run(cancel())


def cancelled_at_admission(engines: Engines) -> Any:
    """The task is cancelled before its request has reached the engine."""

    async def cancel() -> Any:
        task = asyncio.create_task(anext(_stream(engines, greedy())))
        await asyncio.sleep(0)
        task.cancel()
        return await task

    return engines.run(cancel())


def rejected_stream(engines: Engines) -> Any:
    """A prompt longer than the model's context."""
    return engines.run(_joined(_stream(engines, greedy(), TOO_LONG)))


def aborted_stream(engines: Engines) -> Any:
    """Somebody else aborts the request by its id."""

    async def abort() -> Any:
        stream = _stream(engines, _delta(max_tokens=LONG))
        first = await anext(stream)
        await engines.engine.abort("mine")
        return first.outputs[0].token_ids[0], (await _joined(stream))[2]

    return engines.run(abort())


def failing_engine(engines: Engines) -> Any:
    """The engine dies while a stream is read."""

    async def read() -> Any:
        stream = _stream(engines, _delta(max_tokens=LONG))
        await anext(stream)
        engines.engine.output_processor.propagate_error(RuntimeError("the engine died"))
        return await _joined(stream)

    return engines.run(read())


def streamed_input(engines: Engines) -> Any:
    """The prompt comes in parts, and answers between them."""
    from vllm.engine.protocol import StreamingInput

    async def parts() -> AsyncIterator[Any]:
        for prompt in PROMPTS:
            yield StreamingInput(prompt=prompt)

    return engines.run(_joined(_stream(engines, _delta(), parts())))


def empty_input(engines: Engines) -> Any:
    """The prompt is a stream that ends without a part; other requests follow."""

    async def nothing() -> AsyncIterator[Any]:
        for never in ():
            yield never

    return engines.run(_joined(_stream(engines, _delta(), nothing()))), streamed(engines)


def stream_switched_off_meanwhile(engines: Engines) -> Any:
    """Uninstrumented in the middle of a stream."""

    async def read() -> Any:
        stream = _stream(engines, _delta(max_tokens=8))
        (first,) = (await anext(stream)).outputs
        with suppress(Exception):
            traceai_vllm.uninstrument()
        tokens, text, reason = await _joined(stream)
        return [*first.token_ids, *tokens], first.text + text, reason or first.finish_reason

    return engines.run(read())


async def _until(true: Callable[[], bool]) -> None:
    while not true():
        await asyncio.sleep(0)


ASYNCHRONOUS = (
    collected,
    streamed,
    closed,
    dropped,
    never_consumed,
    cancelled,
    cancelled_at_admission,
    rejected_stream,
    aborted_stream,
    failing_engine,
    streamed_input,
    empty_input,
    stream_switched_off_meanwhile,
)
