"""Ways to use the offline ``LLM`` and its engine."""

from __future__ import annotations

import inspect
import io
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any
from unittest import mock

from opentelemetry import trace

import traceai_vllm
from tests.support.usage import LONG, PROMPTS, TOO_LONG, Engines, Interrupt, answer, greedy, sampled
from traceai_vllm.engine import funnel, patches


def progress(*args: Any, **kwargs: Any) -> Any:
    """Code of the user's that runs inside a call, and asks OpenTelemetry where it is."""
    from tqdm import tqdm

    assert isinstance(trace.get_current_span(), trace.Span)
    return tqdm(*args, file=io.StringIO(), **kwargs)


def generate(engines: Engines) -> Any:
    """One greedy request and one of two samples."""
    outputs = engines.llm.generate(PROMPTS, [greedy(), sampled()], use_tqdm=progress)
    return [answer(output) for output in outputs]


def one_token(engines: Engines) -> Any:
    """The smallest request."""
    return [answer(output) for output in engines.llm.generate(PROMPTS[0], greedy(max_tokens=1), use_tqdm=progress)]


def chat(engines: Engines) -> Any:
    """A conversation."""
    conversation = [{"role": "user", "content": "Capital of France?"}]
    return [answer(output) for output in engines.llm.chat(conversation, greedy(max_tokens=1), use_tqdm=progress)]


def beam_search(engines: Engines) -> Any:
    """Beams for two prompts."""
    from vllm.sampling_params import BeamSearchParams

    prompts = [{"prompt": prompt} for prompt in PROMPTS]
    outputs = engines.llm.beam_search(prompts, BeamSearchParams(beam_width=2, max_tokens=1, ignore_eos=True))
    return [[(tuple(s.tokens), s.text, s.cum_logprob) for s in output.sequences] for output in outputs]


def rejected_beam_search(engines: Engines) -> Any:
    """Beams for a prompt longer than the model's context."""
    from vllm.sampling_params import BeamSearchParams

    return engines.llm.beam_search([TOO_LONG], BeamSearchParams(beam_width=2, max_tokens=3))


def enqueued(engines: Engines) -> Any:
    """Requests first, answers later."""
    engines.llm.enqueue(PROMPTS, greedy(max_tokens=1), use_tqdm=progress)
    return [answer(output) for output in engines.llm.wait_for_completion(use_tqdm=progress)]


def rejected_batch(engines: Engines) -> Any:
    """A prompt longer than the model's context: vLLM refuses it before it is a request."""
    return engines.llm.generate(TOO_LONG, greedy(), use_tqdm=progress)


def rejected_request(engines: Engines) -> Any:
    """Parameters that the engine itself refuses."""
    return engines.llm.llm_engine.add_request("mine", "hello", greedy(logit_bias={10**9: 1.0}))


def aborted_by_hand(engines: Engines) -> Any:
    """A request of the engine's own interface, aborted after its first token."""
    engine = engines.llm.llm_engine
    request_id = engine.add_request("mine", "hello", greedy(max_tokens=LONG))
    outputs = engine.step()
    engine.abort_request([request_id], internal=True)
    while engine.has_unfinished_requests():
        outputs += engine.step()
    return [answer(output) for output in outputs]


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
    """Under OpenTelemetry's own off-switch."""
    from opentelemetry.instrumentation.utils import suppress_instrumentation

    with suppress_instrumentation():
        return one_token(engines)


def inside_own_span(engines: Engines) -> Any:
    """Under a span of the user's, which passes the same processors as ours."""
    with engines.tracer_provider.get_tracer("mine").start_as_current_span("mine"):
        return one_token(engines)


def ended_unseen(engines: Engines) -> Any:
    """A request ends on a path that only vLLM 0.33 has, without its usual word."""
    processor = engines.llm.llm_engine.output_processor
    owner = type(processor)
    own = inspect.unwrap(vars(owner)["_update_stats_from_finished"])
    with (
        mock.patch.object(owner, "process_outputs", funnel.process_outputs(owner.process_outputs)),
        mock.patch.object(processor, "_update_stats_from_finished", own.__get__(processor)),
    ):
        return one_token(engines)


def imported(engines: Engines) -> Any:
    """vLLM is imported only now, and patched by its import."""
    with suppress(Exception):
        patches.uninstall()
    for name in dict.fromkeys(patch.module for patch in patches.PATCHES):
        patches._on_import(sys.modules[name])
    return one_token(engines)


def switched_off_meanwhile(engines: Engines) -> Any:
    """Uninstrumented while requests are in flight."""
    engines.llm.enqueue(PROMPTS, greedy(max_tokens=1), use_tqdm=progress)
    with suppress(Exception):
        traceai_vllm.uninstrument()
    return [answer(output) for output in engines.llm.wait_for_completion(use_tqdm=progress)]


OFFLINE = (
    generate,
    chat,
    beam_search,
    rejected_beam_search,
    enqueued,
    rejected_batch,
    rejected_request,
    aborted_by_hand,
    failing_step,
    interrupted,
    suppressed,
    inside_own_span,
    ended_unseen,
    imported,
    switched_off_meanwhile,
)
