"""Offline ``LLM`` on real vLLM: every entry point, every end, every attribute of the contract."""

from __future__ import annotations

from typing import Any
from unittest.mock import Mock

import pytest
from opentelemetry import trace
from opentelemetry.trace import StatusCode

import traceai_vllm
from tests.integration.conftest import Traced

# What every request of the one-layer test model carries, whatever was asked.
MODEL = {
    "gen_ai.provider.name": "vllm",
    "gen_ai.request.model": "one-layer",
    "gen_ai.response.model": "one-layer",
    "model_variant": "one-layer",
    "quantization_format": "bf16",
    "traceai.quantization.weights": "bf16",
    "traceai.quantization.activations": "bf16",
    "traceai.quantization.kv_cache": "bf16",
}
TAGS = {
    "route": "support",
    "prompt_version": "v3",
    "traffic_cohort": "mirrored-2026-05",
    "agent_step": "plan",
}
TIMES = ("gen_ai.latency.e2e", "gen_ai.latency.time_to_first_token")


def params(**options: Any) -> Any:
    from vllm import SamplingParams

    return SamplingParams(**{"max_tokens": 6, "temperature": 0.0, "ignore_eos": True, **options})


def without_times(attributes: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in attributes.items() if key not in TIMES}


def test_a_chat_has_every_attribute_of_the_contract(llm: Any, traced: Traced) -> None:
    """One conversation: one request span under one batch span, with exactly these attributes."""
    with traceai_vllm.tags(**TAGS):
        (output,) = llm.chat([{"role": "user", "content": "Capital of France?"}], params(), use_tqdm=False)

    span, attributes = traced.request()
    prompt = len(output.prompt_token_ids)
    assert without_times(attributes) == {
        **MODEL,
        **TAGS,
        "gen_ai.operation.name": "chat",
        "gen_ai.request.max_tokens": 6,
        "gen_ai.request.temperature": 0.0,
        "gen_ai.request.top_p": 1.0,
        "gen_ai.output.type": "text",
        "gen_ai.response.id": output.request_id,
        "gen_ai.response.finish_reasons": ("length",),
        "gen_ai.usage.input_tokens": prompt,
        "gen_ai.usage.output_tokens": 6,
        "gen_ai.usage.cache_read.input_tokens": 0,
        "llm.token_count.prompt": prompt,
        "llm.token_count.completion": 6,
        "llm.token_count.total": prompt + 6,
    }
    assert 0 < attributes["gen_ai.latency.time_to_first_token"] <= attributes["gen_ai.latency.e2e"]
    assert span.name == "chat one-layer"
    assert (span.end_time - span.start_time) / 1e9 == pytest.approx(attributes["gen_ai.latency.e2e"], abs=1e-6)
    (batch,) = traced.batches
    assert batch.name == "LLM.chat one-layer"
    assert span.parent.span_id == batch.context.span_id
    assert batch.attributes["route"] == "support"
    assert batch.attributes["traceai.batch.size"] == 1


def test_a_batch_is_one_parent_with_its_requests_as_children(llm: Any, traced: Traced) -> None:
    """64 prompts are 64 spans under one, in the trace of the caller, with an id each."""
    caller = traced.tracer_provider.get_tracer("app").start_span("nightly job")
    with trace.use_span(caller, end_on_exit=True):
        outputs = llm.generate([f"prompt {i}" for i in range(64)], params(max_tokens=2), use_tqdm=False)

    (batch,) = traced.batches
    assert batch.parent.span_id == caller.get_span_context().span_id
    assert batch.attributes["traceai.batch.size"] == 64
    assert {span.parent.span_id for span in traced.requests} == {batch.context.span_id}
    assert {span.context.trace_id for span in traced.spans} == {caller.get_span_context().trace_id}
    ids = [span.attributes["gen_ai.response.id"] for span in traced.requests]
    assert sorted(ids) == sorted(output.request_id for output in outputs)
    assert {span.attributes["gen_ai.operation.name"] for span in traced.requests} == {"text_completion"}


def test_n_answers_are_one_request(llm: Any, traced: Traced) -> None:
    """`n=3` is one span: the prompt counted once, the answers' tokens together, a finish reason for each."""
    (output,) = llm.generate("hello", params(n=3, temperature=1.0, seed=1), use_tqdm=False)

    _, attributes = traced.request()
    assert attributes["gen_ai.request.choice.count"] == 3
    assert attributes["gen_ai.request.seed"] == 1
    assert attributes["gen_ai.response.finish_reasons"] == ("length",) * 3
    assert attributes["gen_ai.usage.input_tokens"] == len(output.prompt_token_ids)
    assert attributes["gen_ai.usage.output_tokens"] == sum(len(o.token_ids) for o in output.outputs) == 18


def test_a_beam_search_is_one_request_per_prompt(llm: Any, traced: Traced) -> None:
    """The engine's one-token steps of a beam search are not requests; each prompt is."""
    from vllm.sampling_params import BeamSearchParams

    prompts = [{"prompt": "hello"}, {"prompt": "good morning to you"}]
    outputs = llm.beam_search(prompts, BeamSearchParams(beam_width=2, max_tokens=3, ignore_eos=True))

    assert [span.name for span in traced.requests] == ["text_completion one-layer"] * 2
    for span, output in zip(traced.requests, outputs, strict=True):
        attributes = span.attributes
        prompt = len(output.sequences[0].tokens) - 3
        assert attributes["traceai.beam.width"] == 2
        assert attributes["gen_ai.request.max_tokens"] == 3
        assert attributes["gen_ai.usage.input_tokens"] == prompt
        assert attributes["gen_ai.usage.output_tokens"] == 6
        assert attributes["gen_ai.response.finish_reasons"] == ("length", "length")
        assert attributes["gen_ai.latency.e2e"] > 0
    assert traced.points()["gen_ai.server.request.duration"][0].count == 2


def test_a_stop_string_is_the_true_finish_reason(llm: Any, traced: Traced) -> None:
    """A stop string that matches in the very step that reaches the length limit is `stop`, as the caller sees it."""
    (free,) = llm.generate("hello", params(), use_tqdm=False)
    text = free.outputs[0].text
    traced.clear()

    (output,) = llm.generate("hello", params(stop=[text[-3:]]), use_tqdm=False)

    _, attributes = traced.request()
    assert attributes["gen_ai.response.finish_reasons"] == (output.outputs[0].finish_reason,) == ("stop",)
    assert attributes["gen_ai.usage.output_tokens"] == len(output.outputs[0].token_ids)
    assert "gen_ai.request.stop_sequences" not in attributes  # a caller's own words: only with content


def test_a_prefix_cache_hit_is_counted(llm: Any, traced: Traced) -> None:
    """The second request for the same long prompt says how many of its tokens were cached."""
    prompt = {"prompt_token_ids": list(range(100, 400))}
    llm.generate(prompt, params(), use_tqdm=False)
    (output,) = llm.generate(prompt, params(), use_tqdm=False)

    cached = [span.attributes["gen_ai.usage.cache_read.input_tokens"] for span in traced.requests]
    assert cached == [0, output.num_cached_tokens]
    assert cached[1] > 0


def test_structured_output_is_marked(llm: Any, traced: Traced) -> None:
    """A request with a JSON schema says that it asked for JSON."""
    from vllm.sampling_params import StructuredOutputsParams

    schema = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
    llm.generate("x", params(structured_outputs=StructuredOutputsParams(json=schema)), use_tqdm=False)

    assert traced.request()[1]["gen_ai.output.type"] == "json"


def test_enqueued_requests_are_spans_of_whoever_enqueued_them(llm: Any, traced: Traced) -> None:
    """`enqueue` and `wait_for_completion` apart: the tags and the parent are those of the enqueueing."""
    caller = traced.tracer_provider.get_tracer("app").start_span("producer")
    with trace.use_span(caller, end_on_exit=True), traceai_vllm.tags(route="queued"):
        llm.enqueue(["a", "b"], params(), use_tqdm=False)
    assert traced.requests == []

    outputs = llm.wait_for_completion(use_tqdm=False)

    assert len(outputs) == 2
    assert [span.attributes["route"] for span in traced.requests] == ["queued"] * 2
    assert {span.parent.span_id for span in traced.requests} == {caller.get_span_context().span_id}
    assert traced.batches == []


def test_a_rejected_batch_fails_with_the_users_exception(llm: Any, traced: Traced) -> None:
    """A prompt longer than the model's context: the same exception as without us, and an error on the batch."""
    from vllm.exceptions import VLLMValidationError

    with pytest.raises(VLLMValidationError, match="maximum context length"):
        llm.generate({"prompt_token_ids": [5] * 2000}, params(), use_tqdm=False)

    (batch,) = traced.batches
    assert batch.attributes["error.type"] == "VLLMValidationError"
    assert batch.status.status_code is StatusCode.ERROR


def test_a_request_rejected_by_the_engine_is_a_span_with_its_error(llm: Any, traced: Traced) -> None:
    """What the engine's own `add_request` refuses is a request that failed, without tokens."""
    from vllm.exceptions import VLLMValidationError

    with pytest.raises(VLLMValidationError, match="out-of-vocab"):
        llm.llm_engine.add_request("mine", "hello", params(logit_bias={10**9: 1.0}))

    span, attributes = traced.request()
    assert attributes["gen_ai.response.id"] == "mine"
    assert attributes["error.type"] == "VLLMValidationError"
    assert span.status.status_code is StatusCode.ERROR
    assert "gen_ai.usage.output_tokens" not in attributes


def test_a_request_aborted_by_hand_ends_as_cancelled(llm: Any, traced: Traced) -> None:
    """`abort_request` ends the span with what was generated until then."""
    request_id = llm.llm_engine.add_request("mine", "hello", params(max_tokens=100))
    llm.llm_engine.step()
    llm.llm_engine.abort_request([request_id], internal=True)
    while llm.llm_engine.has_unfinished_requests():
        llm.llm_engine.step()

    _, attributes = traced.request()
    assert attributes["error.type"] == "cancelled"
    assert attributes["gen_ai.response.finish_reasons"] == ("abort",)
    assert attributes["gen_ai.usage.output_tokens"] == 1


def test_an_engine_that_fails_ends_every_open_request(
    llm: Any, traced: Traced, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A crash in the engine's step reaches the user unchanged; the batch and its requests end as errors."""
    boom = RuntimeError("the kernel crashed")
    engine = llm.llm_engine

    def fail() -> None:
        raise boom

    with monkeypatch.context() as patch:
        patch.setattr(engine.engine_core, "get_output", fail)
        with pytest.raises(RuntimeError) as caught:
            llm.generate(["a", "b"], params(), use_tqdm=False)
    assert caught.value is boom
    engine.abort_request(list(engine.output_processor.request_states), internal=True)

    assert [span.attributes["error.type"] for span in traced.requests] == ["RuntimeError"] * 2
    assert {span.status.description for span in traced.requests} == {"the kernel crashed"}
    assert traced.batches[0].attributes["error.type"] == "RuntimeError"


def test_an_engine_that_fails_under_its_own_interface_ends_every_open_request(
    llm: Any, traced: Traced, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever makes the steps without an entry point of `LLM` gets the error on the spans as well."""
    engine = llm.llm_engine
    with monkeypatch.context() as patch:
        patch.setattr(engine.engine_core, "get_output", Mock(side_effect=RuntimeError("the kernel crashed")))
        engine.add_request("mine", "hello", params())
        with pytest.raises(RuntimeError, match="the kernel crashed"):
            engine.step()
        engine.abort_request(list(engine.output_processor.request_states), internal=True)
        llm.enqueue(["a", "b"], params(), use_tqdm=False)
        with pytest.raises(RuntimeError, match="the kernel crashed"):
            llm.wait_for_completion(use_tqdm=False)
    engine.abort_request(list(engine.output_processor.request_states), internal=True)

    assert [span.attributes["error.type"] for span in traced.requests] == ["RuntimeError"] * 3
    assert {span.status.description for span in traced.requests} == {"the kernel crashed"}


def test_an_engine_that_fails_under_a_step_of_the_users_ends_every_open_request(
    llm: Any, traced: Traced, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What stands round vLLM's step may raise an error of its own: vLLM's may be its cause, or only its context."""
    engine, step = llm.llm_engine, type(llm.llm_engine).step

    class AppError(Exception):
        pass

    def own_step(engine: Any) -> Any:
        try:
            return step(engine)
        except RuntimeError:
            raise AppError("the node is ill") from None

    with monkeypatch.context() as patch:
        patch.setattr(engine.engine_core, "get_output", Mock(side_effect=RuntimeError("the kernel crashed")))
        patch.setattr(type(engine), "step", own_step)
        with pytest.raises(AppError):
            llm.generate(["a", "b"], params(), use_tqdm=False)
    engine.abort_request(list(engine.output_processor.request_states), internal=True)

    assert [span.attributes["error.type"] for span in traced.requests] == ["AppError"] * 2


def test_a_refused_prompt_does_not_end_what_was_queued_before(
    llm: Any, traced: Traced, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only the failure of a step is one of all open requests."""
    from vllm.exceptions import VLLMValidationError

    engine = llm.llm_engine
    try:
        with monkeypatch.context() as patch:
            patch.setattr(engine.engine_core, "get_output", Mock(side_effect=RuntimeError("the kernel crashed")))
            llm.generate("c", params(), use_tqdm=False)
    except RuntimeError:  # also while a failure of before is handled
        engine.abort_request(list(engine.output_processor.request_states), internal=True)
        llm.enqueue(["a", "b"], params(), use_tqdm=False)
        with pytest.raises(VLLMValidationError):
            llm.generate({"prompt_token_ids": [5] * 2000}, params(), use_tqdm=False)
    assert [span.attributes["error.type"] for span in traced.requests] == ["RuntimeError"]
    traced.clear()
    llm.wait_for_completion(use_tqdm=False)

    assert [span.attributes["gen_ai.response.finish_reasons"] for span in traced.requests] == [("length",)] * 2


def test_nothing_of_ours_runs_at_each_step_of_an_offline_engine(llm: Any) -> None:
    """`LLM` as it comes: what vLLM calls at each step is its own, before, during and after a call."""
    from vllm.v1.engine.llm_engine import LLMEngine
    from vllm.v1.engine.output_processor import OutputProcessor

    def each_step() -> list[Any]:
        return [vars(LLMEngine)["step"], vars(OutputProcessor)["update_scheduler_stats"]]

    own = each_step()
    seen = Traced()
    seen.instrument()
    try:
        at_first = each_step()
        llm.generate("hello", params(), use_tqdm=False)
        llm.chat([{"role": "user", "content": "hello"}], params(), use_tqdm=False)
        assert len(seen.requests) == 2
        assert at_first == each_step() == own
        llm.llm_engine.add_request("mine", "hello", params())
        assert each_step()[0] is not own[0]
        while llm.llm_engine.has_unfinished_requests():
            llm.llm_engine.step()
    finally:
        traceai_vllm.uninstrument()
    assert each_step() == own


def test_suppressed_calls_leave_no_trace(llm: Any, traced: Traced) -> None:
    """OpenTelemetry's `suppress_instrumentation` holds for vLLM too."""
    from opentelemetry.instrumentation.utils import suppress_instrumentation

    with suppress_instrumentation():
        llm.generate("hello", params(), use_tqdm=False)

    assert traced.spans == []


def test_uninstrument_gives_vllm_its_own_functions_back(llm: Any) -> None:
    """Before and after are the very same objects, also for methods that `LLM` only inherits."""
    from vllm import LLM
    from vllm.v1.engine.llm_engine import LLMEngine
    from vllm.v1.engine.output_processor import OutputProcessor

    def functions() -> dict[str, Any]:
        return {f"{c.__name__}.{k}": v for c in (LLM, LLMEngine, OutputProcessor) for k, v in vars(c).items()}

    before = functions()
    seen = Traced()
    seen.instrument()
    during = functions()
    traceai_vllm.uninstrument()

    assert functions() == before
    assert all(functions()[name] is value for name, value in before.items())
    assert "LLM.encode" not in before
    assert "LLM.encode" in during
    llm.generate("hello", params(), use_tqdm=False)
    assert seen.spans == []


def test_instrumenting_twice_is_harmless(llm: Any, traced: Traced) -> None:
    """The second call changes nothing: one span per request, and one `uninstrument()` undoes it all."""
    traced.instrument()

    llm.generate("hello", params(), use_tqdm=False)

    assert len(traced.requests) == 1


def test_requests_in_flight_at_uninstrument_still_end(llm: Any, traced: Traced) -> None:
    """A request that was admitted under instrumentation ends as a span although it was switched off meanwhile."""
    from vllm.v1.engine.output_processor import OutputProcessor

    llm.enqueue(["a"], params(), use_tqdm=False)
    traceai_vllm.uninstrument()
    llm.enqueue(["b"], params(), use_tqdm=False)
    llm.wait_for_completion(use_tqdm=False)

    _, attributes = traced.request()
    assert attributes["gen_ai.response.finish_reasons"] == ("length",)
    processor = llm.llm_engine.output_processor
    assert not set(vars(processor)) & set(vars(OutputProcessor))


def test_a_declared_variant_wins_and_the_engines_word_is_kept(llm: Any, caplog: pytest.LogCaptureFixture) -> None:
    """What the user says is on the span, what the engine says beside it, and the log says so once."""
    seen = Traced()
    seen.instrument(model_variant="one-layer-awq", quantization_format="int4")
    try:
        llm.generate(["a", "b"], params(), use_tqdm=False)
    finally:
        traceai_vllm.uninstrument()

    for span in seen.requests:
        assert span.attributes["model_variant"] == "one-layer-awq"
        assert span.attributes["quantization_format"] == "int4"
        assert span.attributes["traceai.detected.quantization_format"] == "bf16"
    assert sum("quantization_format='int4'" in record.getMessage() for record in caplog.records) == 1
