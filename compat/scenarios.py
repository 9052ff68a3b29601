"""What is done with each version, and the spans that must come of it: one function for each way that a request goes.

A scenario uses vLLM as its own callers do and returns what the user gets. It runs once without us and once with: both
must give the same, and the spans must say what the scenario expects.
"""

from __future__ import annotations

import asyncio
import gc
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from compat.stubs import Stub
from compat.world import PROMPT, Core, InputProcessor, World, config, output, request, request_error

if TYPE_CHECKING:
    from collections.abc import Callable

    from compat.world import Classes

    Expected = list[dict[str, Any]]


# A fact that scenarios expect, and the attribute that has it.
FACTS = {
    "operation": "gen_ai.operation.name",
    "input": "gen_ai.usage.input_tokens",
    "output": "gen_ai.usage.output_tokens",
    "finish": "gen_ai.response.finish_reasons",
    "error": "error.type",
    "stream": "gen_ai.request.stream",
    "choices": "gen_ai.request.choice.count",
}


@dataclass(frozen=True)
class Scenario:
    """One way that requests go.

    Attributes:
        name: in the report.
        run: does it, and returns what the user gets.
        expected: what the spans of its requests say, in the order in which they end.
        applies: whether a version has it.
        batch: `LLM`'s entry point that the requests are a batch of.
        warning: what the user must be told, once.
        optional: in some versions `LLM` ends it before its engine is asked; then there is a batch and no request.
    """

    name: str
    run: Callable[[World], Any]
    expected: Expected
    applies: Callable[[Classes], bool] = lambda classes: True
    batch: str | None = None
    warning: str | None = None
    optional: bool = False


def span(operation: Any = "text_completion", **facts: Any) -> dict[str, Any]:
    """Return what a request's span is expected to say; what is not given is expected to be missing."""
    default: dict[str, Any] = {
        "operation": operation,
        "input": len(PROMPT),
        "output": 4,
        "finish": ("length",),
        "error": None,
        "stream": None,
        "choices": None,
    }
    return {**default, **facts}


# --- the output processor by itself ---------------------------------------------------------------------------------


def params(world: World, **options: Any) -> Any:
    """Return sampling parameters for four tokens."""
    return world.classes.SamplingParams(**{"max_tokens": 4, "temperature": 0.5, **options})


def embedding(world: World) -> Any:
    """Return pooling parameters that say, where they can (0.10), that they are for an embedding."""
    kind = world.classes.PoolingParams
    return kind(task="embed") if "task" in kind.__struct_fields__ else kind()


def add(world: World, processor: Any, name: str, chosen: Any, queue: Any = None, **more: Any) -> Any:
    """Give a request to an output processor, as an engine does."""
    made = request(world.classes, name, chosen, **more)
    if "external_req_id" in type(made).__struct_fields__:
        made.external_req_id = name.partition("-")[0]
    processor.add_request(made, None, None, 0, queue)
    return made


def feed(world: World, processor: Any, *outputs: Any) -> list[Any]:
    """Give a step's outputs to an output processor, and return what it made of them."""
    stats = world.classes.IterationStats() if world.log_stats else None
    made = processor.process_outputs(list(outputs), 1000.0, stats)
    return [answer(item) for item in made.request_outputs] + sorted(made.reqs_to_abort)


def answer(made: Any) -> Any:
    """Return the part of a ``RequestOutput`` that a user reads."""
    if isinstance(made, Exception):
        return type(made).__name__
    if not isinstance(made.outputs, list):
        return ("pooled", made.request_id, made.finished)
    answers = [(list(item.token_ids), item.text, item.finish_reason) for item in made.outputs]
    return (made.request_id, answers, made.finished)


def by_reason(reason: str) -> Callable[[World], Any]:
    """Build a scenario that ends with this reason of the engine's."""

    def run(world: World) -> Any:
        processor = world.processor()
        add(world, processor, "r-1", params(world))
        seen = feed(world, processor, output(world.classes, "r-1", [7]))
        return seen + feed(world, processor, output(world.classes, "r-1", [8, 9, 10], reason))

    return run


def stop_string_at_the_limit(world: World) -> Any:
    """A stop string matches in the very step that reaches the length limit: the user is told `stop`."""
    processor = world.processor()
    add(world, processor, "r-1", params(world, stop=["<9>"]))
    seen = feed(world, processor, output(world.classes, "r-1", [7, 8]))
    return seen + feed(world, processor, output(world.classes, "r-1", [9], "LENGTH"))


def two_answers(world: World) -> Any:
    """`n=2`: one request, two of the engine's."""
    processor, chosen = world.processor(), params(world, n=2)
    whole = request(world.classes, "r-1", chosen)
    if world.classes.renames_requests:
        whole.external_req_id = "r"
        parent = world.classes.ParentRequest(whole)
    else:
        parent = world.classes.ParentRequest("r-1", chosen)
    children = []
    for index in range(2):
        name, child_params = parent.get_child_info(index)
        child = request(world.classes, name, child_params)
        if world.classes.renames_requests:
            child.external_req_id = "r"
        processor.add_request(child, None, parent, index, None)
        children.append(name)
    seen = feed(world, processor, *(output(world.classes, name, [7, 8, 9]) for name in children))
    seen += feed(world, processor, output(world.classes, children[0], [10], "LENGTH"))
    return seen + feed(world, processor, output(world.classes, children[1], [10, 11], "STOP"))


def abort(world: World, processor: Any, names: list[str]) -> list[str]:
    """Abort internal ids, whatever the signature."""
    if world.classes.renames_requests:
        return list(processor.abort_requests(names, internal=True))
    return list(processor.abort_requests(names))


def aborted(world: World) -> Any:
    """A request is aborted after two tokens; a second abort finds nothing."""
    processor = world.processor()
    add(world, processor, "r-1", params(world))
    feed(world, processor, output(world.classes, "r-1", [7, 8]))
    return abort(world, processor, ["r-1"]) + abort(world, processor, ["r-1"])


def collector(world: World, name: str) -> Any:
    """Return the queue that `AsyncLLM` hands in for a request."""
    kind = world.classes.RequestOutputKind.DELTA
    names = world.classes.RequestOutputCollector.__init__.__code__.co_varnames
    return (
        world.classes.RequestOutputCollector(kind, name)
        if "request_id" in names
        else world.classes.RequestOutputCollector(kind)
    )


def engine_error(world: World) -> Any:
    """The engine fails with two requests open; each is aborted afterwards by its own caller."""
    processor = world.processor()
    names = ["a-1", "b-1"]
    for name in names:
        add(world, processor, name, params(world), collector(world, name))
    processor.propagate_error(RuntimeError("engine is lost"))
    abort(world, processor, names)
    return sorted(processor.request_states)


def pooling(world: World) -> Any:
    """An embedding."""
    processor = world.processor()
    add(world, processor, "r-1", embedding(world))
    return feed(world, processor, output(world.classes, "r-1", [], "STOP", pooling_output=_Vector()))


class _Vector:
    """A tensor, as far as the frontend looks at it."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Vector)

    def __hash__(self) -> int:
        return 0


def rejected_by_the_core(world: World) -> Any:
    """The engine core rejects one request of two (0.33)."""
    processor = world.processor()
    queue = collector(world, "a-1")
    add(world, processor, "a-1", params(world), queue)
    add(world, processor, "b-1", params(world))
    feed(world, processor, output(world.classes, "a-1", [], "ERROR", error=request_error(world.classes)))
    return feed(world, processor, output(world.classes, "b-1", [7, 8, 9, 10], "LENGTH"))


def more_input(world: World) -> Any:
    """A request is given more input twice, as a streamed-input session does, and ended by an empty one (0.15)."""
    processor = world.processor()
    queue = collector(world, "r-1")
    add(world, processor, "r-1", params(world), queue, resumable=True)
    feed(world, processor, output(world.classes, "r-1", [7, 8], "LENGTH"))
    add(world, processor, "r-1", params(world), queue, resumable=True)
    feed(world, processor, output(world.classes, "r-1", [9, 10], "LENGTH"))
    add(world, processor, "r-1", params(world), queue, resumable=False)
    return sorted(processor.request_states)


# --- LLMEngine and LLM ----------------------------------------------------------------------------------------------


def tokens(first: int = PROMPT[0]) -> dict[str, Any]:
    """Return a prompt; its first token says what the core does with it."""
    return {"type": "token", "prompt_token_ids": [first, *PROMPT[1:]]}


def drain(engine: Any) -> list[Any]:
    """Step an engine until nothing is left to do."""
    seen = []
    while engine.has_unfinished_requests():
        seen += [answer(made) for made in engine.step() if made.finished]
    return seen


def engine_runs(world: World) -> Any:
    """Three requests in one engine: one reaches the limit, one stops, one has two answers."""
    engine = world.sync_engine()
    final = world.classes.RequestOutputKind.FINAL_ONLY
    engine.add_request("1", tokens(), params(world, output_kind=final))
    engine.add_request("2", tokens(Core.STOPS), params(world, output_kind=final))
    engine.add_request("3", tokens(), params(world, n=2, max_tokens=6, output_kind=final))
    return drain(engine)


def engine_stop_string(world: World) -> Any:
    """A stop string: the output processor finds it and the engine aborts the request in its core."""
    engine = world.sync_engine()
    engine.add_request("1", tokens(), params(world, max_tokens=9, stop=["<22>"]))
    return drain(engine)


def engine_refuses(world: World) -> Any:
    """A prompt that is too long is refused before the engine sees it."""
    engine = world.sync_engine()
    try:
        engine.add_request("1", {"prompt_token_ids": [1] * InputProcessor.TOO_LONG}, params(world))
    except ValueError as error:
        return str(error)
    return "accepted"


def engine_aborts(world: World) -> Any:
    """`abort_request` by the caller's id, in the middle."""
    engine = world.sync_engine()
    engine.add_request("1", tokens(Core.ENDLESS), params(world, max_tokens=50))
    engine.step()
    engine.step()
    engine.abort_request(["1"])
    return engine.has_unfinished_requests()


def engine_dies(world: World) -> Any:
    """A step raises: the user gets the error, and the open requests end with it."""
    engine = world.sync_engine()
    engine.add_request("1", tokens(Core.DIES), params(world, max_tokens=50))
    try:
        return drain(engine)
    except Exception as error:
        return type(error).__name__


def engine_embeds(world: World) -> Any:
    """A pooling request through the engine (0.9.2)."""
    engine = world.sync_engine()
    engine.add_request("1", tokens(), embedding(world))
    return drain(engine)


def llm_generates(world: World) -> Any:
    """`LLM.generate` with two prompts."""
    made = world.llm().generate([tokens(), tokens(Core.STOPS)], params(world), use_tqdm=False)
    return [answer(item) for item in made]


def llm_chats(world: World) -> Any:
    """`LLM.chat` with one conversation."""
    made = world.llm().chat([{"role": "user", "content": "hello"}], params(world), use_tqdm=False)
    return [answer(item) for item in made]


def llm_refuses(world: World) -> Any:
    """`LLM.generate` with a prompt that is too long."""
    try:
        world.llm().generate([{"prompt_token_ids": [1] * InputProcessor.TOO_LONG}], params(world), use_tqdm=False)
    except ValueError as error:
        return str(error)
    return "accepted"


def first_engine(world: World) -> Any:
    """Versions before 0.11 can still run V0: nothing of it is traced, and the user is told."""
    try:
        world.classes.FirstEngine(config(), Stub("executor"), False)
    except Exception as error:  # it needs far more than is there
        return type(error).__name__
    return "started"


# --- AsyncLLM -------------------------------------------------------------------------------------------------------


def on_loop(body: Callable[[World, Any], Any]) -> Callable[[World], Any]:
    """Run a scenario on an `AsyncLLM`, and end its background task."""

    def run(world: World) -> Any:
        async def main() -> Any:
            engine = world.async_engine()
            try:
                return await asyncio.wait_for(body(world, engine), timeout=20)
            finally:
                handler = engine.__dict__.get("output_handler")
                if handler is not None:
                    handler.cancel()
                    await asyncio.gather(handler, return_exceptions=True)

        return asyncio.run(main())

    return run


def delta(world: World, **options: Any) -> Any:
    """Return parameters of a streamed request."""
    return params(world, output_kind=world.classes.RequestOutputKind.DELTA, **options)


async def collect(generator: Any) -> Any:
    """Return all that a generator gives, or the error that it ends with."""
    seen = []
    try:
        async for made in generator:
            seen.append(answer(made))
    except Exception as error:
        seen.append(type(error).__name__)
    # How tokens are grouped into outputs depends on timing; what they are does not.
    return _joined(seen)


def _joined(seen: list[Any]) -> Any:
    streams: dict[int, list[int]] = {}
    ends: list[Any] = []
    for item in seen:
        if isinstance(item, str) or item[0] == "pooled":
            ends.append(item)
            continue
        for index, (ids, _, reason) in enumerate(item[1]):
            streams.setdefault(index, []).extend(ids)
            ends += [reason] if reason else []
    return [sorted(streams.values()), ends]


async def _streams(world: World, engine: Any) -> Any:
    return await asyncio.gather(
        collect(engine.generate(tokens(), delta(world), "1")),
        collect(engine.generate(tokens(), delta(world), "1" if world.classes.renames_requests else "2")),
    )


async def _final(world: World, engine: Any) -> Any:
    final = world.classes.RequestOutputKind.FINAL_ONLY
    return await collect(engine.generate(tokens(Core.STOPS), params(world, output_kind=final), "1"))


async def _several(world: World, engine: Any) -> Any:
    final = world.classes.RequestOutputKind.FINAL_ONLY
    return await collect(engine.generate(tokens(), params(world, n=2, output_kind=final), "1"))


async def _client_leaves(world: World, engine: Any) -> Any:
    task = asyncio.ensure_future(collect(engine.generate(tokens(Core.ENDLESS), delta(world, max_tokens=9000), "1")))
    while not engine.output_processor.request_states:
        await asyncio.sleep(0)
    for _ in range(20):
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])
    return task.cancelled()


async def _aborts(world: World, engine: Any) -> Any:
    generator = engine.generate(tokens(Core.ENDLESS), delta(world, max_tokens=9000), "1")
    await generator.__anext__()
    await engine.abort("1")
    open_now = list(engine.output_processor.request_states)
    await generator.aclose()
    return open_now


async def _refuses(world: World, engine: Any) -> Any:
    long = {"prompt_token_ids": [1] * InputProcessor.TOO_LONG}
    return await collect(engine.generate(long, delta(world), "1"))


async def _dies(world: World, engine: Any) -> Any:
    return await asyncio.gather(
        collect(engine.generate(tokens(Core.ENDLESS), delta(world, max_tokens=9000), "1")),
        collect(engine.generate(tokens(Core.DIES), delta(world, max_tokens=9000), "2")),
    )


async def _rejected(world: World, engine: Any) -> Any:
    return await collect(engine.generate(tokens(Core.REJECTED), delta(world), "1"))


async def _embeds(world: World, engine: Any) -> Any:
    return await collect(engine.encode(tokens(), embedding(world), "1"))


async def _in_turn(world: World, engine: Any) -> Any:
    # The second one is admitted when the engine's load is known from the first.
    first = await collect(engine.generate(tokens(), delta(world), "1"))
    return first, await collect(engine.generate(tokens(), delta(world), "2"))


async def _abandoned(world: World, engine: Any) -> Any:
    # Called and never consumed: no request was made, and nothing may be kept of the call.
    engine.generate(tokens(), delta(world), "1")
    gc.collect()
    return await collect(engine.generate(tokens(), delta(world), "2"))


# Before 0.10 nothing says what a pooling request is for.
EMBEDDING = frozenset({"embeddings", "encode"})

# --- the list -------------------------------------------------------------------------------------------------------

_ENGINE_ERROR = {"error": "EngineDeadError", "finish": None}
_REFUSED = {"error": "ValueError", "finish": None, "input": None, "output": None}
_CANCELLED = {"error": "cancelled", "finish": ("abort",), "output": any}
# A rejection has no tokens; the answer's class (GenerationError, ...) is what the caller gets.
_REJECTED = {"error": "GenerationError", "finish": any, "output": any, "input": any}


def _pools(classes: Classes) -> bool:
    return classes.pools


def _rejects(classes: Classes) -> bool:
    return classes.rejects


def _has_reason(reason: str) -> Callable[[Classes], bool]:
    return lambda classes: reason in classes.FinishReason.__members__


SCENARIOS: tuple[Scenario, ...] = (
    Scenario("OutputProcessor: length", by_reason("LENGTH"), [span()]),
    Scenario("OutputProcessor: stop", by_reason("STOP"), [span(finish=("stop",))]),
    Scenario(
        "OutputProcessor: aborted by the engine", by_reason("ABORT"), [span(finish=("abort",), error="cancelled")]
    ),
    Scenario(
        "OutputProcessor: failed in the engine",
        by_reason("ERROR"),
        [span(finish=("error",), error="engine_error")],
        _has_reason("ERROR"),
    ),
    Scenario(
        "OutputProcessor: repetition",
        by_reason("REPETITION"),
        [span(finish=("repetition",))],
        _has_reason("REPETITION"),
    ),
    Scenario("OutputProcessor: stop string at the limit", stop_string_at_the_limit, [span(finish=("stop",), output=3)]),
    Scenario("OutputProcessor: n=2", two_answers, [span(finish=("length", "stop"), output=9, choices=2)]),
    Scenario("OutputProcessor: abort", aborted, [span(**{**_CANCELLED, "output": 2})]),
    Scenario("OutputProcessor: propagate_error", engine_error, [span(output=0, finish=None, error="RuntimeError")] * 2),
    Scenario("OutputProcessor: pooling", pooling, [span(EMBEDDING, output=None, finish=("stop",))], _pools),
    Scenario("OutputProcessor: rejection", rejected_by_the_core, [span(**_REJECTED), span()], _rejects),
    Scenario(
        "OutputProcessor: more input", more_input, [span(finish=any, output=any, input=any)], lambda c: c.streams_input
    ),
    Scenario(
        "LLMEngine: length, stop, n=2",
        engine_runs,
        [span(finish=("stop",), output=3), span(), span(finish=("length", "length"), output=12, choices=2)],
    ),
    Scenario("LLMEngine: stop string", engine_stop_string, [span(finish=("stop",), output=3)]),
    Scenario("LLMEngine: refusal", engine_refuses, [span(**_REFUSED)]),
    Scenario("LLMEngine: abort", engine_aborts, [span(**{**_CANCELLED, "output": 2})]),
    Scenario("LLMEngine: a step raises", engine_dies, [span(**_ENGINE_ERROR, output=2)]),
    Scenario("LLMEngine: pooling", engine_embeds, [span(EMBEDDING, output=None, finish=("stop",))], _pools),
    Scenario("LLM: generate", llm_generates, [span(finish=("stop",), output=3), span()], batch="LLM.generate"),
    Scenario("LLM: chat", llm_chats, [span("chat")], batch="LLM.chat"),
    Scenario("LLM: refusal", llm_refuses, [span(**_REFUSED)], batch="LLM.generate", optional=True),
    Scenario("V0", first_engine, [], lambda classes: classes.FirstEngine is not None, warning="does not see"),
    Scenario("AsyncLLM: two streams", on_loop(_streams), [span(stream=True)] * 2),
    Scenario("AsyncLLM: one after the other", on_loop(_in_turn), [span(stream=True)] * 2),
    Scenario("AsyncLLM: final only", on_loop(_final), [span(finish=("stop",), output=3, stream=False)]),
    Scenario("AsyncLLM: n=2", on_loop(_several), [span(finish=("length",) * 2, output=8, choices=2, stream=False)]),
    Scenario("AsyncLLM: client leaves", on_loop(_client_leaves), [span(**_CANCELLED, stream=True)]),
    Scenario("AsyncLLM: abort", on_loop(_aborts), [span(**_CANCELLED, stream=True)]),
    Scenario("AsyncLLM: refusal", on_loop(_refuses), [span(**_REFUSED, stream=True)]),
    Scenario("AsyncLLM: engine dies", on_loop(_dies), [span(**_ENGINE_ERROR, stream=True, output=any)] * 2),
    Scenario("AsyncLLM: rejection", on_loop(_rejected), [span(**_REJECTED, stream=True)], _rejects),
    Scenario("AsyncLLM: encode", on_loop(_embeds), [span(EMBEDDING, output=None, finish=("stop",))], _pools),
    Scenario("AsyncLLM: a call never consumed", on_loop(_abandoned), [span(stream=True)]),
)


def matches(expected: Any, seen: Any) -> bool:
    """Return whether a fact is as expected; ``any`` stands for every value, a set for any of its members."""
    if expected is any:
        return True
    if isinstance(expected, frozenset):
        return seen in expected
    return bool(expected == seen)
