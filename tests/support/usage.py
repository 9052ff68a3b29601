"""Ways to use vLLM, each with an outcome that can be compared: what the caller gets, or the exception."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from unittest import mock

from opentelemetry import context, trace

PROMPTS = ["hello", "good morning to you"]
TOO_LONG = {"prompt_token_ids": [5] * 2000}
DEADLINE_S = 20
LONG = 400  # tokens: more than are generated until a client is gone


@dataclass
class Engines:
    """Real engines.

    Attributes:
        llm: an offline ``LLM``, its engine core in this process.
        engine: an ``AsyncLLM``.
        loop: runs a coroutine on the loop of the asynchronous engine.
    """

    llm: Any
    engine: Any
    loop: Callable[[Coroutine[Any, Any, Any]], Any]

    def run(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        """Run a coroutine; one that hangs is an error of the user's that would not have been."""
        return self.loop(asyncio.wait_for(coroutine, DEADLINE_S))

    @property
    def processors(self) -> list[Any]:
        """vLLM's objects that know the requests in flight."""
        return [self.llm.llm_engine.output_processor, self.engine.output_processor]


@dataclass(frozen=True)
class Outcome:
    """What a user sees of a call.

    Attributes:
        value: what it returned.
        error: the type and text of what it raised, with its cause and context.
        left_running: how many requests vLLM still works on.
        context: what is current in OpenTelemetry after the call, if it is not what was before.
    """

    value: Any
    error: Any
    left_running: int
    context: Any


def outcome_of(use: Callable[[Engines], Any], engines: Engines) -> Outcome:
    """Use vLLM, and return what came of it."""
    value, error = None, None
    before = context.get_current()
    try:
        value = use(engines)
    except (Exception, asyncio.CancelledError, Interrupt) as raised:
        error = _described(raised)
    running = sum(len(processor.request_states) for processor in engines.processors)
    after = context.get_current()
    if after is before:
        return Outcome(value, error, running, None)
    context.attach(before)  # for whatever is tried next
    return Outcome(value, error, running, after)


class Interrupt(KeyboardInterrupt):
    """The Ctrl-C of the user that is played here; one at the terminal still ends the tests."""


def _described(error: BaseException | None) -> Any:
    if error is None:
        return None
    try:
        text = str(error)
    except Exception:
        text = "(cannot be printed)"
    return type(error), text, _described(error.__cause__), _described(error.__context__)


def greedy(**options: Any) -> Any:
    from vllm import SamplingParams

    return SamplingParams(**{"max_tokens": 3, "temperature": 0.0, "ignore_eos": True, **options})


def sampled(**options: Any) -> Any:
    return greedy(n=2, temperature=1.0, seed=1, **options)


def answer(output: Any) -> Any:
    """Return all of a ``RequestOutput`` that is the same each time."""
    answers = [(o.index, tuple(o.token_ids), o.text, o.finish_reason, o.stop_reason) for o in output.outputs]
    return type(output), output.finished, tuple(output.prompt_token_ids or ()), tuple(answers)


def answers(outputs: Any) -> list[Any]:
    return [answer(output) for output in outputs]


def progress(*args: Any, **kwargs: Any) -> Any:
    """Code of the user's that runs inside an offline call, and asks OpenTelemetry where it is."""
    from tqdm import tqdm

    assert isinstance(trace.get_current_span(), trace.Span)
    return tqdm(*args, **{**kwargs, "disable": True})


# --- the offline engine -----------------------------------------------------------------------------------------------


def generate(engines: Engines) -> Any:
    """One greedy request and one of two samples."""
    return answers(engines.llm.generate(PROMPTS, [greedy(), sampled()], use_tqdm=progress))


def chat(engines: Engines) -> Any:
    conversation = [{"role": "user", "content": "Capital of France?"}]
    return answers(engines.llm.chat(conversation, greedy(), use_tqdm=progress))


def beam_search(engines: Engines) -> Any:
    from vllm.sampling_params import BeamSearchParams

    prompts = [{"prompt": prompt} for prompt in PROMPTS]
    outputs = engines.llm.beam_search(prompts, BeamSearchParams(beam_width=2, max_tokens=2, ignore_eos=True))
    return [[(tuple(s.tokens), s.text, s.cum_logprob) for s in output.sequences] for output in outputs]


def rejected_beam_search(engines: Engines) -> Any:
    from vllm.sampling_params import BeamSearchParams

    return engines.llm.beam_search([TOO_LONG], BeamSearchParams(beam_width=2, max_tokens=3))


def enqueue(engines: Engines) -> Any:
    engines.llm.enqueue(PROMPTS, greedy(), use_tqdm=progress)
    return answers(engines.llm.wait_for_completion(use_tqdm=progress))


def rejected_batch(engines: Engines) -> Any:
    return engines.llm.generate(TOO_LONG, greedy(), use_tqdm=progress)


def rejected_request(engines: Engines) -> Any:
    return engines.llm.llm_engine.add_request("mine", "hello", greedy(logit_bias={10**9: 1.0}))


def aborted_by_hand(engines: Engines) -> Any:
    engine = engines.llm.llm_engine
    request_id = engine.add_request("mine", "hello", greedy(max_tokens=LONG))
    outputs = engine.step()
    engine.abort_request([request_id], internal=True)
    while engine.has_unfinished_requests():
        outputs += engine.step()
    return answers(outputs)


def failing_step(engines: Engines) -> Any:
    """The engine's step raises."""
    with _failing_core(engines, RuntimeError("the kernel crashed")):
        return generate(engines)


def interrupted(engines: Engines) -> Any:
    """The user presses Ctrl-C."""
    with _failing_core(engines, Interrupt()):
        return generate(engines)


@contextmanager
def _failing_core(engines: Engines, error: BaseException) -> Iterator[None]:
    engine = engines.llm.llm_engine
    try:
        with mock.patch.object(engine.engine_core, "get_output", side_effect=error):
            yield
    finally:
        engine.abort_request(list(engine.output_processor.request_states), internal=True)


def suppressed(engines: Engines) -> Any:
    from opentelemetry.instrumentation.utils import suppress_instrumentation

    with suppress_instrumentation():
        return generate(engines)


# --- the asynchronous engine ------------------------------------------------------------------------------------------


def _stream(engines: Engines, params: Any, prompt: Any = PROMPTS[0]) -> AsyncIterator[Any]:
    stream: AsyncIterator[Any] = engines.engine.generate(prompt, params, "mine")
    return stream


def _delta(**options: Any) -> Any:
    from vllm.sampling_params import RequestOutputKind

    return greedy(output_kind=RequestOutputKind.DELTA, **options)


def _final_only(params: Any) -> Any:
    from vllm.sampling_params import RequestOutputKind

    params.output_kind = RequestOutputKind.FINAL_ONLY
    return params


def collected(engines: Engines) -> Any:
    """Two requests at once, of which only the whole answers are wanted."""

    async def collect(params: Any, prompt: str) -> Any:
        return [answer(output) async for output in _stream(engines, _final_only(params), prompt)]

    async def both() -> Any:
        return await asyncio.gather(collect(greedy(), PROMPTS[0]), collect(sampled(), PROMPTS[1]))

    return engines.run(both())


def streamed(engines: Engines) -> Any:
    """Tokens as they come. How many come at a time is vLLM's affair, so they are joined."""

    async def join() -> Any:
        tokens, text, reason = [], "", None
        async for output in _stream(engines, _delta()):
            (part,) = output.outputs
            tokens += part.token_ids
            text += part.text
            reason = part.finish_reason
        return tokens, text, reason

    return engines.run(join())


def closed(engines: Engines) -> Any:
    """The consumer has seen enough after the first tokens and closes the stream."""

    async def close() -> Any:
        stream = _stream(engines, _delta(max_tokens=LONG))
        first = await anext(stream)
        await stream.aclose()  # type: ignore[attr-defined]
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
        task = asyncio.create_task(anext(_stream(engines, greedy())))  # type: ignore[arg-type]
        await asyncio.sleep(0)
        task.cancel()
        return await task

    return engines.run(cancel())


def rejected_stream(engines: Engines) -> Any:
    async def read() -> Any:
        return [answer(output) async for output in _stream(engines, greedy(), TOO_LONG)]

    return engines.run(read())


def aborted_stream(engines: Engines) -> Any:
    """Somebody else aborts the request by its id."""

    async def abort() -> Any:
        stream = _stream(engines, _delta(max_tokens=LONG))
        first = await anext(stream)
        await engines.engine.abort("mine")
        reasons = [output.outputs[0].finish_reason async for output in stream]
        return first.outputs[0].token_ids[0], reasons[-1]

    return engines.run(abort())


def failing_engine(engines: Engines) -> Any:
    """The engine dies while a stream is read."""

    async def read() -> Any:
        processor = engines.engine.output_processor
        stream = _stream(engines, _delta(max_tokens=LONG))
        await anext(stream)
        processor.propagate_error(RuntimeError("the engine died"))
        return [answer(output) async for output in stream]

    return engines.run(read())


def streamed_input(engines: Engines) -> Any:
    """The prompt comes in parts, and answers between them."""
    from vllm.engine.protocol import StreamingInput

    async def parts() -> AsyncIterator[Any]:
        for prompt in PROMPTS:
            yield StreamingInput(prompt=prompt)

    async def read() -> Any:
        outputs = [output async for output in _stream(engines, _delta(), parts())]
        return [token for output in outputs for token in output.outputs[0].token_ids]

    return engines.run(read())


def empty_input(engines: Engines) -> Any:
    """The prompt is a stream that ends without a part; other requests follow."""

    async def nothing() -> AsyncIterator[Any]:
        for never in ():
            yield never

    async def read() -> Any:
        return [answer(output) async for output in _stream(engines, _delta(), nothing())]

    return engines.run(read()), streamed(engines)


async def _until(true: Callable[[], bool]) -> None:
    while not true():
        await asyncio.sleep(0)


OFFLINE = (
    generate,
    chat,
    beam_search,
    rejected_beam_search,
    enqueue,
    rejected_batch,
    rejected_request,
    aborted_by_hand,
    failing_step,
    interrupted,
    suppressed,
)
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
)
