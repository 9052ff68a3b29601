"""Variant detection on real engines: each quantized checkpoint that this CPU can run."""

from __future__ import annotations

import gc
from typing import Any

import pytest

from tests.integration.conftest import ENGINE_ARGS, MODELS, Traced
from tests.integration.test_offline import params

BF16 = {"quantization_format": "bf16", "weights": "bf16", "activations": "bf16", "kv_cache": "bf16"}
NAME = "smollm2-135m-instruct"


@pytest.mark.parametrize(
    ("model", "options", "expected"),
    [
        (NAME, {}, {"model_variant": NAME, **BF16}),
        (
            f"{NAME}-w8a8",
            {},
            {
                "model_variant": f"{NAME}-w8a8",
                "quantization_format": "int8",
                "method": "compressed-tensors",
                "weights": "int8",
                "activations": "int8",
                "kv_cache": "bf16",
            },
        ),
        (
            f"{NAME}-w4a16",
            {},
            {
                "model_variant": f"{NAME}-w4a16",
                "quantization_format": "int4",
                "method": "compressed-tensors",
                "weights": "int4",
                "activations": "bf16",
                "kv_cache": "bf16",
                "group_size": 32,
            },
        ),
        (NAME, {"kv_cache_dtype": "fp8"}, {"model_variant": NAME, **BF16, "kv_cache": "fp8"}),
    ],
    ids=["bf16", "int8 w8a8", "int4 w4a16", "fp8 kv cache"],
)
def test_an_engine_says_what_it_serves(
    traced: Traced, monkeypatch: pytest.MonkeyPatch, model: str, options: dict[str, Any], expected: dict[str, Any]
) -> None:
    """The span of a request names the artifact and its number formats, without anybody telling us."""
    from vllm import LLM

    monkeypatch.setenv("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
    try:
        llm = LLM(str(MODELS / model), **ENGINE_ARGS, **options)
        llm.generate("The capital of France is", params(), use_tqdm=False)
    except Exception as error:
        # int4 and FP8 KV cache need AVX-512; which machine can is found by asking vLLM. bf16 and int8 run on all.
        if "w4a16" not in model and not options:
            raise
        gc.collect()
        pytest.skip(f"vLLM cannot run this on the CPU of this machine: {type(error).__name__}: {str(error)[:200]}")

    _, attributes = traced.request()
    detail = {key.removeprefix("traceai.quantization."): value for key, value in attributes.items()}
    assert {key: detail.get(key) for key in expected} == expected
