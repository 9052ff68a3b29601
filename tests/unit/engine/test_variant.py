"""Which variant an engine serves: read from its config, exactly, and None where the config does not say."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from enum import Enum
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from traceai_vllm.engine import variant
from traceai_vllm.engine.variant import detect_variant, override_variant
from traceai_vllm.engine.variant_methods import METHODS
from traceai_vllm.engine.variant_reading import (
    as_format,
    as_group,
    as_list,
    as_text,
    as_whole,
    as_word,
    entries,
    read,
    spelled,
)
from traceai_vllm.record import UNKNOWN_VARIANT, Variant

CHECKPOINTS = Path(__file__).parent / "checkpoints"


class Spelled:
    """Stands for a torch dtype: nothing is known of it but how it spells itself."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __str__(self) -> str:
        return self.name


def engine(
    *,
    model: Any = "org/model",
    served: Any = None,
    quantization: Any = None,
    dtype: str = "torch.bfloat16",
    cache_dtype: Any = "auto",
    hf_config: dict[str, Any] | None = None,
    load_format: str = "auto",
    quant_config: Any = None,
    **model_config: Any,
) -> Any:
    """A `VllmConfig` of vLLM 0.15 or later, with only what the detection reads."""
    hf = _namespace(hf_config or {})
    if type(getattr(hf, "text_config", None)) is dict:
        hf.text_config = _namespace(hf.text_config)
    return SimpleNamespace(
        model_config=SimpleNamespace(
            model=model,
            served_model_name=served if served is not None else model,
            quantization=quantization,
            dtype=Spelled(dtype),
            hf_config=hf,
            **model_config,
        ),
        cache_config=SimpleNamespace(cache_dtype=cache_dtype, mamba_cache_mode="none"),
        load_config=SimpleNamespace(load_format=load_format),
        quant_config=quant_config,
    )


def _namespace(fields: dict[Any, Any]) -> SimpleNamespace:
    return SimpleNamespace(**{str(name): value for name, value in fields.items()})


def formats(vllm_config: Any) -> tuple[str | None, str | None, str | None, str | None, int | None]:
    """Method, format, weights, activations, group size: what a quantization method decides."""
    found = detect_variant(vllm_config)
    return found.method, found.quantization_format, found.weights, found.activations, found.group_size


# Published checkpoints: method, quantization_format, weights, activations, kv_cache, group_size.
EXPECTED: dict[str, tuple[str, str, str, str, str, int | None]] = {
    "auto_round_int4": ("auto-round", "int4", "int4", "fp16", "fp16", 128),
    "awq_llama_70b": ("awq", "int4", "int4", "fp16", "fp16", 128),
    "awq_mistral_7b": ("awq", "int4", "int4", "fp16", "fp16", 128),
    "bnb_nf4_llama_3_1_8b": ("bitsandbytes", "nf4", "nf4", "bf16", "bf16", None),
    "ct_fp8_block_kv_fp8_laguna": ("compressed-tensors", "fp8", "fp8", "fp8", "fp8", 128),
    "ct_fp8_dynamic_llama_3_1_8b": ("compressed-tensors", "fp8", "fp8", "fp8", "bf16", None),
    "ct_fp8_static_llama_3_1_8b": ("compressed-tensors", "fp8", "fp8", "fp8", "bf16", None),
    "ct_mixed_deepseek_v4_flash": ("compressed-tensors", "mixed", "fp8+nvfp4", "fp8+nvfp4", "bf16", None),
    "ct_nvfp4_llama_3_3_70b": ("compressed-tensors", "nvfp4", "nvfp4", "nvfp4", "bf16", 16),
    "ct_w4a16_nested_kimi_k2_5": ("compressed-tensors", "int4", "int4", "bf16", "bf16", 32),
    "ct_w4a16_qwen2_5_7b": ("compressed-tensors", "int4", "int4", "bf16", "bf16", 128),
    "ct_w8a8_llama_3_1_8b": ("compressed-tensors", "int8", "int8", "int8", "bf16", None),
    "fbgemm_fp8_llama_3_1_405b": ("fbgemm_fp8", "fp8", "fp8", "fp8", "bf16", None),
    "fp8_deepseek_v3": ("fp8", "fp8", "fp8", "fp8", "bf16", 128),
    "fp8_deepseek_v4_flash": ("fp8", "mixed", "fp8+mxfp4", "fp8", "bf16", None),
    "fp8_kv_llama_3_8b": ("fp8", "fp8", "fp8", "fp8", "bf16", None),
    "fp8_qwen3_8b": ("fp8", "fp8", "fp8", "fp8", "bf16", 128),
    "gptq_llama_2_7b": ("gptq", "int4", "int4", "fp16", "fp16", 128),
    "gptq_llama_2_7b_8bit": ("gptq", "int8", "int8", "fp16", "fp16", None),
    "hqq_llama_3_1_8b": ("hqq", "int4", "int4", "fp16", "fp16", 64),
    "modelopt_fp8_llama_3_1_8b": ("modelopt", "fp8", "fp8", "fp8", "fp8_e4m3", None),
    "modelopt_mixed": ("modelopt", "mixed", "fp8+nvfp4", "fp8+nvfp4", "bf16", None),
    "modelopt_nvfp4_qwen3_32b": ("modelopt", "nvfp4", "nvfp4", "nvfp4", "bf16", 16),
    "mxfp4_gpt_oss_20b": ("mxfp4", "mxfp4", "mxfp4", "bf16", "bf16", 32),
    "quark_fp8_kv_llama_3_1_8b": ("quark", "fp8", "fp8", "fp8", "bf16", None),
    "quark_mxfp4_llama_3_3_70b": ("quark", "mxfp4", "mxfp4", "mxfp4", "bf16", 32),
    "torchao_fp8_qwen3_8b": ("torchao", "fp8", "fp8", "fp8", "bf16", None),
    "torchao_int4_qwen3_8b": ("torchao", "int4", "int4", "bf16", "bf16", 128),
    "torchao_int8_int4_qwen3_4b": ("torchao", "mixed", "int4+int8", "bf16+int8", "bf16", None),
    "torchao_int8_weight_only": ("torchao", "int8", "int8", "bf16", "bf16", None),
}


@pytest.mark.parametrize("path", sorted(CHECKPOINTS.glob("*.json")), ids=lambda path: path.stem)
def test_a_published_checkpoint_is_named_for_what_it_is(path: Path) -> None:
    """Method, formats, KV cache and group size of a checkpoint, from its own `quantization_config`.

    Where the KV cache's dtype is `auto`, the checkpoint's wish counts only if vLLM follows it: it does for
    compressed-tensors (Laguna), and does not for AutoFP8 (`fp8_kv_llama_3_8b`) and Quark.
    """
    fixture = json.loads(path.read_text())
    method, quantization_format, weights, activations, kv_cache, group_size = EXPECTED[path.stem]

    found = detect_variant(engine(model="org/name", hf_config=fixture["hf_config"], **fixture["engine"]))

    assert found == Variant(
        model_variant="name",
        quantization_format=quantization_format,
        model="org/name",
        method=method,
        weights=weights,
        activations=activations,
        kv_cache=kv_cache,
        group_size=group_size,
    )


@pytest.mark.parametrize(
    ("dtype", "expected"),
    [("torch.bfloat16", "bf16"), ("torch.float16", "fp16"), ("torch.float32", "fp32"), ("half", "fp16")],
)
def test_plain_weights_have_the_format_of_the_dtype(dtype: str, expected: str) -> None:
    """Nothing quantized: weights, activations and KV cache are in the model's dtype; there is no method."""
    assert detect_variant(engine(dtype=dtype)) == Variant(
        model_variant="model",
        quantization_format=expected,
        model="org/model",
        weights=expected,
        activations=expected,
        kv_cache=expected,
    )


DENSE: dict[str, Any] = {"model_type": "llama"}
EXPERTS: dict[str, Any] = {"model_type": "mixtral", "num_local_experts": 8}


class TestWeightsThatVllmRoundsWhileLoading:
    @pytest.mark.parametrize(
        ("quantization", "weights", "activations", "group_size"),
        [
            ("fp8", "fp8", "fp8", None),
            ("fp8_per_tensor", "fp8", "fp8", None),
            ("fp8_per_channel", "fp8", "fp8", None),
            ("ptpc_fp8", "fp8", "fp8", None),
            ("fp8_per_block", "fp8", "fp8", 128),
            ("mxfp8", "mxfp8", "mxfp8", 32),
            ("mxfp4", "mxfp4", "mxfp4", 32),
        ],
    )
    @pytest.mark.parametrize("hf_config", [DENSE, EXPERTS], ids=["dense", "experts"])
    def test_shorthands(
        self, hf_config: Any, quantization: str, weights: str, activations: str, group_size: int | None
    ) -> None:
        """`--quantization fp8` and its like, for a checkpoint without a quantization config."""
        found = formats(engine(quantization=quantization, hf_config=hf_config))

        assert found == ("online", weights, weights, activations, group_size)

    @pytest.mark.parametrize("quantization", ["int8_per_channel_weight_only", "experts_int8"])
    def test_int8_on_experts(self, quantization: str) -> None:
        """Experts are rounded to int8, and computed in the model's dtype."""
        found = formats(engine(quantization=quantization, hf_config=EXPERTS))

        assert found == ("online", "int8", "int8", "bf16", None)

    @pytest.mark.parametrize("quantization", ["int8_per_channel_weight_only", "experts_int8", "nvfp4_per_token"])
    def test_a_scheme_for_experts_leaves_a_dense_model_as_it_is(self, quantization: str) -> None:
        """vLLM rounds no linear layer to int8 or NVFP4: a dense model is bf16, whatever was asked for."""
        found = formats(engine(quantization=quantization, hf_config=DENSE))

        assert found == ("online", "bf16", "bf16", "bf16", None)

    def test_without_knowing_the_model_a_scheme_for_experts_says_nothing(self) -> None:
        """Not known to be dense or not: the format is unknown, not int8."""
        config = engine(quantization="int8_per_channel_weight_only")
        config.model_config.hf_config = None

        assert formats(config) == ("online", None, None, None, None)

    @pytest.mark.parametrize(
        ("args", "expected"),
        [
            ({"linear": "fp8_per_block_static", "moe": "fp8_per_block"}, ("fp8", "fp8", "fp8", 128)),
            (
                {"linear": {"weight": "mxfp8"}, "moe": {"weight": "mxfp4"}},
                ("mixed", "mxfp4+mxfp8", "mxfp4+mxfp8", 32),
            ),
            ({"moe": "int8_per_channel_static"}, ("int8", "int8", "bf16", None)),
            ({"targets": {"re:.*q_proj": "mxfp8", "*.experts": "mxfp8"}}, ("mxfp8", "mxfp8", "mxfp8", 32)),
            ({"ignore": ["lm_head"]}, (None, None, None, None)),
        ],
        ids=["linear and experts alike", "different", "experts only", "by layer name", "no scheme"],
    )
    def test_quantization_config_of_the_user(self, args: Any, expected: tuple[Any, ...]) -> None:
        """`--quantization online` takes the formats from `--quantization-config` (0.22 and later)."""
        config = engine(quantization="online", hf_config=EXPERTS, quantization_config=args)

        assert formats(config) == ("online", *expected)

    def test_global_scheme(self) -> None:
        """0.20 and 0.21 spell it with an enum: one scheme for all, and overrides."""

        class OnlineQuantScheme(Enum):
            FP8_PER_BLOCK = "fp8_per_block"
            INT8 = "int8_per_channel_weight_only"

        args = SimpleNamespace(
            global_scheme=OnlineQuantScheme.FP8_PER_BLOCK,
            linear_scheme_override=None,
            moe_scheme_override=OnlineQuantScheme.INT8,
        )
        config = engine(quantization="online", hf_config=EXPERTS, quantization_config=args)

        assert formats(config) == ("online", "mixed", "fp8+int8", "bf16+fp8", None)


MXFP8_AUTO_ROUND = ("auto-round", "mxfp8", "mxfp8", "mxfp8", 32)
MIXED_AUTO_ROUND = ("auto-round", "mixed", "int4+int8", "bf16", None)


class TestFieldsThatCheckpointsSpellInTheirOwnWay:
    @pytest.mark.parametrize(
        ("name", "weights"),
        [
            ("/models/Llama-3.2-1B-Instruct-Q4_K_M.gguf", "int4"),
            ("unsloth/Qwen3-0.6B-GGUF:Q8_0", "int8"),
            ("/models/deepseek-UD-Q2_K_XL-00001-of-00005.gguf", "int2"),
            ("/models/model.IQ4_XS.gguf", "iq4"),
            ("/models/model.BF16.gguf", "bf16"),
            ("/models/model-f16.gguf", "fp16"),
            ("/models/gpt-oss-20b-mxfp4.gguf", "mxfp4"),
            ("/models/Q4_K_M/model.gguf", None),
        ],
    )
    def test_gguf_is_known_by_the_file_name_only(self, name: str, weights: str | None) -> None:
        """The file's own header is not in vLLM's config; a name without a type says nothing."""
        found = formats(engine(model=name, quantization="gguf"))

        assert found == ("gguf", weights, weights, "bf16", None)

    def test_a_loader_names_the_method_where_vllm_does_not(self) -> None:
        """A GGUF plug-in may set the load format alone."""
        assert formats(engine(model="m-Q4_0.gguf", load_format="gguf"))[:2] == ("gguf", "int4")

    @pytest.mark.parametrize(
        ("config", "expected"),
        [
            (None, ("nf4", "bf16")),
            ({"load_in_8bit": True, "load_in_4bit": False}, ("int8", "int8")),
            ({"load_in_4bit": True, "bnb_4bit_quant_type": "fp4"}, ("fp4", "bf16")),
            ({"load_in_4bit": True}, ("fp4", "bf16")),
        ],
        ids=["in flight", "8 bit", "fp4", "default of bitsandbytes"],
    )
    def test_bitsandbytes(self, config: Any, expected: tuple[str, str]) -> None:
        """vLLM's own rounding is NF4, though its config object says fp4; a checkpoint says what it has."""
        own = SimpleNamespace(load_in_4bit=True, load_in_8bit=False, bnb_4bit_quant_type="fp4")
        hf_config = {} if config is None else {"quantization_config": config}

        method, _, weights, activations, _ = formats(
            engine(quantization="bitsandbytes", hf_config=hf_config, quant_config=own)
        )

        assert (method, weights, activations) == ("bitsandbytes", *expected)

    @pytest.mark.parametrize(
        ("scheme", "expected"),
        [
            ("int8_weight_only", ("int8", "bf16", 64)),
            ("int8_dynamic_activation_int8_weight", ("int8", "int8", 64)),
            (
                {"default": {"_type": "Int8DynamicActivationInt4WeightConfig", "_data": {"group_size": 32}}},
                ("int4", "int8", 32),
            ),
            (
                {"default": {"_type": "UIntXWeightOnlyConfig", "_data": {"dtype": "uint3"}}},
                (None, "bf16", None),
            ),
            ({"default": {"_type": "SomethingNew", "_data": {}}}, (None, None, None)),
        ],
    )
    def test_torchao_names(self, scheme: Any, expected: tuple[Any, ...]) -> None:
        """The class name tells, in either spelling; a name that we do not know is not guessed at."""
        config = {"quant_method": "torchao", "quant_type": scheme, "quant_type_kwargs": {"group_size": 64}}

        assert formats(engine(quantization="torchao", hf_config={"quantization_config": config}))[2:] == expected

    def test_torchao_without_a_checkpoint_config(self) -> None:
        """Given by `--hf-overrides`, it is only in vLLM's own object."""

        class Float8WeightOnlyConfig:
            group_size = None

        config = engine(quantization="torchao", quant_config=SimpleNamespace(torchao_config=Float8WeightOnlyConfig()))

        assert formats(config) == ("torchao", "fp8", "fp8", "bf16", None)

    @pytest.mark.parametrize("where", ["quantization_config", "compression_config"])
    def test_objects_are_as_good_as_dicts(self, where: str) -> None:
        """transformers may put its own classes, with enums, where vLLM puts the plain dict."""

        class QuantizationType(str, Enum):
            INT = "int"

        weights = SimpleNamespace(num_bits=4, type=QuantizationType.INT, group_size=128)
        group = SimpleNamespace(weights=weights, input_activations=None, targets=["Linear"])
        hf_config = {where: SimpleNamespace(config_groups={"group_0": group}, kv_cache_scheme=None)}

        found = formats(engine(quantization="compressed-tensors", hf_config=hf_config))

        assert found == ("compressed-tensors", "int4", "int4", "bf16", 128)

    def test_vllms_own_object_has_what_the_checkpoint_keeps_in_a_file_beside(self) -> None:
        """Old AWQ checkpoints have `quant_config.json` and nothing in `config.json`."""
        config = engine(quantization="awq", quant_config=SimpleNamespace(weight_bits=4, group_size=64))

        assert formats(config) == ("awq", "int4", "int4", "bf16", 64)

    @pytest.mark.parametrize("quantization", ["inc", "ipex", "moe_wna16", "humming"])
    def test_a_kernel_for_others_checkpoints_takes_their_name(self, quantization: str) -> None:
        """What matters is who quantized: the same GPTQ checkpoint has one name on all hardware."""
        config = {"quant_method": "gptq", "bits": 4, "group_size": 128}

        found = formats(engine(quantization=quantization, hf_config={"quantization_config": config}))

        assert found == ("gptq", "int4", "int4", "bf16", 128)

    @pytest.mark.parametrize(
        ("quantization", "config", "expected"),
        [
            ("qqq", {"wbits": 4, "group_size": 128}, ("qqq", "int4", "int4", "int8", 128)),
            ("tpu_int8", {"activation_scheme": "none"}, ("tpu_int8", "int8", "int8", "bf16", None)),
            ("tpu_int8", {"activation_scheme": "dynamic"}, ("tpu_int8", "int8", "int8", "int8", None)),
            ("deepspeedfp", {"bits": 6, "group_size": 512}, ("deepspeedfp", "fp6", "fp6", "bf16", 512)),
            ("fp_quant", {"forward_dtype": "mxfp4"}, ("fp_quant", "mxfp4", "mxfp4", "mxfp4", 32)),
            ("aqlm", {"nbits_per_codebook": 16}, ("aqlm", None, None, "bf16", None)),
            ("fp8", {"store_dtype": "mxfp4"}, ("fp8", "mixed", "fp8+mxfp4", "fp8", None)),
            ("mxfp8", {"quant_method": "mxfp8"}, ("mxfp8", "mxfp8", "mxfp8", "mxfp8", 32)),
            ("petit_nvfp4", {"quant_algo": "NVFP4"}, ("modelopt", "nvfp4", "nvfp4", "bf16", 16)),
            ("auto-round", {"bits": 8, "data_type": "mx_fp", "group_size": 32, "act_bits": 8}, MXFP8_AUTO_ROUND),
            ("auto-round", {"bits": 4, "extra_config": {"a": {"bits": 8}, "b": {"bits": 16}}}, MIXED_AUTO_ROUND),
        ],
    )
    def test_methods_that_few_use(self, quantization: str, config: Any, expected: tuple[Any, ...]) -> None:
        """Formats as vLLM's own classes for these methods read them."""
        found = formats(engine(quantization=quantization, hf_config={"quantization_config": config}))

        assert found == expected

    @pytest.mark.parametrize(
        ("expert_dtype", "moe_quant_algo", "weights"),
        [(None, None, "fp8+mxfp4"), ("fp8", None, "fp8"), ("fp4", "NVFP4", "fp8+nvfp4")],
    )
    def test_experts_of_deepseek_v4(self, expert_dtype: Any, moe_quant_algo: Any, weights: str) -> None:
        """FP8 with experts in a format that stands elsewhere; MXFP4, as vLLM takes it, when it stands nowhere."""
        config = {"quant_method": "fp8", "moe_quant_algo": moe_quant_algo}
        hf_config = {"quantization_config": config, "expert_dtype": expert_dtype}

        assert formats(engine(quantization="deepseek_v4_fp8", hf_config=hf_config))[2] == weights

    @pytest.mark.parametrize(
        ("stored", "columns", "scale", "expected"),
        [
            ("torch.float8_e4m3fn", -1, "torch.float32", ("fp8", "fp8", "fp8", None)),
            ("torch.float8_e4m3fn", 128, "torch.float32", ("fp8", "fp8", "fp8", 128)),
            ("torch.float8_e4m3fn", 32, "torch.uint8", ("mxfp8", "mxfp8", "mxfp8", 32)),
            ("torch.uint8", 32, "torch.uint8", ("mxfp4", "mxfp4", "mxfp4", 32)),
            ("torch.uint8", 16, "torch.float8_e4m3fn", ("nvfp4", "nvfp4", "nvfp4", 16)),
            ("torch.int8", 1, "torch.float32", ("int8", "int8", "bf16", None)),
        ],
    )
    def test_vllms_quant_keys(self, stored: str, columns: int, scale: str, expected: tuple[Any, ...]) -> None:
        """From 0.22 the user's scheme is an object: the stored dtype, and the shape and dtype of its scales."""
        described = SimpleNamespace(dtype=Spelled(scale), group_shape=SimpleNamespace(row=1, col=columns))
        spec = SimpleNamespace(weight=SimpleNamespace(dtype=Spelled(stored), scale=described), activation=None)
        args = SimpleNamespace(linear=None, moe=spec, targets=None)

        found = formats(engine(quantization="online", hf_config=EXPERTS, quantization_config=args))

        assert found == ("online", *expected)

    def test_gptq_with_wider_layers_is_mixed(self) -> None:
        """GPTQModel's `dynamic` gives some layers 8 bits; a pattern with `-` only leaves layers out."""
        config = {"bits": 4, "group_size": 128, "dynamic": {"+:.*down.*": {"bits": 8}, "-:.*gate.*": {}}}

        found = formats(engine(quantization="gptq", hf_config={"quantization_config": config}))

        assert found == ("gptq", "mixed", "int4+int8", "bf16", 128)

    def test_a_layer_that_cannot_be_named_makes_the_whole_unknown(self) -> None:
        """FP8 here and something new there is not "fp8"."""
        layers = {"a": {"quant_algo": "FP8"}, "b": {"quant_algo": "NEXT_BIG_THING"}}
        config = {"quant_algo": "MIXED_PRECISION", "quantized_layers": layers}

        found = formats(engine(quantization="modelopt_mixed", hf_config={"quantization_config": config}))

        assert found == ("modelopt", None, None, None, None)

    @pytest.mark.parametrize("quantization", ["my_plugin", "neuron_quant", "humming"])
    def test_a_method_without_readable_formats_is_named_and_no_more(self, quantization: str) -> None:
        """A plug-in's method, or one with its formats in the environment, is not guessed to be bf16."""
        assert formats(engine(quantization=quantization)) == (quantization, None, None, None, None)

    def test_no_statement_on_quantization_is_not_plain_weights(self) -> None:
        """Should vLLM rename the field one day, spans lose the format and do not claim bf16."""
        config = engine()
        del config.model_config.quantization

        assert detect_variant(config).quantization_format is None


class TestKvCache:
    @pytest.mark.parametrize(
        ("cache_dtype", "expected"),
        [
            ("auto", "bf16"),
            ("fp8", "fp8"),
            ("fp8_e5m2", "fp8_e5m2"),
            ("nvfp4", "nvfp4"),
            ("turboquant_k8v4", "turboquant_k8v4"),
            ("float16", "fp16"),
            (None, None),
        ],
    )
    def test_in_vllms_own_word(self, cache_dtype: Any, expected: str | None) -> None:
        """The cache's dtype as the engine has it; `auto` is the model's."""
        assert detect_variant(engine(cache_dtype=cache_dtype)).kv_cache == expected

    @pytest.mark.parametrize(
        ("change", "expected"),
        [("", "fp8"), ("before 0.15", "bf16"), ("MLA", "bf16"), ("explicit", "fp16")],
    )
    def test_compressed_tensors_sets_it(self, change: str, expected: str) -> None:
        """With `auto`, vLLM follows the checkpoint from 0.15, but not in MLA; a dtype given is the user's."""
        config = {"config_groups": {}, "kv_cache_scheme": {"num_bits": 8, "type": "float"}}
        vllm_config = engine(quantization="compressed-tensors", hf_config={"quantization_config": config})
        vllm_config.model_config.use_mla = change == "MLA"
        vllm_config.cache_config.cache_dtype = "float16" if change == "explicit" else "auto"
        if change == "before 0.15":
            del vllm_config.cache_config.mamba_cache_mode

        found = detect_variant(vllm_config)

        assert (found.quantization_format, found.kv_cache) == ("bf16", expected)


@pytest.mark.parametrize(
    ("model", "served", "model_variant", "shown"),
    [
        ("meta-llama/Llama-3.1-8B", None, "Llama-3.1-8B", "meta-llama/Llama-3.1-8B"),
        ("meta-llama/Llama-3.1-8B", "llama-awq", "llama-awq", "llama-awq"),
        ("meta-llama/Llama-3.1-8B", ["llama-awq", "llama"], "llama-awq", "llama-awq"),
        ("gpt2", None, "gpt2", "gpt2"),
        ("/models/llama-int4/", None, "llama-int4", "llama-int4"),
        ("/models/llama-int4/", [], "llama-int4", "llama-int4"),
        ("/hub/models--org--name-AWQ/snapshots/0a1b2c/", None, "name-AWQ", "name-AWQ"),
        ("/hub/models--gpt2/snapshots/0a1b2c", None, "gpt2", "gpt2"),
        ("/tmp/streamed/8f3a", "s3://bucket/llama-fp8/", "llama-fp8", "s3://bucket/llama-fp8/"),
        ("/", None, "/", "/"),
    ],
)
def test_the_variant_is_named_by_the_user_or_else_by_the_path(
    model: str, served: Any, model_variant: str, shown: str
) -> None:
    """The served name that the user chose, else the path's last part; `model` is the name that clients see.

    A local path is shown by its last part, too.
    """
    found = detect_variant(engine(model=model, served=served))

    assert (found.model_variant, found.model) == (model_variant, shown)


class TestOverride:
    DETECTED = Variant(model_variant="name", quantization_format="bf16", model="org/name", weights="bf16")

    def test_the_user_wins_and_the_engines_word_is_kept(self) -> None:
        """The label is the user's; the engine's own word stays visible, and the details stay the engine's."""
        chosen = override_variant(self.DETECTED, model_variant="llama-int4", quantization_format="int4")

        assert chosen == replace(
            self.DETECTED,
            model_variant="llama-int4",
            quantization_format="int4",
            declared=(("model_variant", "name"), ("quantization_format", "bf16")),
        )

    @pytest.mark.parametrize("nothing", [None, ""])
    def test_nothing_declared_changes_nothing(self, nothing: str | None) -> None:
        """None, or an environment variable that is set to nothing."""
        assert override_variant(self.DETECTED, model_variant=nothing, quantization_format=nothing) == self.DETECTED

    def test_agreement_and_the_unknown_are_no_conflict(self) -> None:
        """Only a different word of the engine's is noted: not the same one, and not its silence."""
        same = override_variant(self.DETECTED, model_variant="name", quantization_format="bf16")
        filled = override_variant(UNKNOWN_VARIANT, model_variant="name", quantization_format="int4")

        assert same == self.DETECTED
        assert filled == Variant(model_variant="name", quantization_format="int4")


class Hostile:
    """Everything that can be asked of it raises, even its class."""

    def __getattribute__(self, name: str) -> Any:
        raise RuntimeError(name)

    def __str__(self) -> str:
        raise RuntimeError("str")

    def __bool__(self) -> bool:
        raise RuntimeError("bool")

    def __eq__(self, other: object) -> bool:
        raise RuntimeError("eq")

    def __hash__(self) -> int:
        return 0


class HostileMapping(dict[str, Any]):
    def get(self, key: str, default: Any = None) -> Any:
        raise RuntimeError(key)

    def items(self) -> Any:
        raise RuntimeError("items")


@pytest.mark.parametrize(
    "reading",
    [as_format, as_group, as_list, as_text, as_whole, as_word, entries, read, spelled],
    ids=lambda reading: reading.__name__,
)
def test_a_reading_never_raises(reading: Any) -> None:
    """Whatever is handed to it, a reading gives a value of its kind, or nothing."""
    for value in (Hostile(), HostileMapping(), None, "", float("nan"), [Hostile()], (1, Hostile())):
        assert isinstance(reading(value), (str, int, list, type(None)))


# Every name in our own source, so that rubbish lands in the fields that are read.
SOURCES = Path(variant.__file__).parent.glob("variant*.py")
NAMES = sorted({name for path in SOURCES for name in re.findall(r'"([\w-]+)"', path.read_text())})
leaves = (
    st.none()
    | st.booleans()
    | st.integers(-2, 300)
    | st.floats(allow_nan=True)
    | st.sampled_from(["", " ", "fp8", "FP8", "int4", "auto", "torch.uint8", "MIXED_PRECISION", "mx_fp", "+", "-:x"])
    | st.text(max_size=8)
    | st.binary(max_size=4)
    | st.builds(Hostile)
    | st.builds(HostileMapping)
)
rubbish = st.recursive(
    leaves,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(NAMES) | st.integers(), inner, max_size=6)
        | st.dictionaries(st.sampled_from(NAMES), inner, max_size=6).map(_namespace)
    ),
    max_leaves=12,
)


def assert_well_formed(found: Variant) -> None:
    texts = (found.model_variant, found.quantization_format, found.model, found.method)
    for text in (*texts, found.weights, found.activations, found.kv_cache):
        assert text is None or (type(text) is str and text)
    assert found.group_size is None or (type(found.group_size) is int and found.group_size > 0)


@settings(deadline=None, max_examples=200)
@given(rubbish)
def test_any_object_at_all_is_read_without_an_error(config: Any) -> None:
    """Not a config, half a config, fields that raise: a variant of strings and Nones comes back."""
    assert_well_formed(detect_variant(config))


@settings(deadline=None, max_examples=300)
@given(
    quantization=st.sampled_from([*METHODS, "unheard_of"]),
    checkpoint=rubbish,
    runtime=rubbish,
    args=rubbish,
    experts=st.sampled_from([0, 8, None, "many"]),
)
def test_any_method_takes_any_config(quantization: str, checkpoint: Any, runtime: Any, args: Any, experts: Any) -> None:
    """Each method's function survives a `quantization_config` that is not what it expects."""
    hf_config = {"quantization_config": checkpoint, "num_experts": experts}

    found = detect_variant(
        engine(quantization=quantization, hf_config=hf_config, quant_config=runtime, quantization_config=args)
    )

    assert_well_formed(found)
    assert found.method


def damage(data: st.DataObject, node: Any) -> None:
    """Put rubbish somewhere into a tree of dicts and lists."""
    keys = list(node) if isinstance(node, dict) else list(range(len(node)))
    key = data.draw(st.sampled_from(keys))
    if isinstance(node[key], (dict, list)) and node[key] and data.draw(st.booleans()):
        damage(data, node[key])
    else:
        node[key] = data.draw(rubbish)


@settings(deadline=None, max_examples=300)
@given(data=st.data(), path=st.sampled_from(sorted(CHECKPOINTS.glob("*.json"))))
def test_a_damaged_checkpoint_config_is_read_without_an_error(data: st.DataObject, path: Path) -> None:
    """A published config with one part of it replaced, however deep."""
    fixture = json.loads(path.read_text())
    damage(data, fixture["hf_config"])

    assert_well_formed(detect_variant(engine(hf_config=fixture["hf_config"], **fixture["engine"])))
