"""A user's program: one line of ours, at the place that the first argument names."""

from __future__ import annotations

import json
import sys

where, model, store, answers = sys.argv[1:]


def main() -> None:
    import traceai_vllm

    if where == "before_import":
        traceai_vllm.instrument(store=store)
        assert "torch" not in sys.modules
        assert "vllm" not in sys.modules
    from vllm import LLM, SamplingParams

    if where == "after_import":
        traceai_vllm.instrument(store=store)
    llm = LLM(model, enforce_eager=True, max_model_len=256, max_num_seqs=8)
    if where == "after_engine":
        traceai_vllm.instrument(store=store)
    params = SamplingParams(max_tokens=4, temperature=0.0, ignore_eos=True)
    with traceai_vllm.tags(route="support", prompt_version="v3", extra={"naïve": "käse ☃"}):
        outputs = llm.chat([[{"role": "user", "content": text}] for text in ("hello", "good morning")], params)
    llm.generate("bye", SamplingParams(max_tokens=4, n=2, temperature=1.0), use_tqdm=False)
    with open(answers, "w") as file:
        json.dump({output.request_id: len(output.prompt_token_ids) for output in outputs}, file)


if __name__ == "__main__":  # vLLM starts its engine core by importing this file anew
    main()
