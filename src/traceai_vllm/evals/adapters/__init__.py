"""Evaluators of other packages as ours: for the span pipeline, the store, and wherever else evaluators go.

    from ragas.metrics.collections import Faithfulness

    from traceai_vllm.evals.adapters import RagasEvaluator

    instrument(evaluators=[RagasEvaluator(Faithfulness(llm=...))])

A package is imported when its adapter is made or asked, and not before. None of them is an extra of traceai-vllm: their
requirements exclude each other. What they call is not traced as traffic of users, and a failure that they report as a
score of 0 is a failure here.
"""

from traceai_vllm.evals.adapters.deepeval import DeepEvalEvaluator
from traceai_vllm.evals.adapters.futureagi import FutureAGIEvaluator
from traceai_vllm.evals.adapters.phoenix import PhoenixEvaluator
from traceai_vllm.evals.adapters.ragas import RagasEvaluator

__all__ = ["DeepEvalEvaluator", "FutureAGIEvaluator", "PhoenixEvaluator", "RagasEvaluator"]
