"""The acceptance on a real engine, in the environment of one version of vLLM; standard library and our package only.

python engine_run.py offline|asynchronous|pooling MODEL RESULT
"""

from __future__ import annotations

import asyncio
import json
import sys
import traceback
from collections.abc import Callable
from typing import Any

import traceai_vllm
from traceai_vllm import guard
from traceai_vllm.engine import patches
from traceai_vllm.testing import capture

ENGINE: dict[str, Any] = {"enforce_eager": True, "max_model_len": 512, "max_num_seqs": 8}
TAGS = {"route": "support", "prompt_version": "v3", "traffic_cohort": "live", "agent_step": "plan"}
TOO_LONG = {"prompt_token_ids": [5] * 1000}

Checks = dict[str, Callable[[], None]]


def main() -> None:
    """Run one part and write what came of it."""
    part, model, result = sys.argv[1:]
    results: dict[str, str | None] = {}
    for name, check in PARTS[part](model).items():
        guard._errors.clear()
        try:
            check()
            results[name] = f"the guard swallowed {guard.internal_errors()}" if guard.internal_errors() else None
        except BaseException:
            results[name] = traceback.format_exc()[-1500:]
        print(name, results[name] or "ok", flush=True)
    with open(result, "w") as file:
        json.dump(results, file)


def expect(found: dict[str, Any], **facts: Any) -> None:
    """Compare attributes of a span; names are the last parts of the attributes'."""
    for name, value in facts.items():
        seen = next((found[key] for key in KEYS[name] if key in found), None)
        assert seen == value, f"{name} is {seen!r}, not {value!r}: {found}"


KEYS = {
    "operation": ("gen_ai.operation.name",),
    "input": ("gen_ai.usage.input_tokens",),
    "output": ("gen_ai.usage.output_tokens",),
    "finish": ("gen_ai.response.finish_reasons",),
    "error": ("error.type",),
    "stream": ("gen_ai.request.stream",),
    "choices": ("gen_ai.request.choice.count",),
    "beams": ("traceai.beam.width",),
}
IDENTITY = {"gen_ai.request.model": "one-layer", "model_variant": "one-layer", "quantization_format": "bf16"}


def attributes(captured: Any, count: int = 1) -> list[dict[str, Any]]:
    """Return the attributes of the requests' spans, of which there must be so many, each of this model."""
    found = [dict(span.attributes) for span in captured.requests]
    assert len(found) == count, f"{len(found)} spans, not {count}: {found}"
    for one in found:
        assert {key: one.get(key) for key in IDENTITY} == IDENTITY, one
        assert one["gen_ai.latency.e2e"] > 0
    return found


def params(**options: Any) -> Any:
    """Return sampling parameters for six tokens."""
    from vllm import SamplingParams

    return SamplingParams(**{"max_tokens": 6, "temperature": 0.0, "ignore_eos": True, **options})


# --- offline --------------------------------------------------------------------------------------------------------


def offline(model: str) -> Checks:  # noqa: PLR0915 - a list of checks
    """Load the engine with us in place, and return the checks on it."""
    with capture():  # before vLLM is imported
        from vllm import LLM

        llm: Any = LLM(model, **ENGINE)
    assert not any(patches.matched().values()), patches.matched()

    def generate() -> None:
        bare = llm.generate(["hello", "good morning"], params(), use_tqdm=False)
        with capture() as captured:
            outputs = llm.generate(["hello", "good morning"], params(), use_tqdm=False)
        assert [o.outputs[0].token_ids for o in outputs] == [o.outputs[0].token_ids for o in bare]
        for found, output in zip(attributes(captured, 2), outputs, strict=True):
            expect(found, output=6, input=len(output.prompt_token_ids), finish=("length",), error=None)
            assert found["gen_ai.latency.time_to_first_token"] > 0

    def chat() -> None:
        with capture() as captured, traceai_vllm.tags(**TAGS):
            llm.chat([{"role": "user", "content": "Capital of France?"}], params(), use_tqdm=False)
        (found,) = attributes(captured)
        expect(found, operation="chat", output=6)
        assert {name: found[name] for name in TAGS} == TAGS
        (batch,) = [span for span in captured.spans if span.name.startswith("LLM.chat")]
        (request,) = captured.requests
        assert request.parent.span_id == batch.context.span_id

    def three_answers() -> None:
        with capture() as captured:
            llm.generate("hello", params(n=3, temperature=1.0), use_tqdm=False)
        expect(attributes(captured)[0], choices=3, output=18, finish=("length",) * 3)

    def stop_string() -> None:
        (free,) = llm.generate("hello", params(), use_tqdm=False)
        with capture() as captured:
            (output,) = llm.generate("hello", params(stop=[free.outputs[0].text[-3:]]), use_tqdm=False)
        expect(attributes(captured)[0], finish=("stop",), output=len(output.outputs[0].token_ids))

    def beam_search() -> None:
        from vllm.sampling_params import BeamSearchParams

        with capture() as captured:
            llm.beam_search([{"prompt": "hello"}], BeamSearchParams(beam_width=2, max_tokens=3, ignore_eos=True))
        expect(attributes(captured)[0], beams=2, output=6)

    def refusal() -> None:
        with capture() as captured:
            try:
                llm.generate(TOO_LONG, params(), use_tqdm=False)
            except Exception as error:  # vLLM has had several classes for it
                raised = type(error).__name__
            else:
                raise AssertionError("the prompt was accepted")
        assert {span.attributes.get("error.type") for span in captured.spans} == {raised}

    def uninstrument() -> None:
        from vllm.v1.engine.output_processor import OutputProcessor

        functions = {name: vars(OutputProcessor).get(name) for name in dir(OutputProcessor)}
        calls = {name: getattr(type(llm), name, None) for name in ("generate", "chat", "encode", "beam_search")}
        with capture() as captured:
            assert vars(OutputProcessor)["add_request"] is not functions["add_request"]
        llm.generate("hello", params(), use_tqdm=False)
        assert functions == {name: vars(OutputProcessor).get(name) for name in dir(OutputProcessor)}
        assert calls == {name: getattr(type(llm), name, None) for name in calls}
        assert captured.requests == []

    return {
        "generate": generate,
        "chat with tags": chat,
        "n=3": three_answers,
        "stop string": stop_string,
        "beam search": beam_search,
        "refusal": refusal,
        "uninstrument": uninstrument,
    }


# --- asynchronous ---------------------------------------------------------------------------------------------------


def asynchronous(model: str) -> Checks:
    """Load an ``AsyncLLM``, and return the checks on it."""
    loop = asyncio.new_event_loop()

    async def start() -> Any:
        from vllm import AsyncEngineArgs
        from vllm.v1.engine.async_llm import AsyncLLM

        return AsyncLLM.from_engine_args(AsyncEngineArgs(model=model, **ENGINE))

    engine = loop.run_until_complete(start())

    def check(body: Any, count: int, **facts: Any) -> Callable[[], None]:
        def run() -> None:
            with capture() as captured:
                loop.run_until_complete(asyncio.wait_for(body(), timeout=120))
            for found in attributes(captured, count):
                expect(found, **facts)

        return run

    def delta(**options: Any) -> Any:
        from vllm.sampling_params import RequestOutputKind

        return params(output_kind=RequestOutputKind.DELTA, **options)

    async def collect(generator: Any) -> int:
        return len([output async for output in generator])

    async def streams() -> None:
        await asyncio.gather(*(collect(engine.generate("hello", delta(), f"s{i}")) for i in range(8)))

    async def leave() -> None:
        generator = engine.generate("hello", delta(max_tokens=400), "leaves")
        async for _ in generator:
            break
        await generator.aclose()

    async def abort() -> None:
        seen = 0
        async for _ in engine.generate("hello", delta(max_tokens=400), "aborted"):
            seen += 1
            if seen == 1:
                await engine.abort("aborted")
            elif seen > 300:
                raise AssertionError("it was not aborted")

    async def refusal() -> str:
        try:
            await collect(engine.generate(TOO_LONG, delta(), "refused"))
        except Exception as error:
            return type(error).__name__
        raise AssertionError("the prompt was accepted")

    def refused() -> None:
        with capture() as captured:
            raised = loop.run_until_complete(refusal())
        (found,) = attributes(captured)
        assert found["error.type"] == raised, found

    def end() -> None:
        engine.shutdown()
        loop.run_until_complete(asyncio.sleep(0))

    return {
        "8 streams": check(streams, 8, output=6, finish=("length",), stream=True, error=None),
        "client leaves": check(leave, 1, error="cancelled", finish=("abort",), stream=True),
        "abort": check(abort, 1, error="cancelled", finish=("abort",)),
        "asynchronous refusal": refused,
        "shutdown": end,
    }


def pooling(model: str) -> Checks:
    """Load the model for embeddings, and return the check on it."""
    from vllm import LLM

    llm: Any = LLM(model, runner="pooling", convert="embed", **ENGINE)

    def embed() -> None:
        with capture() as captured:
            (output,) = llm.embed("hello", use_tqdm=False)
        expect(attributes(captured)[0], operation="embeddings", input=len(output.prompt_token_ids), error=None)

    return {"embedding": embed}


PARTS: dict[str, Callable[[str], Checks]] = {"offline": offline, "asynchronous": asynchronous, "pooling": pooling}

if __name__ == "__main__":  # vLLM starts processes by importing this file anew
    main()
