"""One adapter on the installed package of others: run by ``compat.adapters`` in an environment of its own.

    python compat/adapter_run.py ragas http://127.0.0.1:8000/v1

Prints a line of JSON for each evaluation, and ends with an error when one of them is not what it has to be.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from traceai_vllm.evals.adapters import DeepEvalEvaluator, FutureAGIEvaluator, PhoenixEvaluator, RagasEvaluator
from traceai_vllm.evals.errors import EvaluationError

if TYPE_CHECKING:
    from collections.abc import Callable

    from traceai_vllm.evals.base import BaseEvaluator

QUESTION = "When are dental claims covered?"
CONTEXT = ["Plan B covers dental claims after 180 days."]
WRONG = "Plan B covers dental claims after 90 days."
RIGHT = "Plan B covers dental claims after 180 days."


def check(evaluator: BaseEvaluator, passes: bool, **inputs: Any) -> None:
    """Evaluate, say what came of it, and see that it passes or fails as it has to."""
    result = evaluator.evaluate(**inputs)
    said = {"evaluator": result.name, "answer": inputs["response"], "score": round(result.score, 3)}
    print(json.dumps({**said, "label": result.label, "explanation": result.explanation[:120]}), flush=True)
    assert result.passed is passes, result


def futureagi(url: str) -> None:
    """Metrics that need no model."""
    del url
    hallucination = FutureAGIEvaluator("hallucination_score")
    check(hallucination, False, response=WRONG, context=CONTEXT, question=QUESTION)
    check(hallucination, True, response=RIGHT, context=CONTEXT, question=QUESTION)
    groundedness = FutureAGIEvaluator("groundedness")
    check(groundedness, True, response=RIGHT, context=CONTEXT, question=QUESTION)
    check(FutureAGIEvaluator("is_json"), True, response='{"days": 180}')
    try:
        groundedness.evaluate(response=RIGHT, context=CONTEXT)
    except EvaluationError:
        print(json.dumps({"evaluator": groundedness.name, "without a question": "no score"}))
    else:
        raise AssertionError("a missing input is a score of 0")


def deepeval(url: str) -> None:
    """One metric without a model, one with a model behind an OpenAI endpoint."""
    from deepeval.metrics import ExactMatchMetric, HallucinationMetric
    from deepeval.models import GPTModel

    check(DeepEvalEvaluator(ExactMatchMetric()), True, response=RIGHT, question=QUESTION, expected=RIGHT)
    check(DeepEvalEvaluator(ExactMatchMetric()), False, response=WRONG, question=QUESTION, expected=RIGHT)
    model = GPTModel("gpt-4o-mini", base_url=url, api_key="none")
    check(DeepEvalEvaluator(HallucinationMetric(model=model)), False, response=WRONG, context=CONTEXT, question="?")


def ragas(url: str) -> None:
    """Both kinds of metrics, and one with a model behind an OpenAI endpoint."""
    from langchain_openai import ChatOpenAI
    from ragas.llms import LangchainLLMWrapper
    from ragas.metrics import AspectCritic
    from ragas.metrics import ExactMatch as SingleTurn
    from ragas.metrics.collections import ExactMatch

    check(RagasEvaluator(SingleTurn()), True, response=RIGHT, expected=RIGHT)
    check(RagasEvaluator(ExactMatch()), False, response=WRONG, expected=RIGHT)
    chat = LangchainLLMWrapper(ChatOpenAI(model="gpt-4o-mini", base_url=url, api_key="none"))
    critic = AspectCritic(name="right_days", definition="Are the days right?", llm=chat)
    check(RagasEvaluator(critic), False, response=WRONG, question=QUESTION)


def phoenix(url: str) -> None:
    """One evaluator without a model, one with a model behind an OpenAI endpoint."""
    from phoenix.evals import LLM
    from phoenix.evals.metrics import FaithfulnessEvaluator, exact_match

    check(PhoenixEvaluator(exact_match), True, response=RIGHT, expected=RIGHT)
    model = LLM(provider="openai", model="gpt-4o-mini", base_url=url, api_key="none")
    faithful = PhoenixEvaluator(FaithfulnessEvaluator(llm=model))
    check(faithful, False, response=WRONG, context=CONTEXT, question=QUESTION)


def lettucedetect(url: str) -> None:
    """Our reading of its models is that of its own package: the same probability for each token of an answer."""
    del url
    from lettucedetect.detectors.transformer import TransformerDetector

    from traceai_vllm.evals.backends import TokenDetector

    with tempfile.TemporaryDirectory() as folder:
        tiny_token_classifier(folder)
        theirs, ours = TransformerDetector(folder, device="cpu"), TokenDetector(folder, device="cpu")
        for question in (QUESTION, None):
            *expected, _separator = (token["prob"] for token in theirs.predict(CONTEXT, WRONG, question, "tokens"))
            found = [wrong for _, _, wrong in ours.tokens(WRONG, CONTEXT, question)]
            assert len(found) == len(expected)
            assert all(abs(one - other) < 1e-5 for one, other in zip(found, expected, strict=True)), (found, expected)
            print(json.dumps({"question": question, "tokens": len(found), "the same": True}), flush=True)


def tiny_token_classifier(folder: str) -> None:
    """Write a token classifier with random weights, and a tokenizer of single letters, that load like real ones."""
    import string

    from transformers import BertConfig, BertForTokenClassification, BertTokenizerFast

    pieces = [*string.ascii_lowercase, *string.digits, *string.punctuation]
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *pieces, *("##" + piece for piece in pieces)]
    BertTokenizerFast(vocab={word: i for i, word in enumerate(words)}, do_lower_case=True).save_pretrained(folder)
    shape = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    config = BertConfig(vocab_size=len(words), num_labels=2, max_position_embeddings=1024, **shape)
    BertForTokenClassification(config).save_pretrained(folder)


RUNS: dict[str, tuple[str, Callable[[str], None]]] = {
    "futureagi": ("ai-evaluation", futureagi),
    "deepeval": ("deepeval", deepeval),
    "ragas": ("ragas", ragas),
    "phoenix": ("arize-phoenix-evals", phoenix),
    "lettucedetect": ("lettucedetect", lettucedetect),
}


def main() -> None:
    """Run the adapter that the command line names."""
    name, url = sys.argv[1:]
    os.environ.setdefault("DEEPEVAL_TELEMETRY_OPT_OUT", "YES")
    os.environ.setdefault("RAGAS_DO_NOT_TRACK", "true")
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    trace.set_tracer_provider(provider)
    distribution, run = RUNS[name]
    run(url)
    spans = [span.name for span in exporter.get_finished_spans()]
    assert spans == [], f"what it calls is traced: {spans}"
    print(json.dumps({"package": distribution, "version": version(distribution)}))


if __name__ == "__main__":
    main()
