"""LoRA, speculative decoding and statistics on real vLLM: what the engine reports is on the span."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from tests.integration.conftest import ENGINE_ARGS, Traced
from tests.integration.test_offline import params


def load(monkeypatch: pytest.MonkeyPatch, model: str, **options: Any) -> Any:
    from vllm import LLM

    monkeypatch.setenv("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
    return LLM(model, **ENGINE_ARGS, **options)


def write_adapter(directory: Path, config: dict[str, Any]) -> Path:
    """Write a LoRA adapter of rank 8 on the query projection, in PEFT's layout."""
    name = "base_model.model.model.layers.0.self_attn.q_proj.lora_{}.weight"
    size = config["hidden_size"]
    width = config["num_attention_heads"] * config.get("head_dim", size // config["num_attention_heads"])
    save_file(
        {name.format("A"): torch.zeros(8, size), name.format("B"): torch.zeros(width, 8)},
        directory / "adapter_model.safetensors",
    )
    adapter = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": 8, "lora_alpha": 8, "target_modules": ["q_proj"]}
    (directory / "adapter_config.json").write_text(json.dumps(adapter))
    return directory


def test_a_lora_request_names_its_adapter(
    one_layer_model: str, tmp_path: Path, traced: Traced, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The adapter's name is on the requests that used it, and on no other."""
    from vllm.lora.request import LoRARequest

    config = json.loads((Path(one_layer_model) / "config.json").read_text())
    adapter = write_adapter(tmp_path, config)
    llm = load(monkeypatch, one_layer_model, enable_lora=True, max_lora_rank=8)

    llm.generate("hello", params(), lora_request=LoRARequest("tone", 1, str(adapter)), use_tqdm=False)
    llm.generate("hello", params(), use_tqdm=False)

    assert [span.attributes.get("traceai.lora") for span in traced.requests] == ["tone", None]


def test_statistics_bring_the_engines_times_and_load(
    one_layer_model: str, traced: Traced, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With `disable_log_stats=False`, an offline engine reports queue, prefill, decode and its load, too."""
    llm = load(monkeypatch, one_layer_model, disable_log_stats=False)

    llm.generate("one", params(), use_tqdm=False)
    llm.generate("two", params(), use_tqdm=False)

    attributes = traced.requests[-1].attributes or {}
    assert attributes["traceai.engine.running"] >= 0
    assert 0 <= attributes["traceai.engine.kv_cache_usage"] <= 1
    assert attributes["traceai.preemptions"] == 0
    assert attributes["gen_ai.latency.time_in_model_decode"] > 0
    assert attributes["gen_ai.latency.time_to_first_token"] <= attributes["gen_ai.latency.e2e"]


def test_preempted_requests_say_how_often(
    one_layer_model: str, traced: Traced, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With too little KV cache for all requests some are preempted; the spans' sum is what vLLM's results say."""
    llm = load(monkeypatch, one_layer_model, disable_log_stats=False, num_gpu_blocks_override=24)

    llm.generate([f"prompt {i}" for i in range(16)], params(max_tokens=700), use_tqdm=False)

    preemptions = [span.attributes["traceai.preemptions"] for span in traced.requests]
    assert len(preemptions) == 16
    assert sum(preemptions) > 0


def test_speculative_acceptance_is_what_the_engine_reports(
    one_layer_model: str, traced: Traced, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Proposed and accepted draft tokens are on the span, where vLLM is told to keep them per request."""
    llm = load(
        monkeypatch,
        one_layer_model,
        per_request_spec_decode_metrics="summary",
        speculative_config={
            "method": "ngram",
            "num_speculative_tokens": 3,
            "prompt_lookup_max": 3,
            "prompt_lookup_min": 1,
        },
    )

    (output,) = llm.generate("a b a b a b a b", params(max_tokens=30), use_tqdm=False)

    _, attributes = traced.request()
    reported = output.outputs[0].spec_decode_metrics
    assert attributes["traceai.speculative.draft_tokens"] == reported.num_draft_tokens > 0
    assert 0 < attributes["traceai.speculative.accepted_tokens"] <= attributes["traceai.speculative.draft_tokens"]
    assert attributes["gen_ai.usage.output_tokens"] == 30
