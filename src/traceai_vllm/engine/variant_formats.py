"""Number formats of quantized checkpoints, for the methods that a few fields describe.

vLLM names the method in force; the formats are in the checkpoint's ``quantization_config``, which each tool
writes in its own way. Rules that hold here and in :mod:`traceai_vllm.engine.variant_toolkits`:

- *weights* are those of the layers that the method quantizes. Layers that it leaves alone (``lm_head``,
  ``ignore`` lists, attention beside quantized experts) do not count. Layers in different formats are joined:
  ``fp8+nvfp4``.
- *activations* are what the scheme asks for: the model's dtype when it quantizes weights only. A kernel
  may do otherwise (Marlin computes FP8 checkpoints in 16 bit on GPUs without FP8); the config does not
  say so.
- What the config does not say is None.

Sources named ``x.py`` are in ``vllm/model_executor/layers/quantization``.

    >>> integers(Source("awq_marlin", "fp16", {"quant_method": "awq", "bits": 4, "group_size": 128}))
    Scheme(weights='int4', activations='fp16', group_size=128)
"""

from __future__ import annotations

import re
from dataclasses import replace

from traceai_vllm.engine.variant_reading import (
    UNKNOWN_SCHEME,
    Scheme,
    Source,
    as_format,
    as_group,
    as_whole,
    as_word,
    entries,
    first,
    float_format,
    integer_format,
    merge,
    read,
)


def plain(source: Source) -> Scheme:
    """Weights and activations in the model's dtype."""
    return Scheme(source.dtype, source.dtype)


def weights_unknown(source: Source) -> Scheme:
    """A weight-only method whose formats no config names: code books (AQLM) are no number format."""
    return Scheme(None, source.dtype)


def unknown(source: Source) -> Scheme:
    """A method whose formats are in the environment (Neuron, Humming), or known only to a plug-in."""
    return UNKNOWN_SCHEME


def integers(source: Source) -> Scheme:
    """AWQ, GPTQ and their kin: ``bits`` and ``group_size``; in ``dynamic``, others for some layers.

    Sources: ``auto_awq.py``, ``auto_gptq.py``. A pattern of GPTQModel's ``dynamic`` that begins with ``-``
    excludes layers.
    """
    bits = as_whole(source.find("bits", "w_bit", "wbits", "weight_bits"))
    group = as_group(source.find("group_size", "q_group_size"))
    rules = [rule for pattern, rule in entries(source.find("dynamic")) if not pattern.startswith("-")]
    own = [(as_whole(read(rule, "bits")), as_group(read(rule, "group_size"))) for rule in rules]
    layers = [(bits, group), *((own_bits or bits, own_group or group) for own_bits, own_group in own)]
    return merge([Scheme(integer_format(width), source.dtype, size) for width, size in layers])


def qqq(source: Source) -> Scheme:
    """QQQ: 4-bit weights with 8-bit activations. Source: ``qqq.py`` (to 0.9)."""
    return replace(integers(source), activations="int8")


def hqq(source: Source) -> Scheme:
    """Half-quadratic quantization. Source: ``hqq_marlin.py`` (to 0.14)."""
    params = first((read(read(source.checkpoint, "quant_config"), "weight_quant_params"), source.runtime))
    bits = as_whole(read(params, "nbits", "weight_bits"))
    return Scheme(integer_format(bits), source.dtype, as_group(read(params, "group_size")))


def tpu_int8(source: Source) -> Scheme:
    """Weights rounded to int8 while loading. Source: ``tpu_int8.py`` (to 0.12)."""
    dynamic = as_word(source.find("activation_scheme")) == "dynamic"
    return Scheme("int8", "int8" if dynamic else source.dtype)


def auto_round(source: Source) -> Scheme:
    """Intel's AutoRound: integers, FP8 or MX floats by ``data_type``. Source: ``inc/inc.py``."""
    kind = as_word(source.find("data_type")) or "int"
    group = as_group(source.find("group_size"))
    special = [as_whole(read(rule, "bits")) for _, rule in entries(source.find("extra_config"))]
    widths = [as_whole(source.find("bits", "weight_bits")), *(bits for bits in special if bits and bits < 16)]
    act_bits = as_whole(source.find("act_bits")) or 16
    activations = source.dtype if act_bits >= 16 else _auto_round_format(kind, act_bits, group)
    return merge([Scheme(_auto_round_format(kind, bits, group), activations, group) for bits in widths])


def _auto_round_format(kind: str, bits: int | None, group: int | None) -> str | None:
    if kind.startswith("int"):
        return integer_format(bits)
    return float_format(bits, group, "e8m0" if "mx" in kind else "")


def fp8(source: Source) -> Scheme:
    """FP8 checkpoints of DeepSeek, Qwen, AutoFP8. Source: ``fp8.py``; ``store_dtype`` is the experts'."""
    layers = Scheme("fp8", "fp8", as_group(source.find("weight_block_size")))
    experts = as_word(source.find("store_dtype"))
    return merge([layers, Scheme("mxfp4", "fp8", 32)]) if experts == "mxfp4" else layers


def deepseek_v4(source: Source) -> Scheme:
    """FP8 layers, with experts in MXFP4 unless said otherwise.

    Source: ``vllm/models/deepseek_v4/quant_config.py``. The experts' format stands beside the
    ``quantization_config``, or in its ``moe_quant_algo``.
    """
    layers = fp8(source)
    if as_word(read(source.hf_config, "expert_dtype")) == "fp8":
        return layers
    nvfp4 = as_word(source.find("moe_quant_algo")) == "nvfp4"
    return merge([layers, Scheme("nvfp4", "nvfp4", 16) if nvfp4 else Scheme("mxfp4", "fp8", 32)])


def fbgemm_fp8(source: Source) -> Scheme:
    """Meta's FP8 checkpoints of Llama 3.1: a scale per channel and per token. Source: ``fbgemm_fp8.py``."""
    return Scheme("fp8", "fp8")


def deepspeed_fp(source: Source) -> Scheme:
    """DeepSpeed's FP6 and FP8, weights only. Source: ``deepspeedfp.py`` (to 0.14)."""
    bits = as_whole(source.find("bits", "weight_bits"))
    return Scheme(float_format(bits, None), source.dtype, as_group(source.find("group_size")))


def fp_quant(source: Source) -> Scheme:
    """FP-Quant: weights and activations in ``forward_dtype``. Source: ``fp_quant.py``."""
    weights = as_format(source.find("forward_dtype"))
    return Scheme(weights, weights, {"mxfp4": 32, "nvfp4": 16}.get(weights or ""))


def mxfp4(source: Source) -> Scheme:
    """gpt-oss and its like: experts in MXFP4, everything else in the model's dtype. Source: ``mxfp4.py``."""
    return Scheme("mxfp4", source.dtype, 32)


def bitsandbytes(source: Source) -> Scheme:
    """Checkpoints with ``load_in_8bit`` or ``load_in_4bit``; without a config, vLLM itself rounds to NF4.

    Sources: ``bitsandbytes.py`` (``fp4`` is the default 4-bit type, as in bitsandbytes itself) and
    ``bitsandbytes_loader.py`` (``quant_type="nf4"``). vLLM's own config says ``fp4`` in both cases: not read.
    """
    if source.checkpoint is None:
        return Scheme("nf4", source.dtype)
    if read(source.checkpoint, "load_in_8bit") is True:
        return Scheme("int8", "int8")  # LLM.int8() quantizes activations too, but for their outliers
    return Scheme(as_format(read(source.checkpoint, "bnb_4bit_quant_type") or "fp4"), source.dtype)


_GGUF = re.compile(r"(?:^|[^a-z0-9])(?:(i?q|tq)([1-8])|(bf16|f16|f32|mxfp4))(?![a-z0-9])", re.IGNORECASE)


def gguf(source: Source) -> Scheme:
    """The file type in the name of a GGUF file, or after a colon (``repo:Q4_K_M``).

    No config has it otherwise. ``Q4_K_M`` is ``int4`` although a few of its tensors are wider. The ``IQ``
    and ``TQ`` types are not integers but indices into code books, and keep their own names (``iq4``).
    """
    names = _GGUF.findall((source.model or "").rsplit("/", 1)[-1])
    family, bits, float_type = names[-1] if names else ("", "", "")
    if family:
        return Scheme(("int" if family in "qQ" else family.lower()) + bits, source.dtype)
    return Scheme(re.sub("^f", "fp", float_type.lower()) or None, source.dtype)
