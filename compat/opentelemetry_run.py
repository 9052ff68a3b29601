"""A request's way to its telemetry on the OpenTelemetry that is installed: run by ``compat.opentelemetries``.

    python compat/opentelemetry_run.py

Ends with an error where a span, a measurement or a score is missing, or an error of ours was swallowed.
"""

from __future__ import annotations

import json
import os
import sys
from importlib.metadata import version

from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from tests.support.records import finished_record, in_memory_metrics, in_memory_tracing, points

from traceai_vllm import guard
from traceai_vllm.cli import check_export
from traceai_vllm.evals import JSONValidation
from traceai_vllm.evals.pipeline import EvaluatorSpanProcessor
from traceai_vllm.telemetry import semconv
from traceai_vllm.telemetry.pipeline import Pipeline

EVALUATORS = {"JSONValidation", "Longer"}
ANSWER = json.dumps([{"role": "assistant", "parts": [{"type": "text", "content": "{}"}]}])


def requests_are_spans_and_measurements() -> None:
    """The first one and one that comes after it: then it is known that spans are recorded."""
    tracing, exporter = in_memory_tracing()
    metering, reader = in_memory_metrics()
    pipeline = Pipeline(tracing.get_tracer("test"), metering.get_meter("test"))
    for _ in range(2):
        pipeline.finish(finished_record())
    spans = exporter.get_finished_spans()
    assert [(span.attributes or {})["model_variant"] for span in spans] == ["llama-3.1-70b-awq"] * 2, spans
    (duration,) = points(reader)[semconv.REQUEST_DURATION.name]
    assert (duration.count, duration.sum) == (2, 4.0), duration


def what_is_sampled_off_leaves_no_span() -> None:
    """Nor an error."""
    tracing, exporter = in_memory_tracing(sampler=ALWAYS_OFF)
    metering, _ = in_memory_metrics()
    Pipeline(tracing.get_tracer("test"), metering.get_meter("test")).finish(finished_record())
    assert exporter.get_finished_spans() == ()


def spans_have_scores() -> None:
    """Each evaluator's, on the span and measured."""
    exporter, loggers = InMemorySpanExporter(), LoggerProvider()
    metering, reader = in_memory_metrics()
    processor = EvaluatorSpanProcessor(
        SimpleSpanProcessor(exporter),
        evaluators=[JSONValidation({"type": "object"}), _Longer()],
        meter_provider=metering,
        logger_provider=loggers,
    )
    tracing = TracerProvider()
    tracing.add_span_processor(processor)
    given = {semconv.OPERATION_NAME: "chat", semconv.OUTPUT_MESSAGES: ANSWER}
    tracing.get_tracer("test").start_span("chat m", attributes=given).end()
    assert processor.force_flush(10_000)
    (span,) = exporter.get_finished_spans()
    attributes = span.attributes or {}
    names = {name for name in EVALUATORS if attributes.get(f"gen_ai.evaluation.{name}.passed") is True}
    assert names == EVALUATORS, attributes
    measured = {point.attributes[semconv.EVALUATION_NAME] for point in points(reader)[semconv.EVALUATION_SCORE.name]}
    assert measured == EVALUATORS, measured
    processor.shutdown()


class _Longer:
    name = "Longer"

    def evaluate(self, *, response: str) -> float:
        return float(len(response) > 1)


def the_doctor_reads_headers() -> None:
    """Of two the one that cannot be read is named."""
    os.environ |= {"OTEL_TRACES_EXPORTER": "none", "OTEL_EXPORTER_OTLP_HEADERS": "x=1,unreadable"}
    (found,) = [finding for finding in check_export.findings(1.0) if finding.check == "headers"]
    assert "number 2 " in found.message, found


def main() -> int:
    """Run all; return the process exit status."""
    requests_are_spans_and_measurements()
    what_is_sampled_off_leaves_no_span()
    spans_have_scores()
    the_doctor_reads_headers()
    errors = guard.internal_errors()
    assert not errors, errors
    print(f"OpenTelemetry {version('opentelemetry-sdk')}: passed")
    return 0


if __name__ == "__main__":
    sys.exit(main())
