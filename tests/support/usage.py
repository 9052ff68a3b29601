"""What a user has and sees of vLLM: real engines, and outcomes of their calls that can be compared."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from opentelemetry import context
from opentelemetry.sdk.trace import TracerProvider

PROMPTS = ["hello", "good morning to you"]
TOO_LONG = {"prompt_token_ids": [5] * 2000}
LONG = 900  # tokens: more than are generated until a client is gone
DEADLINE_S = 20


@dataclass
class Engines:
    """Real engines.

    Attributes:
        llm: an offline ``LLM``, its engine core in this process.
        engine: an ``AsyncLLM``.
        loop: runs a coroutine on the loop of the asynchronous engine.
        tracer_provider: where the user's own spans go.
    """

    llm: Any
    engine: Any
    loop: Callable[[Coroutine[Any, Any, Any]], Any]
    tracer_provider: TracerProvider

    @property
    def processors(self) -> list[Any]:
        """vLLM's objects that know the requests in flight."""
        return [self.llm.llm_engine.output_processor, self.engine.output_processor]

    def run(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        """Run a coroutine; that it hangs would be an error which the user had not without us."""
        return self.loop(asyncio.wait_for(coroutine, DEADLINE_S))

    def stop(self) -> int:
        """Abort what is still running, and return how many requests that were."""
        offline, asynchronous = ([*processor.request_states] for processor in self.processors)
        if offline:
            self.llm.llm_engine.abort_request(offline, internal=True)
        if asynchronous:
            self.run(self.engine.abort(asynchronous, internal=True))
        return len(offline) + len(asynchronous)


Use = Callable[[Engines], Any]


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


class Interrupt(KeyboardInterrupt):
    """The Ctrl-C of the user that is played here; one at the terminal still ends the tests."""


def outcome_of(use: Use, engines: Engines) -> Outcome:
    """Use vLLM, and return what came of it."""
    value, error = None, None
    before = context.get_current()
    try:
        value = use(engines)
    except (Exception, asyncio.CancelledError, Interrupt) as raised:
        error = _described(raised)
    after = context.get_current()
    if after is not before:
        context.attach(before)  # for whatever is tried next
    return Outcome(value, error, engines.stop(), None if after is before else after)


def _described(error: BaseException | None) -> Any:
    if error is None:
        return None
    try:
        text = str(error)
    except Exception:
        text = "(cannot be printed)"
    return type(error), text, _described(error.__cause__), _described(error.__context__)


def greedy(**options: Any) -> Any:
    """Return parameters of a short answer that is always the same."""
    from vllm import SamplingParams

    return SamplingParams(**{"max_tokens": 2, "temperature": 0.0, "ignore_eos": True, **options})


def sampled(**options: Any) -> Any:
    """Return parameters of two answers that are drawn, with a seed."""
    return greedy(n=2, temperature=1.0, seed=1, **options)


def answer(output: Any) -> Any:
    """Return all of a ``RequestOutput`` that is the same each time."""
    answers = [(o.index, tuple(o.token_ids), o.text, o.finish_reason, o.stop_reason) for o in output.outputs]
    return type(output), output.finished, tuple(output.prompt_token_ids or ()), tuple(answers)
