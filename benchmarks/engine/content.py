"""Part ``content``: CPU added per request when its content goes onto its span, at prompts of 1,000 tokens (target A5).

On vLLM's real frontend over a stub core, like part ``frontend``. A prompt comes as tokens with its text beside them, so
that no arm pays for tokenization; the text is English with figures in it, which the default patterns have to look at.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from opentelemetry.metrics import NoOpMeterProvider

import traceai_vllm
from benchmarks.engine.arms import Load, ours_arm, plain_engine
from benchmarks.engine.rounds import run_rounds
from benchmarks.engine.setting import one_layer_args, sampling
from benchmarks.engine.stubcore import StubCore
from benchmarks.engine.telemetry import Sink

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.engine.rounds import Arm

PROMPT_TOKENS = 1_000
REQUESTS, TOKENS = 64, 16
_SENTENCE = (
    "The waiting period of policy {0} is 30 days; claims above 1,200 euros (section 4.2) need a receipt, "
    "and whoever is insured since 2019-05-01 does not have to wait. "
)


def run(rounds: int) -> dict[str, Any]:
    """Measure, and return the samples."""
    llm = plain_engine(one_layer_args())
    llm.llm_engine.engine_core = StubCore(llm.llm_engine.engine_core, log_stats=False)
    load = TextLoad(llm, REQUESTS, TOKENS)
    arms = [load.arm("bare"), load.arm("bare_again"), ours_arm(load, "ours", Sink()), _content_arm(load, Sink())]
    facts = {"prompt_tokens": PROMPT_TOKENS, "prompt_characters": len(load.prompts(1)[0]["prompt"])}
    return {"facts": facts, "groups": {"content": run_rounds("content, 1,000 tokens", arms, rounds)}}


@dataclass(frozen=True, slots=True)
class TextLoad(Load):
    """A load whose prompts have a text."""

    def prompts(self, count: int) -> list[dict[str, Any]]:
        """Return ``count`` different prompts."""
        tokenizer = self.llm.get_tokenizer()
        made = []
        for number in range(count):
            tokens = tokenizer.encode(_SENTENCE.format(number) * 40)[:PROMPT_TOKENS]
            made.append({"prompt_token_ids": tokens, "prompt": tokenizer.decode(tokens)})
        return made

    def run(self, requests: int | None = None) -> int:
        """Run the requests and return how many they were."""
        count = requests or self.requests
        answers = self.llm.generate(_prompts(self)[:count], sampling(self.tokens), use_tqdm=False)
        if any(not answer.prompt for answer in answers):
            raise RuntimeError("vLLM lost the text of a prompt")
        return len(answers)


_made: dict[int, list[dict[str, Any]]] = {}


def _prompts(load: TextLoad) -> list[dict[str, Any]]:
    return _made.setdefault(id(load.llm), load.prompts(load.requests))


def _content_arm(load: TextLoad, sink: Sink) -> Arm:
    return load.arm("ours_content", partial(_capturing, sink), sink, (1, 1))


@contextmanager
def _capturing(sink: Sink) -> Iterator[None]:
    traceai_vllm.instrument(
        tracer_provider=sink.provider, meter_provider=NoOpMeterProvider(), capture_content="SPAN_ONLY"
    )
    try:
        yield
    finally:
        traceai_vllm.uninstrument()
