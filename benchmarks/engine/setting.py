"""The setting that all parts share: models, vLLM's environment, engines, prompts."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).parents[2]
SMALL_VOCABULARY = "one-layer"
REAL_MODEL = "smollm2-135m-instruct"
PROMPT_TOKENS = 32
# Threads that the model computes with; vLLM's own choice (all cores) when unset.
MODEL_THREADS = "TRACEAI_BENCH_MODEL_THREADS"

# float32, the fastest format on CPUs without bf16 instructions: the cheaper the engine, the harder the test.
# Prefix caching is off and prompts are token ids, so that every request of every arm costs the engine the same.
ENGINE_ARGS: dict[str, Any] = {
    "dtype": "float32",
    "enforce_eager": True,
    "max_model_len": 1024,
    "max_num_seqs": 256,
    "enable_prefix_caching": False,
}
_ONE_LAYER = {
    "num_hidden_layers": 1,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 32,
}


def prepare_environment(*, engine_in_process: bool) -> None:
    """Set vLLM's environment variables; must run before vLLM is imported."""
    os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0" if engine_in_process else "1"
    os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
    os.environ.setdefault("VLLM_LOGGING_STREAM", "ext://sys.stderr")
    os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    # Where a core is shared, threads that spin while they wait for each other slow the model down many times over.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    if MODEL_THREADS in os.environ:
        os.environ["OMP_NUM_THREADS"] = os.environ[MODEL_THREADS]
        os.environ["VLLM_CPU_OMP_THREADS_BIND"] = "nobind"


def model_path(name: str) -> Path:
    """Return where a model is: in ``.models``, or in the directory that TRACEAI_BENCH_MODELS names."""
    path = Path(os.environ.get("TRACEAI_BENCH_MODELS", REPOSITORY / ".models")) / name
    if not (path / "config.json").exists():
        raise SystemExit(f"{path} is missing: run `make setup` first")
    return path


def engine_args(name: str, **changes: Any) -> dict[str, Any]:
    """Return the arguments of ``LLM`` or ``AsyncEngineArgs`` for a model."""
    return {"model": str(model_path(name)), **ENGINE_ARGS, **changes}


def one_layer_args() -> dict[str, Any]:
    """Return the arguments for an engine as cheap as one with a real vocabulary gets: one layer of width 64.

    The weights are random; tokenizer and vocabulary (49,152) are SmolLM2's. The targets were set on such a model.
    """
    return engine_args(REAL_MODEL, load_format="dummy", hf_overrides=_ONE_LAYER)


def prompts(count: int) -> list[dict[str, list[int]]]:
    """Return ``count`` different prompts as token ids: no arm pays for tokenization."""
    return [
        {"prompt_token_ids": [(7 * request + 13 * position) % 3_000 + 100 for position in range(PROMPT_TOKENS)]}
        for request in range(count)
    ]


def sampling(max_tokens: int) -> Any:
    """Return greedy sampling of exactly ``max_tokens`` tokens."""
    from vllm import SamplingParams

    return SamplingParams(max_tokens=max_tokens, temperature=0.0, ignore_eos=True)
