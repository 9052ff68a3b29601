"""The table of vLLM's quantization methods, 0.8.5 to 0.33: the name we report, and who reads the formats.

The reported name says who quantized, not which kernel runs. What names a kernel goes (``awq_marlin``,
``auto_awq`` and ``cpu_awq`` are ``awq``); methods that only run the checkpoints of others (``inc``,
``moe_wna16``, ...) give the checkpoint's own name; whatever vLLM's online quantization rounds while
loading is ``online``.

    >>> scheme_of(Source("gptq_marlin", "bf16", {"bits": 8, "group_size": -1}))
    ('gptq', Scheme(weights='int8', activations='bf16', group_size=None))
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from traceai_vllm.engine import variant_formats as formats
from traceai_vllm.engine import variant_toolkits as toolkits
from traceai_vllm.engine.variant_reading import (
    UNKNOWN_SCHEME,
    Scheme,
    Source,
    as_format,
    as_group,
    as_word,
    entries,
    first,
    float_format,
    merge,
    read,
    spelled,
)

Family = Callable[[Source], Scheme]

# Names for online quantization (`config/quantization.py`: _ONLINE_SHORTHANDS) from before it was called so.
_OLD_SHORTHANDS = {
    "experts_int8": "int8_per_channel_weight_only",
    "fp8": "fp8_per_tensor",
    "ptpc_fp8": "fp8_per_channel",
}
# Formats that vLLM's online quantization has for experts only (`online/base.py`: _ONLINE_LINEAR_METHODS).
_EXPERTS_ONLY = frozenset({"int8", "nvfp4"})


def online(source: Source) -> Scheme:
    """Weights that vLLM rounds while loading: ``--quantization fp8_per_block`` or ``--quantization-config``.

    A dense model under a scheme for experts keeps all its weights in the model's dtype, whatever was
    asked for: ``int8_per_channel_weight_only`` on a Llama is ``bf16``, and is reported so. Source:
    ``online/base.py``.
    """
    targets = [_online_scheme(spec, source.dtype) for _, spec in entries(read(source.args, "targets"))]
    if targets:
        return merge([scheme or UNKNOWN_SCHEME for scheme in targets])
    named = None if source.method == "online" else _OLD_SHORTHANDS.get(source.method, source.method)
    # 0.20 and 0.21 have global_scheme and two overrides; later versions linear and moe.
    on_linear = first((read(source.args, "linear", "linear_scheme_override", "global_scheme"), named))
    on_experts = first((read(source.args, "moe", "moe_scheme_override", "global_scheme"), named))
    if on_linear is None and on_experts is None:
        return UNKNOWN_SCHEME
    linear = _online_scheme(on_linear, source.dtype)
    only_experts = linear is not None and linear.weights in _EXPERTS_ONLY
    return _in_use(source, None if only_experts else linear, _online_scheme(on_experts, source.dtype))


def _in_use(source: Source, linear: Scheme | None, experts: Scheme | None) -> Scheme:
    if source.experts is None:  # dense or not: only a scheme for both kinds of layers is certain
        return linear if linear is not None and linear == experts else UNKNOWN_SCHEME
    used = [scheme for scheme in (linear, experts if source.experts else None) if scheme is not None]
    return merge(used) if used else formats.plain(source)


def _online_scheme(spec: Any, dtype: str | None) -> Scheme | None:
    """Return the scheme of a ``QuantSpec``, of a dict for one, or of the name of a shorthand or key."""
    key = spec if as_word(spec) else read(spec, "weight")
    if key is None:
        return None
    weights, group = _key_by_name(as_word(key) or "") if as_word(key) else _key_by_fields(key)
    return Scheme(weights, dtype if weights == "int8" else weights, group)


def _key_by_name(name: str) -> tuple[str | None, int | None]:
    weights = as_format(name)
    groups = {"mxfp4": 32, "mxfp8": 32, "nvfp4": 16, "fp8": 128 if "per_block" in name else None}
    return weights, groups.get(weights or "")


def _key_by_fields(key: Any) -> tuple[str | None, int | None]:
    """Return format and group size of vLLM's ``QuantKey`` (`utils/quant_utils.py`)."""
    stored, scale = read(key, "dtype"), read(key, "scale")
    columns = as_group(read(read(scale, "group_shape"), "col"))
    group = columns if columns != 1 else None  # one column is one channel
    # torch has no 4-bit float: vLLM keeps pairs of them in uint8 (FP4_DTYPE).
    weights = "fp4" if spelled(stored) == "torch.uint8" else as_format(stored)
    if weights in ("fp4", "fp8"):
        weights = float_format(int(weights[2:]), group, spelled(read(scale, "dtype")))
    return weights, group


METHODS: dict[str, tuple[str, Family]] = {
    # Integers
    "awq": ("awq", formats.integers),
    "awq_marlin": ("awq", formats.integers),
    "auto_awq": ("awq", formats.integers),
    "cpu_awq": ("awq", formats.integers),
    "gptq": ("gptq", formats.integers),
    "gptq_marlin": ("gptq", formats.integers),
    "gptq_marlin_24": ("gptq", formats.integers),
    "gptq_bitblas": ("gptq", formats.integers),
    "auto_gptq": ("gptq", formats.integers),
    "cpu_gptq": ("gptq", formats.integers),
    "marlin": ("gptq", formats.integers),  # GPTQ, packed for the kernel in the checkpoint
    "bitblas": ("bitblas", formats.integers),
    "rtn": ("rtn", formats.integers),
    "qqq": ("qqq", formats.qqq),
    "hqq": ("hqq", formats.hqq),
    "tpu_int8": ("tpu_int8", formats.tpu_int8),
    # Floats
    "fp8": ("fp8", formats.fp8),
    "deepseek_v4_fp8": ("fp8", formats.deepseek_v4),
    "fbgemm_fp8": ("fbgemm_fp8", formats.fbgemm_fp8),
    "deepspeedfp": ("deepspeedfp", formats.deepspeed_fp),
    "fp_quant": ("fp_quant", formats.fp_quant),
    "mxfp4": ("mxfp4", formats.mxfp4),
    "gpt_oss_mxfp4": ("mxfp4", formats.mxfp4),
    "mxfp8": ("mxfp8", toolkits.modelopt),  # MiniMax's name for ModelOpt's format
    # Either, as the checkpoint says
    "auto-round": ("auto-round", formats.auto_round),
    "intel/auto-round": ("auto-round", formats.auto_round),
    "bitsandbytes": ("bitsandbytes", formats.bitsandbytes),
    "compressed-tensors": ("compressed-tensors", toolkits.compressed_tensors),
    "gguf": ("gguf", formats.gguf),
    "modelopt": ("modelopt", toolkits.modelopt),
    "modelopt_fp4": ("modelopt", toolkits.modelopt),
    "modelopt_mxfp8": ("modelopt", toolkits.modelopt),
    "modelopt_mixed": ("modelopt", toolkits.modelopt),
    "nvfp4": ("modelopt", toolkits.modelopt),  # modelopt_fp4 in 0.8
    "petit_nvfp4": ("modelopt", toolkits.modelopt),
    "quark": ("quark", toolkits.quark),
    "torchao": ("torchao", toolkits.torchao),
    # By vLLM itself, while loading
    "online": ("online", online),
    "fp8_per_tensor": ("online", online),
    "fp8_per_block": ("online", online),
    "fp8_per_channel": ("online", online),
    "int8_per_channel_weight_only": ("online", online),
    "nvfp4_per_token": ("online", online),
    "experts_int8": ("online", online),
    "ptpc_fp8": ("online", online),
    # With the checkpoint of another method, whose name stands in its config; alone, what little they say
    "inc": ("inc", formats.auto_round),
    "ipex": ("ipex", formats.integers),
    "moe_wna16": ("moe_wna16", formats.integers),
    "humming": ("humming", formats.unknown),
    # Formats that no config has: code books, environment variables
    "aqlm": ("aqlm", formats.weights_unknown),
    "neuron_quant": ("neuron_quant", formats.unknown),
}
_RUN_OTHERS = frozenset({"inc", "ipex", "moe_wna16", "humming"})
# Methods of checkpoints; for a model without a quantization config they mean online quantization
# (`weight_utils.py`).
_ONLINE_ON_PLAIN = frozenset({"fp8", "mxfp4", "mxfp8"})


def scheme_of(source: Source) -> tuple[str, Scheme]:
    """Return the name of the method to report, and its formats; an unknown method keeps its name."""
    inner = as_word(read(source.checkpoint, "quant_method"))
    if source.method in _RUN_OTHERS and inner in METHODS:
        source = replace(source, method=inner)
    if source.method in _ONLINE_ON_PLAIN and source.checkpoint is None:
        return "online", online(source)
    name, family = METHODS.get(source.method, (source.method, formats.unknown))
    return name, family(source)
