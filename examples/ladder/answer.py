"""One variant answers all prompts, in one process, as a batch of vLLM's offline `LLM`; started by `ladder.py`.

    answer.py MODEL --arm baseline --store DIR

Nothing but `instrument()` and `tags()` is needed for spans with scores. What makes pairs of them are three attributes
that a gateway would set; here a span processor of four lines does.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

os.environ.update(
    HF_HUB_OFFLINE="1",
    VLLM_NO_USAGE_STATS="1",
    VLLM_ENABLE_V1_MULTIPROCESSING="0",
    OTEL_TRACES_EXPORTER="none",
    OTEL_METRICS_EXPORTER="none",
    OTEL_LOGS_EXPORTER="none",
)
os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")

import prompts
from opentelemetry import trace
from opentelemetry.sdk.trace import SpanProcessor
from right_answer import RightAnswer

import traceai_vllm
from traceai_vllm.evals import registry
from traceai_vllm.evals.slices import SliceSettings

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import Span

REFUSED = 3
_TAG = "traceai.tag."
# A model this small would fill its answers with the spaces that JSON allows.
_STRUCTURED = {"backend": "xgrammar", "disable_any_whitespace": True}


class Pairing(SpanProcessor):
    """Says on each span which pair it belongs to."""

    def __init__(self, arm: str) -> None:
        self._arm = arm

    def on_start(self, span: Span, parent_context: Any = None) -> None:
        found = dict(span.attributes or {})
        if _TAG + "pair" in found:
            hashed = found[_TAG + "prompt_hash"]
            span.set_attribute("traceai.pair.id", found[_TAG + "pair"])
            span.set_attribute("traceai.pair.arm", self._arm)
            span.set_attribute("traceai.pair.prompt_hash", hashed)


def main() -> int:
    """Answer, and return the exit status: 3 when this machine cannot run the model."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--arm", choices=("baseline", "candidate"), required=True)
    parser.add_argument("--store", type=Path, required=True)
    parser.add_argument("--variant", help="what the spans call the model (default: its folder's name)")
    parser.add_argument("--format", help="number format of its weights (default: what the engine says)")
    parser.add_argument("--order", type=int, default=0, help="seed of the order in which the prompts are sent")
    parser.add_argument("--limit", type=int, help="at most so many prompts of each route")
    options = parser.parse_args()
    asked = prompts.load(options.limit)
    random.Random(options.order).shuffle(asked)
    traceai_vllm.instrument(
        store=options.store,
        model_variant=options.variant,
        quantization_format=options.format,
        capture_content="SPAN_ONLY",
        evaluators=[*registry.evaluators(registry.names()), RightAnswer(expected(asked))],
        slices=SliceSettings(regulated_routes=[prompts.REGULATED_ROUTE], long_context_tokens=400),
    )
    trace.get_tracer_provider().add_span_processor(Pairing(options.arm))  # type: ignore[attr-defined]
    try:
        answer(options.model, asked)
    except Exception as error:
        print(f"{type(error).__name__}: {error}".splitlines()[0], flush=True)
        return REFUSED
    finally:
        traceai_vllm.uninstrument()
    return 0


def expected(asked: list[dict[str, Any]]) -> dict[str, list[str]]:
    """By question, which is what an evaluator is given."""
    return {prompt["messages"][-1]["content"]: prompt["expected"] for prompt in asked}


def answer(model: Path, asked: list[dict[str, Any]]) -> None:
    """Enqueue each prompt within its own tags, then let vLLM work on all of them."""
    from vllm import LLM, SamplingParams
    from vllm.sampling_params import StructuredOutputsParams

    llm = LLM(
        str(model),
        dtype="float32",  # weights keep the values that they have in bf16, which many CPUs calculate in slowly
        enforce_eager=True,
        max_model_len=1024,
        seed=0,
        structured_outputs_config=_STRUCTURED,
    )
    for prompt in asked:
        schema = prompt.get("response_format", {}).get("json_schema", {}).get("schema")
        params = SamplingParams(
            temperature=0,
            max_tokens=prompt["max_tokens"],
            structured_outputs=StructuredOutputsParams(json=schema) if schema else None,
        )
        hashed = hashlib.sha256(json.dumps(prompt["messages"]).encode()).hexdigest()[:16]
        with traceai_vllm.tags(
            route=prompt["route"],
            prompt_version=prompt["prompt_version"],
            traffic_cohort="ladder",
            context=prompt.get("context"),
            extra={"pair": prompt["id"], "prompt_hash": hashed},
        ):
            llm.enqueue_chat(prompt["messages"], params, tools=prompt.get("tools"), use_tqdm=False)
    llm.wait_for_completion(use_tqdm=sys.stdout.isatty())


if __name__ == "__main__":
    sys.exit(main())
