"""Which number formats a quantization method means: one small function per family, and the table that picks it.

vLLM names the method in force (``model_config.quantization``); the formats are in the checkpoint's own
``quantization_config``, written differently by each tool. Rules that hold for all families:

- *weights* are those of the layers that the method quantizes. Layers that it leaves alone (``lm_head``, ``ignore``
  lists, attention beside quantized experts) do not count. Layers in different formats are joined: ``fp8+nvfp4``.
- *activations* are what the scheme asks for, the model's dtype when it quantizes weights only. A kernel may do
  otherwise (Marlin computes FP8 checkpoints in 16 bit on GPUs without FP8); the config does not say so.
- *method* is who quantized, not which kernel runs: ``awq_marlin``, ``auto_awq`` and ``cpu_awq`` are ``awq``.
- What the config does not say is None.

    >>> source = Source("awq_marlin", "fp16", {"quant_method": "awq", "bits": 4, "group_size": 128})
    >>> scheme_of(source)
    ('awq', Scheme(weights='int4', activations='fp16', group_size=128))
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from traceai_vllm.engine.variant_reading import (
    as_dtype,
    as_group,
    as_text,
    as_whole,
    as_word,
    entries,
    float_format,
    integer_format,
    number_format,
    read,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


@dataclass(frozen=True, slots=True)
class Scheme:
    """The formats in which a method keeps weights and activations; ``group_size`` as in ``Variant``."""

    weights: str | None = None
    activations: str | None = None
    group_size: int | None = None


@dataclass(frozen=True, slots=True)
class Source:
    """All that a family may read.

    Attributes:
        method: vLLM's name of the method in force, e.g. ``gptq_marlin``.
        dtype: number format of what is not quantized.
        checkpoint: the ``quantization_config`` of the checkpoint, dict or object; None when it has none.
        runtime: vLLM's own quantization config object; has the fields that older checkpoints keep in a file beside.
        args: ``model_config.quantization_config`` (0.20), how the user wants weights quantized while loading.
        hf_config: the model's ``config.json``.
        model: name or path of the model.
        experts: how many experts a layer has; 0 for a dense model, None when unknown.
    """

    method: str
    dtype: str | None = None
    checkpoint: Any = None
    runtime: Any = None
    args: Any = None
    hf_config: Any = None
    model: str | None = None
    experts: int | None = None

    def find(self, *names: str) -> Any:
        """Return the first of ``names`` that the checkpoint has (ModelOpt nests its own), or the runtime config."""
        places = (self.checkpoint, read(self.checkpoint, "quantization"), self.runtime)
        return next((value for value in (read(place, *names) for place in places) if value is not None), None)


def merge(schemes: Sequence[Scheme]) -> Scheme:
    """Return one scheme for layers that may differ: their formats joined, the group size only if it is the same."""
    groups = {scheme.group_size for scheme in schemes}
    return Scheme(
        _joined([scheme.weights for scheme in schemes]),
        _joined([scheme.activations for scheme in schemes]),
        groups.pop() if len(groups) == 1 else None,
    )


def _joined(formats: list[str | None]) -> str | None:
    known = sorted({name for name in formats if name is not None})
    # One layer that cannot be named makes the whole unknown: "int4" for int4 and something else would be a guess.
    return "+".join(known) if known and None not in formats else None


def integers(source: Source) -> Scheme:
    """AWQ, GPTQ and their kin: ``bits`` and ``group_size``; GPTQModel's ``dynamic`` overrides them for some layers.

    Sources: ``auto_awq.py``, ``auto_gptq.py``. A ``dynamic`` pattern that begins with ``-`` excludes layers.
    """
    bits = as_whole(source.find("bits", "w_bit", "wbits", "weight_bits"))
    group = as_group(source.find("group_size", "q_group_size"))
    rules = [rule for pattern, rule in entries(source.find("dynamic")) if not pattern.startswith("-")]
    own = [(as_whole(read(rule, "bits")), as_group(read(rule, "group_size"))) for rule in rules]
    layers = [(bits, group), *((own_bits or bits, own_group or group) for own_bits, own_group in own)]
    return merge([Scheme(integer_format(bits), source.dtype, group) for bits, group in layers])


def auto_round(source: Source) -> Scheme:
    """Intel's AutoRound: integers, FP8 or MX floats by ``data_type``. Source: ``inc/inc.py``."""
    group = as_group(source.find("group_size"))
    default = as_whole(source.find("bits", "weight_bits"))
    special = [as_whole(read(rule, "bits")) for _, rule in entries(source.find("extra_config"))]
    widths = {default} | {bits for bits in special if bits and bits < 16}
    kind = as_word(source.find("data_type")) or "int"
    act_bits = as_whole(source.find("act_bits")) or 16
    activations = source.dtype if act_bits >= 16 else _auto_round_format(kind, act_bits, group)
    return merge([Scheme(_auto_round_format(kind, bits, group), activations, group) for bits in widths])


def _auto_round_format(kind: str, bits: int | None, group: int | None) -> str | None:
    return integer_format(bits) if kind.startswith("int") else float_format(bits, group, "e8m0" if "mx" in kind else None)


def hqq(source: Source) -> Scheme:
    """Half-quadratic quantization. Source: ``hqq_marlin.py`` (to 0.14)."""
    params = read(read(source.checkpoint, "quant_config"), "weight_quant_params") or source.runtime
    bits = as_whole(read(params, "nbits", "weight_bits"))
    return Scheme(integer_format(bits), source.dtype, as_group(read(params, "group_size")))


def fp8(source: Source) -> Scheme:
    """FP8 checkpoints of DeepSeek, Qwen and AutoFP8. Source: ``fp8.py``; ``store_dtype`` is that of the experts."""
    layers = Scheme("fp8", "fp8", as_group(source.find("weight_block_size")))
    experts = as_word(source.find("store_dtype"))
    return merge([layers, replace(layers, weights=experts, group_size=32)]) if experts == "mxfp4" else layers


def deepseek_v4(source: Source) -> Scheme:
    """FP8 layers with experts of their own format, MXFP4 unless said otherwise. Source: ``deepseek_v4/quant_config.py``."""
    layers = fp8(source)
    if as_word(read(source.hf_config, "expert_dtype")) == "fp8":
        return layers
    nvfp4 = as_word(source.find("moe_quant_algo")) == "nvfp4"
    return merge([layers, _modelopt_scheme("NVFP4", source.dtype) if nvfp4 else Scheme("mxfp4", "fp8", 32)])


def compressed_tensors(source: Source) -> Scheme:
    """Checkpoints of llm-compressor: ``config_groups``, one scheme per group of layers.

    Sources: ``compressed_tensors.py`` and the ``QuantizationArgs`` of the compressed-tensors package. vLLM skips groups
    that target attention only. No group at all (only the KV cache quantized, or only sparsity) means plain weights.
    """
    groups = [group for _, group in entries(source.find("config_groups")) if not _attention_only(group)]
    if groups:
        return merge([_compressed_group(group, source.dtype) for group in groups])
    declared = source.find("config_groups", "kv_cache_scheme", "sparsity_config") is not None
    return plain(source) if declared else Scheme()


def _attention_only(group: Any) -> bool:
    targets = read(group, "targets")
    return isinstance(targets, list) and len(targets) == 1 and str(as_text(targets[0])).endswith("Attention")


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
    return float_format(bits, as_group(read(args, "group_size")), as_word(read(args, "scale_dtype")))


# ModelOpt's algorithms that vLLM loads (`modelopt.py`: LINEAR_ALGOS, resolve): weights, activations, group size. None
# for activations is the model's dtype. FP8_PB_WO is "weight only" by name, and yet vLLM quantizes its activations.
MODELOPT: dict[str, tuple[str, str | None, int | None]] = {
    "FP8": ("fp8", "fp8", None),
    "FP8_PER_CHANNEL_PER_TOKEN": ("fp8", "fp8", None),
    "FP8_PB_WO": ("fp8", "fp8", 128),
    "FP8_BLOCK_SCALES": ("fp8", "fp8", 128),
    "NVFP4": ("nvfp4", "nvfp4", 16),
    "W4A16_NVFP4": ("nvfp4", None, 16),
    "MXFP8": ("mxfp8", "mxfp8", 32),
}
# What the method's name alone says, for checkpoints that vLLM reads from `hf_quant_config.json` and not from the config.
MODELOPT_DEFAULT = {
    "modelopt": "FP8",
    "modelopt_fp4": "NVFP4",
    "nvfp4": "NVFP4",
    "petit_nvfp4": "NVFP4",
    "modelopt_mxfp8": "MXFP8",
    "mxfp8": "MXFP8",
}


def modelopt(source: Source) -> Scheme:
    """NVIDIA ModelOpt: one ``quant_algo``, or one per layer in ``quantized_layers``. Source: ``modelopt.py``."""
    algo = (as_text(source.find("quant_algo")) or MODELOPT_DEFAULT.get(source.method, "")).upper()
    layers = {as_text(read(layer, "quant_algo")) for _, layer in entries(source.find("quantized_layers"))}
    if layers and algo in ("", "MIXED_PRECISION"):
        return merge([_modelopt_scheme(name or "", source.dtype) for name in layers])
    groups = [group for _, group in entries(source.find("config_groups"))]
    weights_only = bool(groups) and all(read(group, "input_activations") is None for group in groups)
    # petit_nvfp4 (0.9.2 to 0.19) runs NVFP4 checkpoints on AMD GPUs, with 16-bit activations.
    if algo == "NVFP4" and (weights_only or source.method == "petit_nvfp4"):
        algo = "W4A16_NVFP4"
    return _modelopt_scheme(algo, source.dtype)


def _modelopt_scheme(algo: str, dtype: str | None) -> Scheme:
    weights, activations, group = MODELOPT.get(algo.upper(), (None, None, None))
    return Scheme(weights, activations or dtype, group) if weights else Scheme()


def bitsandbytes(source: Source) -> Scheme:
    """Checkpoints with ``load_in_8bit`` or ``load_in_4bit``; without a config, vLLM quantizes to NF4 while loading.

    Sources: ``bitsandbytes.py`` (``fp4`` is the default of the 4-bit type, here and in bitsandbytes itself) and
    ``bitsandbytes_loader.py`` (``quant_type="nf4"``). The runtime config is of no use: its default says ``fp4``.
    """
    if source.checkpoint is None:
        return Scheme("nf4", source.dtype)
    if read(source.checkpoint, "load_in_8bit") is True:
        return Scheme("int8", "int8")  # LLM.int8(): activations too, but for their outliers
    return Scheme(as_word(read(source.checkpoint, "bnb_4bit_quant_type")) or "fp4", source.dtype)


_GGUF = re.compile(r"(?:^|[^a-z0-9])(?:(i?q|tq)([1-8])|(bf16|f16|f32|mxfp4))(?![a-z0-9])", re.IGNORECASE)


def gguf(source: Source) -> Scheme:
    """The file type in the name of a GGUF file or after the colon (``repo:Q4_K_M``); vLLM's config has no other trace.

    ``Q4_K_M`` is ``int4`` although a few of its tensors are wider. The ``IQ`` and ``TQ`` types are not integers but
    indices into code books, and keep their own names (``iq4``).
    """
    found = list(_GGUF.finditer((source.model or "").rsplit("/", 1)[-1]))
    if not found:
        return Scheme(None, source.dtype)
    family, bits, plain_type = found[-1].groups()
    if plain_type:
        return Scheme(re.sub(r"^f", "fp", plain_type.lower()), source.dtype)
    return Scheme(("int" if family in "qQ" else family.lower()) + bits, source.dtype)


_TORCHAO = re.compile(
    r"(?:(?P<inputs>(?:int|float|nvfp)\d+)(?:dynamic|static)activation)?(?P<weights>(?:u?int|float|nvfp)(?:\d+|x))weight"
)


def torchao(source: Source) -> Scheme:
    """TorchAO: the class of its config names the formats, e.g. ``Int8DynamicActivationInt4WeightConfig``.

    Sources: ``torchao.py``; ``torchao.core.config.config_to_dict``, which writes ``{"_type": …, "_data": {…}}``.
    """
    kind = read(source.checkpoint, "quant_type")
    config = read(kind, "default") or kind or read(source.runtime, "torchao_config")
    modules = entries(read(_data(config), "module_fqn_to_config", "fqn_to_config"))
    parts = [part for _, part in modules if part is not None] or [config]
    return merge([_torchao_scheme(part, source) for part in parts])


def _torchao_scheme(config: Any, source: Source) -> Scheme:
    name = as_text(config) or as_text(read(config, "_type")) or type(config).__name__
    found = _TORCHAO.search(name.lower().replace("_", ""))
    if found is None:
        return Scheme()
    fields = read(source.checkpoint, "quant_type_kwargs") if isinstance(config, str) else _data(config)
    weights, inputs = found["weights"], found["inputs"]
    if weights.endswith("x"):  # IntxWeightOnlyConfig: the width is a field
        stored = read(fields, "weight_dtype")
        weights = str(as_text(_data(stored)) or as_dtype(stored))
    granularity = _data(read(fields, "weight_granularity"))
    group = as_group(read(fields, "group_size")) or as_group(read(granularity, "group_size"))
    return Scheme(number_format(weights), number_format(inputs) if inputs else source.dtype, group)


def _data(config: Any) -> Any:
    data = read(config, "_data")
    return config if data is None else data


def quark(source: Source) -> Scheme:
    """AMD Quark: a global config, and others for some layers. Source: ``quark/quark.py``."""
    own = [layer for _, layer in entries(source.find("layer_quant_config"))]
    layers = [source.find("global_quant_config"), *(layer for layer in own if read(layer, "weight") is not None)]
    return merge([_quark_scheme(layer, source.dtype) for layer in layers])


def _quark_scheme(layer: Any, dtype: str | None) -> Scheme:
    weights, inputs = read(layer, "weight"), read(layer, "input_tensors")
    return Scheme(*_quark_format(weights), None) if False else _quark_pair(weights, inputs, dtype)
