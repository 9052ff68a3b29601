"""Ends that a small model does not produce on demand: vLLM's real ``OutputProcessor``, driven by hand, no engine."""

from __future__ import annotations

import asyncio
import gc
import os
import subprocess
import sys
import time
from pathlib import Path
from types import MethodType, SimpleNamespace
from typing import Any
from unittest.mock import AsyncMock

import pytest
from opentelemetry import context
from opentelemetry.instrumentation.utils import suppress_instrumentation
from opentelemetry.trace import StatusCode

import traceai_vllm
from tests.integration.conftest import Traced
from traceai_vllm import tags
from traceai_vllm.engine import calls, funnel, live, patches
from traceai_vllm.engine.funnel import tracker_of
from traceai_vllm.server import ServerOptions
from traceai_vllm.server.callers import Callers, CallerTags
from traceai_vllm.server.served import ServedRequest, with_served
from traceai_vllm.store import connect


@pytest.fixture
def processor(traced: Traced) -> Any:
    """A real output processor without a tokenizer."""
    from vllm.v1.engine.output_processor import OutputProcessor

    return OutputProcessor(tokenizer=None, log_stats=False)


def request(name: str = "r-0001", **changes: Any) -> Any:
    from vllm import SamplingParams
    from vllm.v1.engine import EngineCoreRequest

    fields: dict[str, Any] = {
        "request_id": name,
        "external_req_id": name.partition("-")[0],
        "prompt_token_ids": [1, 2, 3],
        "mm_features": None,
        "sampling_params": SamplingParams(max_tokens=9),
        "pooling_params": None,
        "arrival_time": time.time(),
        "lora_request": None,
        "cache_salt": None,
        "data_parallel_rank": None,
    }
    return EngineCoreRequest(**{**fields, **changes})


def output(name: str = "r-0001", tokens: tuple[int, ...] = (7,), reason: str | None = None) -> Any:
    from vllm.v1.engine import EngineCoreOutput, FinishReason

    finish = None if reason is None else FinishReason[reason]
    return EngineCoreOutput(request_id=name, new_token_ids=list(tokens), finish_reason=finish)


def one_answer_queue() -> Any:
    from vllm.sampling_params import RequestOutputKind
    from vllm.v1.engine.output_processor import RequestOutputCollector

    return RequestOutputCollector(RequestOutputKind.DELTA, "r-0001")


def async_engine(processor: Any, add_request: Any) -> Any:
    """An `AsyncLLM` on this processor that admits requests by this function, and has no engine core."""
    from vllm.v1.engine.async_llm import AsyncLLM

    engine = AsyncLLM.__new__(AsyncLLM)
    engine.output_processor, engine.log_requests, engine.vllm_config = processor, False, SimpleNamespace()
    engine.engine_core = SimpleNamespace(abort_requests_async=AsyncMock(), shutdown=lambda **_: None)
    engine.add_request = MethodType(calls.add_request_async(add_request), engine)
    return engine


@pytest.mark.parametrize(
    ("reason", "error"),
    [("STOP", None), ("LENGTH", None), ("REPETITION", None), ("ABORT", "cancelled"), ("ERROR", "engine_error")],
)
def test_every_finish_reason_of_the_engine_ends_the_request(
    processor: Any, traced: Traced, reason: str, error: str | None
) -> None:
    """The span has the engine's own word for it, and an error type where it is no answer."""
    processor.add_request(request(), None)
    processor.process_outputs([output()])
    processor.process_outputs([output(tokens=(8, 9), reason=reason)])

    span, attributes = traced.request()
    assert attributes["gen_ai.response.finish_reasons"] == (reason.lower(),)
    assert attributes.get("error.type") == error
    assert (span.status.status_code is StatusCode.ERROR) == (error is not None)
    assert attributes["gen_ai.usage.output_tokens"] == 3
    assert attributes["gen_ai.latency.time_to_first_token"] > 0
    assert attributes["gen_ai.response.id"] == "r"


def test_a_session_has_the_time_to_its_own_first_token_and_none_of_its_last_parts(traced: Traced) -> None:
    """With streamed input vLLM begins its times anew with each part of the input."""
    from vllm.v1.engine.output_processor import OutputProcessor
    from vllm.v1.metrics.stats import IterationStats

    processor = OutputProcessor(tokenizer=None, log_stats=True)
    began = time.time() - 100
    processor.add_request(request(resumable=True, arrival_time=began), None)
    for reason in (None, "LENGTH"):
        processor.process_outputs([output(reason=reason)], 50.0, IterationStats())
    processor.add_request(request(resumable=True), None)
    for reason in (None, "LENGTH"):
        processor.process_outputs([output(reason=reason)], 60.0, IterationStats())
    processor.add_request(request(resumable=False), None)

    _, attributes = traced.request()
    assert attributes["gen_ai.latency.time_to_first_token"] >= 100
    assert attributes["gen_ai.latency.e2e"] >= attributes["gen_ai.latency.time_to_first_token"]
    assert not {name for name in attributes if name.startswith("gen_ai.latency.time_in_")}


def test_an_engine_error_ends_every_open_request_once(processor: Any, traced: Traced) -> None:
    """`propagate_error` ends them all with its class; the abort that follows does not end them again."""
    from vllm.sampling_params import RequestOutputKind
    from vllm.v1.engine.output_processor import RequestOutputCollector

    names = [f"r{i}-0001" for i in range(3)]
    for name in names:
        processor.add_request(request(name), None, queue=RequestOutputCollector(RequestOutputKind.DELTA, name))

    processor.propagate_error(RuntimeError("out of memory"))
    processor.abort_requests(names, internal=True)

    assert [span.attributes["error.type"] for span in traced.requests] == ["RuntimeError"] * 3
    assert {span.status.description for span in traced.requests} == {"out of memory"}


def test_an_abort_while_the_application_handles_an_error_of_its_own_is_cancelled(
    processor: Any, traced: Traced
) -> None:
    """That error has nothing to do with the request, and may quote what somebody sent."""
    processor.add_request(request(), None)
    try:
        {}["canary"]
    except KeyError:
        processor.abort_requests(["r"], internal=False)

    span, attributes = traced.request()
    assert attributes["error.type"] == "cancelled"
    assert "canary" not in span.to_json()


def test_an_abort_while_vllm_handles_an_error_has_that_ones_class(processor: Any, traced: Traced) -> None:
    """`AsyncLLM.generate` aborts a request whose answers it cannot hand on. What the error says may be content."""
    from vllm.v1.engine.exceptions import EngineGenerateError

    async def add_request(self: Any, *args: Any, **kwargs: Any) -> Any:
        queue = one_answer_queue()
        processor.add_request(request(), None, queue=queue)
        queue.put(BufferError("canary"))
        return queue

    async def use() -> None:
        with pytest.raises(EngineGenerateError):
            await anext(async_engine(processor, add_request).generate("hello", request().sampling_params, "r"))

    asyncio.run(use())

    span, attributes = traced.request()
    assert attributes["error.type"] == "BufferError"
    assert "canary" not in span.to_json()


def test_finish_reasons_are_in_the_order_of_the_answers(processor: Any, traced: Traced) -> None:
    """Not in that of their ends."""
    from vllm import SamplingParams
    from vllm.v1.engine.parallel_sampling import ParentRequest

    parent = ParentRequest(request(sampling_params=SamplingParams(n=2, max_tokens=9)))
    names = []
    for index in range(2):
        name, params = parent.get_child_info(index)
        names.append(name)
        processor.add_request(request(name, external_req_id="r", sampling_params=params), None, parent, index)
    processor.process_outputs([output(names[1], reason="STOP")])
    processor.process_outputs([output(names[0], reason="LENGTH")])

    _, attributes = traced.request()
    assert attributes["gen_ai.response.finish_reasons"] == ("length", "stop")


def test_a_call_that_is_consumed_later_begins_and_lasts_from_the_call_on(
    processor: Any, traced: Traced, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The wait before the first `anext` is the caller's wait too: it is no gap at the end of the span."""
    now = 10**18
    clock = SimpleNamespace(time_ns=lambda: now, perf_counter_ns=lambda: now - 10**17)
    monkeypatch.setattr(calls, "time", clock)
    monkeypatch.setattr(live, "time", clock)

    async def add_request(self: Any, *args: Any, **kwargs: Any) -> Any:
        queue = one_answer_queue()
        processor.add_request(request(), None, queue=queue)
        processor.process_outputs([output(reason="STOP")])
        return queue

    async def use() -> None:
        nonlocal now
        generator = async_engine(processor, add_request).generate("hello", request().sampling_params, "r")
        now += 2 * 10**9
        assert [answer.finished async for answer in generator] == [True]

    asyncio.run(use())
    span, attributes = traced.request()
    assert span.start_time == 10**18
    assert span.end_time == now
    assert attributes["gen_ai.latency.e2e"] == 2.0


def test_a_call_keeps_its_own_context_whoever_consumes_it_and_when(processor: Any, traced: Traced) -> None:
    """Ids need not be unique: calls of one id do not mix. One made under suppression stays untraced."""
    names = iter(("r-1", "r-2", "r-3"))

    async def add_request(self: Any, *args: Any, **kwargs: Any) -> Any:
        queue, name = one_answer_queue(), next(names)
        processor.add_request(request(name), None, queue=queue)
        processor.process_outputs([output(name, reason="STOP")])
        return queue

    async def use() -> None:
        engine = async_engine(processor, add_request)
        with tags(route="first"):
            first = engine.generate("one", request().sampling_params, "r")
        with tags(route="second"):
            second = engine.generate("two", request().sampling_params, "r")
        with suppress_instrumentation():
            untraced = engine.generate("three", request().sampling_params, "r")
        for generator in (untraced, second, first):
            assert [answer.finished async for answer in generator] == [True]

    asyncio.run(use())
    assert [(span.attributes or {}).get("route") for span in traced.requests] == ["second", "first"]
    assert not tracker_of(processor).calls


def test_a_completion_has_the_id_that_its_client_gets(processor: Any, traced: Traced) -> None:
    """Not the engine's, in which vLLM numbers the prompts of a request."""
    served = ServedRequest(CallerTags(Callers(ServerOptions())), "text_completion")
    served.state = SimpleNamespace(request_metadata=SimpleNamespace(request_id="cmpl-1"))
    token = context.attach(with_served(context.get_current(), served))
    processor.add_request(request(external_req_id="cmpl-1-0"), None)
    context.detach(token)
    processor.process_outputs([output(reason="STOP")])

    _, attributes = traced.request()
    assert attributes["gen_ai.response.id"] == "cmpl-1"


def test_a_beam_search_of_the_server_is_one_request(processor: Any, traced: Traced) -> None:
    """vLLM asks the engine for one token per beam and position."""
    import numpy as np
    from vllm.entrypoints.generate.beam_search.online import BeamSearchOnlineMixin
    from vllm.sampling_params import BeamSearchParams
    from vllm.v1.outputs import LogprobsLists

    names = [f"r{number}-0001" for number in range(99)]
    asked = []

    async def add_request(self: Any, request_id: str, prompt: Any, params: Any, **kwargs: Any) -> Any:
        name = names[len(asked)]
        asked.append(request_id)
        queue = one_answer_queue()
        added = request(name, prompt_token_ids=list(prompt["prompt_token_ids"]), sampling_params=params)
        processor.add_request(added, None, queue=queue)
        ends = output(name, reason="LENGTH")
        ends.new_logprobs = LogprobsLists(np.array([[7, 8, 9]]), np.array([[-0.1, -0.2, -0.3]]), np.array([0]))
        processor.process_outputs([ends])
        return queue

    class Serving(BeamSearchOnlineMixin):
        engine_client = async_engine(processor, add_request)
        renderer = SimpleNamespace(
            get_tokenizer=lambda: SimpleNamespace(eos_token_id=0, decode=lambda tokens, **_: "text")
        )

    async def use() -> list[Any]:
        prompt = {"type": "token", "prompt_token_ids": [1, 2, 3]}
        return [
            found async for found in Serving().beam_search(prompt, "r", BeamSearchParams(beam_width=2, max_tokens=3))
        ]

    Serving.engine_client.input_processor = SimpleNamespace(resolve_watermarking=lambda params: None)
    (answer,) = asyncio.run(use())
    _, attributes = traced.request()
    assert len(asked) == 5
    assert attributes["gen_ai.usage.output_tokens"] == sum(len(beam.token_ids) for beam in answer.outputs) == 6
    assert attributes["gen_ai.usage.input_tokens"] == 3


def test_a_timeout_of_the_engine_is_a_timeout(processor: Any, traced: Traced) -> None:
    """An engine that gives up waiting raises TimeoutError; dashboards find it under `timeout`."""
    processor.add_request(request(), None)

    tracker_of(processor).close_all(TimeoutError("RPC call to execute_model timed out"))

    assert traced.request()[1]["error.type"] == "timeout"


def test_a_request_rejected_inside_process_outputs_ends(
    processor: Any, traced: Traced, monkeypatch: pytest.MonkeyPatch
) -> None:
    """vLLM 0.33 drops a request there without any other call; one comparison per step finds it."""
    from vllm.v1.engine.output_processor import OutputProcessor

    def reject(self: Any, outputs: Any) -> None:
        for rejected in outputs:
            self.request_states.pop(rejected.request_id)

    monkeypatch.setattr(OutputProcessor, "process_outputs", funnel.process_outputs(reject))
    processor.add_request(request("a-0001"), None)
    processor.add_request(request("b-0001"), None)

    processor.process_outputs([output("a-0001")])

    _, attributes = traced.request()
    assert attributes["gen_ai.response.id"] == "a"
    assert attributes["error.type"] == "engine_error"
    assert set(tracker_of(processor).open) == {"b-0001"}


def test_requests_of_an_engine_that_is_dropped_end_as_abandoned(processor: Any, traced: Traced) -> None:
    """An engine that goes out of scope with open requests: their spans end, at the next safe moment."""
    from vllm.v1.engine.output_processor import OutputProcessor

    dropped = OutputProcessor(tokenizer=None, log_stats=False)
    dropped.add_request(request("lost-0001"), None)
    del dropped
    gc.collect()
    processor.add_request(request("next-0001"), None)

    _, attributes = traced.request()
    assert attributes["gen_ai.response.id"] == "lost"
    assert attributes["error.type"] == "abandoned"


def test_a_call_that_is_dropped_before_its_admission_ends_once_and_says_nothing(
    processor: Any, traced: Traced, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A loop that goes away with its tasks: what waits there is closed by the garbage collector."""
    from vllm import SamplingParams

    async def wait(engine: Any, *args: Any, **kwargs: Any) -> None:
        await asyncio.get_running_loop().create_future()

    async def consume() -> None:
        async for _ in async_engine(processor, wait).generate("hello", SamplingParams(), "r"):
            pass

    async def begin() -> None:
        task = asyncio.ensure_future(consume())
        task._log_destroy_pending = False
        await asyncio.sleep(0)

    printed: list[Any] = []
    monkeypatch.setattr(sys, "unraisablehook", printed.append)
    loop = asyncio.new_event_loop()
    loop.run_until_complete(begin())
    loop.close()
    del loop
    gc.collect()
    processor.add_request(request("next-0001"), None)

    assert printed == []
    assert traced.request()[1]["error.type"] == "abandoned"


def test_requests_that_are_open_when_the_process_exits_end_as_abandoned(tmp_path: Path) -> None:
    """As after Ctrl-C in the middle of a batch: what was in flight is among the spans, once, also with `n` answers."""
    program = """
import sys
import traceai_vllm
from tests.integration.test_output_processor import request
from vllm.v1.engine.output_processor import OutputProcessor
from vllm.v1.engine.parallel_sampling import ParentRequest
from vllm import SamplingParams

traceai_vllm.instrument(store=sys.argv[1])
processor = OutputProcessor(tokenizer=None, log_stats=False)
processor.add_request(request("one-0001"), None)
parent = ParentRequest(request("two-0001", sampling_params=SamplingParams(n=2)))
for index in range(2):
    name, params = parent.get_child_info(index)
    processor.add_request(request(name, external_req_id="two", sampling_params=params), None, parent, index)
"""
    environment = {**os.environ, **{f"OTEL_{signal}_EXPORTER": "none" for signal in ("TRACES", "METRICS", "LOGS")}}
    subprocess.run([sys.executable, "-c", program, str(tmp_path)], env=environment, timeout=300, check=True)

    rows = connect(tmp_path).sql("SELECT attributes->>'$.\"gen_ai.response.id\"', error_type, status FROM spans")
    assert sorted(rows.fetchall()) == [("one", "abandoned", "ERROR"), ("two", "abandoned", "ERROR")]


def test_an_arrival_time_that_cannot_be_is_not_believed(processor: Any, traced: Traced) -> None:
    """A caller may pass anything as arrival time; a span that begins in 1970 helps nobody."""
    before = time.time_ns()
    for name, arrival in (("zero-1", 0.0), ("future-1", time.time() + 1e6), ("waited-1", time.time() - 2)):
        processor.add_request(request(name, arrival_time=arrival), None)
        processor.process_outputs([output(name, reason="STOP")])

    zero, future, waited = traced.requests
    assert before <= zero.start_time <= zero.end_time
    assert before <= future.start_time <= future.end_time
    assert waited.attributes["gen_ai.latency.e2e"] == pytest.approx(2, abs=1)


def test_a_missing_required_hook_is_said_once_and_the_rest_works(
    traced: Traced, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A version without `propagate_error` is named in one warning; requests are still traced."""
    from vllm.v1.engine.output_processor import OutputProcessor

    traceai_vllm.uninstrument()
    monkeypatch.delattr(OutputProcessor, "propagate_error")
    traced.instrument()
    bare = OutputProcessor(tokenizer=None, log_stats=False)
    bare.add_request(request(), None)
    bare.process_outputs([output(reason="STOP")])

    assert len(traced.requests) == 1
    assert sum("OutputProcessor.propagate_error" in record.getMessage() for record in caplog.records) == 1
    traceai_vllm.uninstrument()


def test_somebody_elses_patch_on_top_stays_in_place(
    traced: Traced, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Whoever wrapped our wrapper keeps theirs after `uninstrument()`; ours below it then does nothing."""
    from vllm.v1.engine.output_processor import OutputProcessor

    ours = OutputProcessor.add_request
    calls = []

    def theirs(self: Any, *args: Any, **kwargs: Any) -> Any:
        calls.append(args[0].request_id)
        return ours(self, *args, **kwargs)

    monkeypatch.setattr(OutputProcessor, "add_request", theirs)
    traceai_vllm.uninstrument()
    processor = OutputProcessor(tokenizer=None, log_stats=False)
    processor.add_request(request(), None)
    processor.process_outputs([output(reason="STOP")])

    assert OutputProcessor.add_request is theirs
    assert calls == ["r-0001"]
    assert traced.requests == []
    assert any("patched again" in record.getMessage() for record in caplog.records)
    monkeypatch.undo()
    traced.instrument()
    traceai_vllm.uninstrument()
    assert not any(patches.matched().values())


def test_a_hook_that_somebody_took_away_comes_back(
    traced: Traced, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Whoever patched before us and restored while ours was on top, as mocks do, took ours away with theirs."""
    from vllm.v1.engine.output_processor import OutputProcessor

    traceai_vllm.uninstrument()
    original = OutputProcessor.add_request
    traced.instrument()
    assert OutputProcessor.add_request is not original
    monkeypatch.setattr(OutputProcessor, "add_request", original)
    assert not patches.matched()["vllm.v1.engine.output_processor.OutputProcessor.add_request"]
    traceai_vllm.uninstrument()
    assert OutputProcessor.add_request is original
    assert not any("patched again" in record.getMessage() for record in caplog.records)
    traced.instrument()
    processor = OutputProcessor(tokenizer=None, log_stats=False)
    processor.add_request(request(), None)
    processor.process_outputs([output(reason="STOP")])
    assert len(traced.requests) == 1
