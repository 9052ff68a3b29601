"""The setting that all parts share: models, vLLM's environment, engines, prompts."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).parents[2]
ONE_LAYER = "one-layer"
REAL_MODEL = "smollm2-135m-instruct"
PROMPT_TOKENS = 32

# float32, because it is the fastest format on CPUs without bf16 instructions: the cheaper the engine, the harder the test.
# Prefix caching is off and prompts are token ids, so that every request of every arm costs the engine the same.
ENGINE_ARGS: dict[str, Any] = {
    "dtype": "float32",
    "enforce_eager": True,
    "max_model_len": 1024,
    "max_num_seqs": 256,
    "enable_prefix_caching": False,
}


def prepare_environment(*, engine_in_process: bool) -> None:
    """Set vLLM's environment variables; must run before vLLM is imported."""
    os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0" if engine_in_process else "1"
    os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
    os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
    os.environ.setdefault("HF_HUB_OFFLINE", "1")


def model_path(name: str) -> Path:
    """Return where a model is: in ``.models``, or in the directory that TRACEAI_BENCH_MODELS names."""
    path = Path(os.environ.get("TRACEAI_BENCH_MODELS", REPOSITORY / ".models")) / name
    if not (path / "config.json").exists():
        raise SystemExit(f"{path} is missing: run `make setup` first")
    return path


def engine_args(name: str, **changes: Any) -> dict[str, Any]:
    """Return the arguments of ``LLM`` or ``AsyncEngineArgs`` for a model."""
    path = model_path(name)
    load_format = "auto" if any(path.glob("*.safetensors")) else "dummy"
    return {"model": str(path), "load_format": load_format, **ENGINE_ARGS, **changes}


def prompts(count: int) -> list[dict[str, list[int]]]:
    """Return ``count`` different prompts as token ids: no arm pays for tokenization."""
    return [
        {"prompt_token_ids": [(7 * request + 13 * position) % 30_000 + 100 for position in range(PROMPT_TOKENS)]}
        for request in range(count)
    ]


def sampling(max_tokens: int) -> Any:
    """Return greedy sampling of exactly ``max_tokens`` tokens."""
    from vllm import SamplingParams

    return SamplingParams(max_tokens=max_tokens, temperature=0.0, ignore_eos=True)
