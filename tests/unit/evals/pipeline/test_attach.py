"""What `instrument(evaluators=..., slices=...)` sets up: evaluators and slices in a process of their own."""

import json
import threading

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

import traceai_vllm
from traceai_vllm.evals import JSONValidation
from traceai_vllm.evals.pipeline.attach import attach
from traceai_vllm.evals.slices import SliceSettings


def test_scores_and_slices_are_made_by_the_given_thresholds():
    exporter, provider = InMemorySpanExporter(), TracerProvider(shutdown_on_exit=False)
    attached = attach(
        [JSONValidation({"type": "object"})],
        provider,
        SimpleSpanProcessor(exporter),
        selection=None,
        slices=SliceSettings(regulated_words=["legal advice"], long_context_tokens=10),
        explain=False,
        meter_provider=None,
        logger_provider=None,
    )
    said = {"parts": [{"type": "text", "content": "Give me legal advice."}]}
    attributes = {
        "gen_ai.operation.name": "chat",
        "gen_ai.usage.input_tokens": 10,
        "gen_ai.input.messages": json.dumps([{"role": "user", **said}]),
        "gen_ai.output.messages": json.dumps([{"role": "assistant", **said}]),
    }
    provider.get_tracer("test").start_span("chat m", attributes=attributes).end()
    assert provider.force_flush(30_000)
    attached.detach()

    (span,) = exporter.get_finished_spans()
    assert span.attributes["traceai.slices"] == ("long_context", "regulated")
    assert span.attributes["gen_ai.evaluation.JSONValidation.label"] == "malformed"


def test_a_refused_call_leaves_no_thread_and_no_store(tmp_path):
    """The next call, with what an evaluator is, finds everything as it was."""
    before = set(threading.enumerate())
    for refused in (["no evaluator"], [JSONValidation(), JSONValidation()]):
        with pytest.raises((TypeError, ValueError), match="evaluator"):
            traceai_vllm.instrument(tracer_provider=TracerProvider(), store=tmp_path, evaluators=refused)
    assert set(threading.enumerate()) <= before
    assert not traceai_vllm.VLLMInstrumentor().is_instrumented_by_opentelemetry
