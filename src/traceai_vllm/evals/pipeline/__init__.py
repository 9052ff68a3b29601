"""Evaluation between the end of a span and its export: scores travel with the trace.

    from traceai_vllm.evals.pipeline import EvaluatorSpanProcessor

    provider.add_span_processor(
        EvaluatorSpanProcessor(BatchSpanProcessor(OTLPSpanExporter()), evaluators=[Groundedness()])
    )

An ended span cannot be changed, so the processor stands before the ones that export and hands them an enriched copy.
``instrument(evaluators=[...])`` sets this up for exporters that traceai-vllm configured itself.
"""

from traceai_vllm.evals.pipeline.processor import EvaluatorSpanProcessor
from traceai_vllm.evals.pipeline.selection import Selection

__all__ = ["EvaluatorSpanProcessor", "Selection"]
