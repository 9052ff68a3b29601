"""From a record to its span: every attribute of the contract, and nothing that vLLM did not say."""

from __future__ import annotations

import pytest
from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, Decision, ParentBased, Sampler, SamplingResult
from opentelemetry.trace import SpanKind, StatusCode

from tests.support.records import SECOND, VARIANT, finished_record, in_memory_tracing
from traceai_vllm import guard, tags
from traceai_vllm.record import RequestRecord, Variant
from traceai_vllm.telemetry import semconv, spans
from traceai_vllm.telemetry.spans import SpanBuilder


def test_a_finished_request_becomes_one_span_with_the_whole_contract() -> None:
    """Name, kind, times, status and every attribute are as the record says."""
    provider, exporter = in_memory_tracing()
    with tags(route="support", prompt_version="v3", extra={"tenant": "a"}):
        ctx = otel_context.get_current()
    record = finished_record(
        context=ctx,
        top_p=0.9,
        top_k=20,
        frequency_penalty=0.5,
        presence_penalty=-0.5,
        choices=3,
        dimensions=64,
        beam_width=2,
        seed=7,
        stop_sequences=("END",),
        stream=True,
        lora="tone",
        engine_running=3,
        engine_waiting=1,
        engine_kv_cache_usage=0.25,
        preemptions=1,
        draft_tokens=4,
        accepted_tokens=2,
        output_type="text",
        time_in_queue=0.1,
        time_in_model_prefill=0.4,
        time_in_model_decode=1.5,
        time_in_model_inference=1.9,
    )

    SpanBuilder(provider.get_tracer("test")).emit(record)

    (span,) = exporter.get_finished_spans()
    assert (span.name, span.kind) == ("chat llama-3.1-70b", SpanKind.INTERNAL)
    assert (span.start_time, span.end_time) == (10 * SECOND, 12 * SECOND)
    assert span.status.status_code is StatusCode.UNSET
    assert dict(span.attributes or {}) == {
        "model_variant": "llama-3.1-70b-awq",
        "quantization_format": "int4",
        "traceai.quantization.method": "awq",
        "traceai.quantization.weights": "int4",
        "traceai.quantization.activations": "fp16",
        "traceai.quantization.kv_cache": "fp16",
        "traceai.quantization.group_size": 128,
        "route": "support",
        "prompt_version": "v3",
        "traceai.tag.tenant": "a",
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "vllm",
        "gen_ai.request.model": "llama-3.1-70b",
        "gen_ai.request.max_tokens": 5,
        "gen_ai.request.temperature": 0.0,
        "gen_ai.request.top_p": 0.9,
        "gen_ai.request.top_k": 20,
        "gen_ai.request.frequency_penalty": 0.5,
        "gen_ai.request.presence_penalty": -0.5,
        "gen_ai.request.choice.count": 3,
        "gen_ai.request.seed": 7,
        "gen_ai.request.stream": True,
        "gen_ai.output.type": "text",
        "gen_ai.embeddings.dimension.count": 64,
        "traceai.beam.width": 2,
        "gen_ai.response.model": "llama-3.1-70b",
        "gen_ai.response.id": "chatcmpl-1",
        "gen_ai.response.finish_reasons": ("length",),
        "gen_ai.usage.input_tokens": 7,
        "gen_ai.usage.output_tokens": 5,
        "gen_ai.usage.cache_read.input_tokens": 0,
        "llm.token_count.prompt": 7,
        "llm.token_count.completion": 5,
        "llm.token_count.total": 12,
        "gen_ai.latency.time_to_first_token": 0.5,
        "gen_ai.latency.e2e": 2.0,
        "gen_ai.latency.time_in_queue": 0.1,
        "gen_ai.latency.time_in_model_prefill": 0.4,
        "gen_ai.latency.time_in_model_decode": 1.5,
        "gen_ai.latency.time_in_model_inference": 1.9,
        "traceai.lora": "tone",
        "traceai.engine.running": 3,
        "traceai.engine.waiting": 1,
        "traceai.engine.kv_cache_usage": 0.25,
        "traceai.preemptions": 1,
        "traceai.speculative.draft_tokens": 4,
        "traceai.speculative.accepted_tokens": 2,
    }


def test_what_vllm_did_not_report_is_not_on_the_span() -> None:
    """An unknown value has no attribute; it is never written as 0 or an empty string."""
    provider, exporter = in_memory_tracing()
    record = finished_record(
        variant=Variant(),
        request_id=None,
        max_tokens=None,
        temperature=None,
        input_tokens=None,
        output_tokens=None,
        cached_tokens=None,
        finish_reasons=[],
        time_to_first_token=None,
    )

    SpanBuilder(provider.get_tracer("test")).emit(record)

    (span,) = exporter.get_finished_spans()
    assert span.name == "chat unknown"
    assert dict(span.attributes or {}) == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "vllm",
        "gen_ai.latency.e2e": 2.0,
    }


def test_the_parent_is_the_callers_span() -> None:
    """The request joins the trace in which it was made, although its span is built later."""
    provider, exporter = in_memory_tracing()
    tracer = provider.get_tracer("test")
    caller = tracer.start_span("agent step")
    record = finished_record(context=trace.set_span_in_context(caller))
    caller.end()

    SpanBuilder(tracer).emit(record)

    request = exporter.get_finished_spans()[-1]
    assert request.parent is not None
    assert request.parent.span_id == caller.get_span_context().span_id
    assert request.context.trace_id == caller.get_span_context().trace_id


def test_an_error_sets_type_and_status() -> None:
    """A failed request says what kind of error it was, and its status says so to every backend."""
    provider, exporter = in_memory_tracing()
    record = finished_record(error_type="EngineDeadError", error_message="EngineCore encountered an issue." + "x" * 999)

    SpanBuilder(provider.get_tracer("test")).emit(record)

    (span,) = exporter.get_finished_spans()
    assert (span.attributes or {})["error.type"] == "EngineDeadError"
    assert span.status.status_code is StatusCode.ERROR
    assert (span.status.description or "").startswith("EngineCore encountered an issue.")
    assert len(span.status.description or "") == 256


def test_a_message_that_no_exporter_encodes_does_not_cost_the_batch() -> None:
    """Half a surrogate pair in a status makes OTLP's exporter raise for all spans that it was given."""
    provider, exporter = in_memory_tracing()

    SpanBuilder(provider.get_tracer("test")).emit(finished_record(error_type="E", error_message="a\ud800b"))

    encode_spans(exporter.get_finished_spans())


def test_phase_spans_lie_one_after_the_other_under_the_request() -> None:
    """With `phase_spans=True`, queue, prefill and decode are children whose lengths are vLLM's own times."""
    provider, exporter = in_memory_tracing()
    record = finished_record(time_in_queue=0.1, time_in_model_prefill=0.4, time_in_model_decode=1.5)

    SpanBuilder(provider.get_tracer("test"), phase_spans=True).emit(record)

    *phases, request = exporter.get_finished_spans()
    assert [phase.name for phase in phases] == ["queue", "prefill", "decode"]
    assert all(phase.parent and phase.parent.span_id == request.context.span_id for phase in phases)
    assert phases[0].start_time == request.start_time
    assert [b.start_time for b in phases[1:]] == [a.end_time for a in phases[:-1]]
    assert [round(((p.end_time or 0) - (p.start_time or 0)) / SECOND, 6) for p in phases] == [0.1, 0.4, 1.5]


def test_phase_spans_are_left_out_where_vllm_reported_no_times() -> None:
    """Offline engines without statistics have no phases: none is made up."""
    provider, exporter = in_memory_tracing()

    SpanBuilder(provider.get_tracer("test"), phase_spans=True).emit(finished_record())

    assert [span.name for span in exporter.get_finished_spans()] == ["chat llama-3.1-70b"]


def test_a_request_of_an_unsampled_trace_is_not_recorded() -> None:
    """The decision that was made for the caller's trace holds for the request."""
    provider, exporter = in_memory_tracing(sampler=ParentBased(ALWAYS_OFF))

    span = SpanBuilder(provider.get_tracer("test")).emit(finished_record())

    assert not span.is_recording()
    assert exporter.get_finished_spans() == ()


def test_a_sampler_can_decide_on_variant_route_and_error() -> None:
    """The sampler is asked when the request has ended, with all of its attributes."""
    asked: dict[str, object] = {}

    class Recorder(Sampler):
        def should_sample(
            self, parent_context, trace_id, name, kind=None, attributes=None, links=None, trace_state=None
        ):  # type: ignore[no-untyped-def]
            asked.update(attributes or {})
            return SamplingResult(Decision.DROP)

        def get_description(self) -> str:
            return "recorder"

    provider, _ = in_memory_tracing(sampler=Recorder())
    with tags(route="support"):
        record = finished_record(context=otel_context.get_current(), error_type="timeout")

    SpanBuilder(provider.get_tracer("test")).emit(record)

    assert asked["model_variant"] == "llama-3.1-70b-awq"
    assert asked["route"] == "support"
    assert asked["error.type"] == "timeout"


def test_attributes_can_be_copied_as_sdks_before_1_43_do() -> None:
    """They call ``copy()`` on what the sampler returns: without it every span of a request would be lost there."""

    class Copier(Sampler):
        def should_sample(self, *args: object, **kwargs: object) -> SamplingResult:
            attributes = args[4] if len(args) > 4 else kwargs["attributes"]
            return SamplingResult(Decision.RECORD_AND_SAMPLE, attributes.copy())  # type: ignore[attr-defined]

        def get_description(self) -> str:
            return "copier"

    provider, exporter = in_memory_tracing(sampler=Copier())

    SpanBuilder(provider.get_tracer("test")).emit(finished_record())

    (span,) = exporter.get_finished_spans()
    assert (span.attributes or {})["model_variant"] == "llama-3.1-70b-awq"


def test_of_a_request_that_is_sampled_off_no_attribute_is_made() -> None:
    """A sampler that does not look costs nothing: the record is not even read."""

    class Unread:
        context, variant, operation, start_ns, end_ns = Context(), Variant(), "chat", 1, 2

        def record(self) -> RequestRecord:
            raise AssertionError("nobody asked for it")

    provider, exported = in_memory_tracing(sampler=ALWAYS_OFF)

    SpanBuilder(provider.get_tracer("test")).emit(Unread())

    assert exported.get_finished_spans() == ()


@pytest.mark.internal_errors_expected
def test_an_error_in_the_attributes_costs_the_attributes_and_not_the_span(monkeypatch: pytest.MonkeyPatch) -> None:
    """The trace stays whole: name, times and status are there."""
    provider, exporter = in_memory_tracing()
    monkeypatch.setattr(spans, "request_attributes", lambda *arguments: None)

    SpanBuilder(provider.get_tracer("test")).emit(finished_record(error_type="OSError"))

    (span,) = exporter.get_finished_spans()
    assert (span.name, span.status.status_code) == ("chat llama-3.1-70b", StatusCode.ERROR)
    assert (span.start_time, span.end_time) == (10 * SECOND, 12 * SECOND)
    assert guard.internal_errors()["the attributes of a span", "TypeError"] > 0


def test_a_declared_variant_keeps_what_the_engine_said() -> None:
    """Where the user's declaration and the engine differ, both are on the span."""
    provider, exporter = in_memory_tracing()
    declared = Variant(model="m", quantization_format="int4", declared=(("quantization_format", "bf16"),))

    SpanBuilder(provider.get_tracer("test")).emit(finished_record(variant=declared))

    attributes = exporter.get_finished_spans()[0].attributes or {}
    assert attributes["quantization_format"] == "int4"
    assert attributes["traceai.detected.quantization_format"] == "bf16"


def test_a_batch_span_names_its_entry_point_and_counts_no_tokens() -> None:
    """The span round an offline call carries variant and tags, and nothing a backend would add up twice."""
    provider, exporter = in_memory_tracing()

    SpanBuilder(provider.get_tracer("test")).start_batch("LLM.chat", VARIANT, Context()).end()

    (span,) = exporter.get_finished_spans()
    assert span.name == "LLM.chat llama-3.1-70b"
    attributes = span.attributes or {}
    assert attributes["traceai.batch.entry_point"] == "LLM.chat"
    assert not any(key.startswith(("gen_ai.usage", "llm.token_count", "gen_ai.operation")) for key in attributes)


def test_every_attribute_written_is_in_the_documented_table() -> None:
    """The table of docs/attributes.md leaves nothing out that a span can carry."""
    documented = {attribute.key for attribute in (*semconv.ATTRIBUTES, *semconv.METRIC_ATTRIBUTES)}
    constants = {
        value
        for name, value in vars(semconv).items()
        if name[0].isupper() and isinstance(value, str) and not name.endswith(("PREFIX", "EVENT"))
    } - {semconv.PROVIDER, semconv.TOKEN_TYPE}

    assert constants <= documented


@pytest.mark.parametrize(
    "key", [attribute.key for attribute in semconv.ATTRIBUTES if attribute.source == "OpenTelemetry GenAI"]
)
def test_genai_names_are_the_conventions_own(key: str) -> None:
    """Names that we call OpenTelemetry's exist in the installed conventions."""
    from opentelemetry.semconv._incubating.attributes import gen_ai_attributes
    from opentelemetry.semconv.attributes import error_attributes

    names = {v for m in (gen_ai_attributes, error_attributes) for v in vars(m).values() if isinstance(v, str)}
    assert key in names
