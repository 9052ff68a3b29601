"""The installed vLLM itself: each quantization method that it knows is handled, and its objects are read."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from traceai_vllm.engine.variant import detect_variant
from traceai_vllm.engine.variant_methods import METHODS, online
from traceai_vllm.engine.variant_reading import Source

# Methods that vLLM knows and we do not name formats for, on purpose, with the reason.
UNKNOWN_ON_PURPOSE: dict[str, str] = {}


def test_every_method_of_this_vllm_is_handled() -> None:
    """A method that a new vLLM brings must get a row in the table, or a reason here."""
    from vllm.model_executor.layers.quantization import QUANTIZATION_METHODS

    assert set(QUANTIZATION_METHODS) - METHODS.keys() - UNKNOWN_ON_PURPOSE.keys() == set()


def test_vllms_online_schemes_say_the_same_as_their_names() -> None:
    """What a shorthand stands for, in vLLM's `QuantKey` objects, is what we read from its name alone."""
    quantization = pytest.importorskip("vllm.config.quantization")

    for name, args in quantization._ONLINE_SHORTHANDS.items():
        by_name = online(Source(name, "bf16", experts=8))

        assert online(Source("online", "bf16", args=args, experts=8)) == by_name, name
        assert by_name.weights is not None, name


def test_the_kv_cache_hint_of_the_version_is_there() -> None:
    """`mamba_cache_mode` tells vLLM 0.15 and later from older ones, which do not follow the checkpoint."""
    from vllm.config import CacheConfig

    assert CacheConfig().mamba_cache_mode is not None


def test_a_real_engine_is_read(llm: Any) -> None:
    """A bf16 model, loaded by vLLM: its name, its formats, and no method."""
    found = detect_variant(llm.llm_engine.vllm_config)

    assert (found.model_variant, found.model) == ("one-layer", "one-layer")
    formats = (found.quantization_format, found.weights, found.activations, found.kv_cache)
    assert formats == ("bf16",) * 4
    assert (found.method, found.group_size, found.declared) == (None, None, ())


def test_int8_for_experts_is_not_claimed_for_a_dense_model(llm: Any) -> None:
    """vLLM takes `quantization="int8_per_channel_weight_only"` and rounds nothing in a dense model."""
    real = llm.llm_engine.vllm_config
    fields = ("model", "served_model_name", "dtype", "hf_config", "hf_text_config", "model_arch_config")
    asked = {name: getattr(real.model_config, name) for name in fields}
    model_config = SimpleNamespace(**asked, quantization="int8_per_channel_weight_only")

    found = detect_variant(SimpleNamespace(model_config=model_config, cache_config=real.cache_config))

    assert (found.method, found.quantization_format) == ("online", "bf16")
