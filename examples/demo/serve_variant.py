"""Serves every prompt of the demo on one variant of the model, with tracing on. Started by ``demo.py``.

The part to copy into your own code: ``instrument()`` once, with the evaluators that score every answer, then
``tags(...)`` around the calls, as :func:`serve` has them.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import prompt_files

import traceai_vllm
from traceai_vllm.evals import Groundedness, HallucinationScore, JSONValidation, ToolSelectionAccuracy

if TYPE_CHECKING:
    from vllm import LLM, SamplingParams

REFUSED = 3  # exit status: this machine cannot run the variant


def main() -> int:
    """Load the model, serve the prompts, write the answers; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", required=True)
    parser.add_argument("--store", required=True)
    parser.add_argument("--answers", required=True, type=Path)
    parser.add_argument("--per-route", type=int)
    options = parser.parse_args()

    started = time.monotonic()
    try:
        llm = load(options.model)
        try_out(llm)
    except Exception as error:
        tell("refused", reason=f"{type(error).__name__}: {error}".splitlines()[0])
        return REFUSED
    tell("ready", seconds=time.monotonic() - started)
    evaluators = [Groundedness(), HallucinationScore(), JSONValidation(), ToolSelectionAccuracy()]
    traceai_vllm.instrument(store=options.store, evaluators=evaluators)
    with options.answers.open("w", encoding="utf-8") as file:
        for route, prompts in prompt_files.load(options.per_route).items():
            started = time.monotonic()
            for answer in serve(llm, route, prompts):
                file.write(json.dumps(answer, ensure_ascii=False) + "\n")
            tell("route", route=route, requests=len(prompts), seconds=time.monotonic() - started)
    return 0


def load(model: str) -> LLM:
    """Start vLLM in this process, as small as the prompts allow."""
    import torch
    from vllm import LLM

    options: dict[str, Any] = {"gpu_memory_utilization": 0.3} if torch.cuda.is_available() else {}
    if has_structured_outputs():
        # A model this small would fill its answers with the spaces that JSON allows.
        options["structured_outputs_config"] = {"backend": "xgrammar", "disable_any_whitespace": True}
    # Without statistics an offline engine reports no time to first token.
    return LLM(model, enforce_eager=True, max_model_len=1024, disable_log_stats=False, seed=0, **options)


def has_structured_outputs() -> bool:
    """Whether this vLLM has structured outputs under that name (0.11 and later; *guided decoding* before)."""
    from vllm import sampling_params

    return hasattr(sampling_params, "StructuredOutputsParams")


def try_out(llm: LLM) -> None:
    """Generate a token before tracing begins: some kernels are found missing only now."""
    from vllm import SamplingParams

    llm.generate(["Ready?"], SamplingParams(max_tokens=1), use_tqdm=False)


def serve(llm: LLM, route: str, prompts: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Send a route's prompts as one batch, tagged; return the answers."""
    first = prompts[0]
    with traceai_vllm.tags(
        route=route,
        prompt_version=first["prompt_version"],
        traffic_cohort="demo",
        agent_step=first["agent_step"],
    ):
        outputs = llm.chat(
            [marked(prompt) for prompt in prompts],
            [sampling(prompt) for prompt in prompts],
            tools=first.get("tools"),
            use_tqdm=False,
        )
    return [describe(prompt, output.outputs[0]) for prompt, output in zip(prompts, outputs, strict=True)]


def marked(prompt: dict[str, Any]) -> list[dict[str, Any]]:
    """The messages, with the retrieved context as a part of its own that says so: answers are checked against it."""
    messages = prompt["messages"]
    for context in prompt.get("context", ()):
        messages = [{**message, "content": split(message["content"], context)} for message in messages]
    return messages


def split(content: Any, context: str) -> Any:
    """The text as three parts round the context; as it is where the context is not in it."""
    before, found, after = content.partition(context) if isinstance(content, str) else (content, "", "")
    if not found:
        return content
    around = [{"type": "text", "text": text.strip()} for text in (before, after)]
    return [around[0], {"type": "text", "text": context, "traceai": "context"}, around[1]]


def sampling(prompt: dict[str, Any]) -> SamplingParams:
    """Greedy decoding, held to the prompt's JSON schema where it has one."""
    from vllm import SamplingParams

    schema = prompt.get("response_format", {}).get("json_schema", {}).get("schema")
    return SamplingParams(temperature=0, max_tokens=prompt["max_tokens"], **(held_to(schema) if schema else {}))


def held_to(schema: dict[str, Any]) -> dict[str, Any]:
    """The sampling arguments for a JSON schema, under the name that this vLLM has for them."""
    from vllm import sampling_params

    if has_structured_outputs():
        return {"structured_outputs": sampling_params.StructuredOutputsParams(json=schema)}
    return {"guided_decoding": sampling_params.GuidedDecodingParams(json=schema)}


def describe(prompt: dict[str, Any], choice: Any) -> dict[str, Any]:
    """One answer as it is kept for the comparison."""
    return {
        "id": prompt["id"],
        "route": prompt["route"],
        "answer": choice.text,
        "finish_reason": choice.finish_reason,
        "has_expected": prompt_files.has_expected(prompt, choice.text),
    }


def tell(event: str, **details: Any) -> None:
    """Say to ``demo.py`` how far this is; every other line of the output is log."""
    print("@demo " + json.dumps({"event": event, **details}), flush=True)


if __name__ == "__main__":
    sys.exit(main())
