"""Number formats of checkpoints from toolkits that describe every group of layers in a language of their own.

The rules are those of :mod:`traceai_vllm.engine.variant_formats`.

    >>> modelopt(Source("modelopt_fp4", "bf16", {"quantization": {"quant_algo": "NVFP4"}}))
    Scheme(weights='nvfp4', activations='nvfp4', group_size=16)
"""

from __future__ import annotations

import re
from typing import Any

from traceai_vllm.engine.variant_formats import plain
from traceai_vllm.engine.variant_reading import (
    UNKNOWN_SCHEME,
    Scheme,
    Source,
    as_format,
    as_group,
    as_list,
    as_text,
    as_whole,
    as_word,
    entries,
    first,
    float_format,
    integer_format,
    merge,
    read,
    spelled,
)


def compressed_tensors(source: Source) -> Scheme:
    """llm-compressor: ``config_groups``, one scheme per group of layers.

    Sources: ``compressed_tensors.py`` and ``QuantizationArgs`` of the compressed-tensors package. vLLM
    skips groups that target attention alone. No group at all (only the KV cache is quantized, or the
    checkpoint is only sparse) means plain weights.
    """
    groups = [group for _, group in entries(source.find("config_groups")) if not _attention_only(group)]
    if groups:
        return merge([_compressed_group(group, source.dtype) for group in groups])
    declared = source.find("config_groups", "kv_cache_scheme", "sparsity_config") is not None
    return plain(source) if declared else UNKNOWN_SCHEME


def _attention_only(group: Any) -> bool:
    targets = as_list(read(group, "targets"))
    return len(targets) == 1 and (as_text(targets[0]) or "").endswith("Attention")


def _compressed_group(group: Any, dtype: str | None) -> Scheme:
    weights, inputs = read(group, "weights"), read(group, "input_activations")
    return Scheme(
        _compressed_format(weights),
        dtype if inputs is None else _compressed_format(inputs),
        as_group(read(weights, "group_size", "block_structure")),
    )


def _compressed_format(args: Any) -> str | None:
    bits = as_whole(read(args, "num_bits"))
    if as_word(read(args, "type")) == "int":
        return integer_format(bits)
    return float_format(bits, as_group(read(args, "group_size")), spelled(read(args, "scale_dtype")))


# ModelOpt's algorithms that vLLM loads (`modelopt.py`: LINEAR_ALGOS, resolve): weights, activations,
# group size. None for activations is the model's dtype. FP8_PB_WO is "weight only" by name; vLLM
# quantizes its activations.
_MODELOPT: dict[str, tuple[str, str | None, int | None]] = {
    "FP8": ("fp8", "fp8", None),
    "FP8_PER_CHANNEL_PER_TOKEN": ("fp8", "fp8", None),
    "FP8_PB_WO": ("fp8", "fp8", 128),
    "FP8_BLOCK_SCALES": ("fp8", "fp8", 128),
    "NVFP4": ("nvfp4", "nvfp4", 16),
    "W4A16_NVFP4": ("nvfp4", None, 16),
    "MXFP8": ("mxfp8", "mxfp8", 32),
}
# What the name of vLLM's method says alone: older versions read `hf_quant_config.json` and leave no trace
# of it.
_MODELOPT_DEFAULT = {
    "modelopt": "FP8",
    "modelopt_fp4": "NVFP4",
    "nvfp4": "NVFP4",
    "petit_nvfp4": "NVFP4",
    "modelopt_mxfp8": "MXFP8",
    "mxfp8": "MXFP8",
}


def modelopt(source: Source) -> Scheme:
    """NVIDIA ModelOpt: one ``quant_algo``, or one per layer in ``quantized_layers``. Source: ``modelopt.py``.

    ``config_groups`` are not read for formats: published mixed checkpoints contradict themselves there,
    and vLLM follows ``quantized_layers``.
    """
    algo = (as_text(source.find("quant_algo")) or _MODELOPT_DEFAULT.get(source.method, "")).upper()
    layers = [read(layer, "quant_algo") for _, layer in entries(source.find("quantized_layers"))]
    if layers and algo in ("", "MIXED_PRECISION"):
        return merge([_modelopt_scheme(name, source.dtype) for name in {spelled(layer) for layer in layers}])
    groups = [group for _, group in entries(source.find("config_groups"))]
    weights_only = bool(groups) and all(read(group, "input_activations") is None for group in groups)
    # petit_nvfp4 (0.10 to 0.19) runs NVFP4 checkpoints on AMD GPUs, with 16-bit activations.
    if algo == "NVFP4" and (weights_only or source.method == "petit_nvfp4"):
        algo = "W4A16_NVFP4"
    return _modelopt_scheme(algo, source.dtype)


def _modelopt_scheme(algo: str, dtype: str | None) -> Scheme:
    weights, activations, group = _MODELOPT.get(algo.upper(), (None, None, None))
    return Scheme(weights, activations or dtype, group) if weights else UNKNOWN_SCHEME


_TORCHAO = re.compile(
    r"(?:(?P<inputs>(?:int|float|nvfp)\d+)(?:dynamic|static)activation)?"
    r"(?P<weights>(?:u?int|float|nvfp)(?:\d+|x))weight"
)


def torchao(source: Source) -> Scheme:
    """TorchAO: the class of its config names the formats, e.g. ``Int8DynamicActivationInt4WeightConfig``.

    Sources: ``torchao.py``; ``torchao.core.config.config_to_dict``, which writes a dict of ``_type`` and
    ``_data``.
    """
    kind = read(source.checkpoint, "quant_type")
    config = first((read(kind, "default"), kind, read(source.runtime, "torchao_config")))
    modules = entries(read(_data(config), "module_fqn_to_config", "fqn_to_config"))
    parts = [part for _, part in modules if part is not None] or [config]
    return merge([_torchao_scheme(part, source) for part in parts])


def _torchao_scheme(config: Any, source: Source) -> Scheme:
    name = as_text(config) or as_text(read(config, "_type")) or type(config).__name__
    found = _TORCHAO.search(name.lower().replace("_", ""))
    if found is None:
        return UNKNOWN_SCHEME
    fields = read(source.checkpoint, "quant_type_kwargs") if as_text(config) else _data(config)
    # IntxWeightOnlyConfig and its like: the width is a field.
    weights = _data(read(fields, "weight_dtype")) if found["weights"].endswith("x") else found["weights"]
    granularity = _data(read(fields, "weight_granularity"))
    group = as_group(first((read(fields, "group_size"), read(granularity, "group_size"))))
    return Scheme(as_format(weights), as_format(found["inputs"]) or source.dtype, group)


def _data(config: Any) -> Any:
    return first((read(config, "_data"), config))


def quark(source: Source) -> Scheme:
    """AMD Quark: a global config, and others for some layers. Source: ``quark/quark.py``."""
    own = [layer for _, layer in entries(source.find("layer_quant_config"))]
    quantized = [layer for layer in own if read(layer, "weight") is not None]
    return merge([_quark_scheme(x, source.dtype) for x in (source.find("global_quant_config"), *quantized)])


def _quark_scheme(layer: Any, dtype: str | None) -> Scheme:
    weights, group = _quark_tensor(read(layer, "weight"))
    inputs = read(layer, "input_tensors")
    return Scheme(weights, dtype if inputs is None else _quark_tensor(inputs)[0], group)


def _quark_tensor(spec: Any) -> tuple[str | None, int | None]:
    """Return format and group size. A list has one spec per stage, and the narrowest one holds the values.

    FP4 values with FP8 scales are NVFP4; FP8 and then int4 is the W4A8 scheme, with int4 weights.
    """
    stages = [_quark_stage(stage) for stage in as_list(spec) or [spec]]
    return min(stages, key=lambda stage: (stage[0] or "")[-1:])  # what has no name comes first: unknown


def _quark_stage(spec: Any) -> tuple[str | None, int | None]:
    name = as_format(read(spec, "dtype"))
    group = as_group(read(spec, "group_size", "block_size"))
    if name in ("fp4", "fp6", "fp8"):
        name = float_format(int(name[2:]), group, spelled(read(spec, "scale_format", "scale_type")))
    return name, group
