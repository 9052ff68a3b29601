"""Round a checkpoint's weights to fewer bits, in the compressed-tensors form that vLLM loads.

Round-to-nearest on purpose: it is the crudest way to quantize, so the small model's answers change visibly.
A real candidate would come from a calibrated method (GPTQ, AWQ) in the same format.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import load_file, save_file

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

GROUP = 32
_TINY = 1e-8  # a row of zeros must not make a scale of zero

Tensors = dict[str, torch.Tensor]


@dataclass(frozen=True)
class Recipe:
    """How weights are rounded and how the checkpoint describes it.

    Attributes:
        format: the compressed-tensors name of the layout; empty: the weights stay plain numbers.
        weights: the scheme of the weights, as in ``quantization_config``.
        activations: the scheme of the activations, or None to leave them alone.
        pack: from one weight matrix to the tensors that stand for it.
    """

    format: str
    weights: dict[str, Any]
    activations: dict[str, Any] | None
    pack: Callable[[torch.Tensor], Tensors]


def grid(weight: torch.Tensor, bits: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Round to ``2 ** bits`` levels per group of 32 inputs; return the levels and the scales."""
    rows, columns = weight.shape
    groups = weight.float().view(rows, columns // GROUP, GROUP)
    # -8…7 has 15 steps: half of them, 7.5, uses the whole grid without clipping more than half a step.
    half = 2 ** (bits - 1)
    scale = (groups.abs().amax(-1, keepdim=True) / (half - 0.5)).clamp_min(_TINY).bfloat16()
    levels = (groups / scale.float()).round().clamp(-half, half - 1).to(torch.int8)
    return levels.view(rows, columns), scale.squeeze(-1)


def pack_int4(weight: torch.Tensor) -> Tensors:
    """Eight int4 values in an int32, with their scales."""
    from compressed_tensors.compressors.pack_quantized import helpers

    levels, scale = grid(weight, 4)
    shape = torch.tensor(weight.shape)
    return {
        "weight_packed": helpers.pack_to_int32(levels, 4),
        "weight_scale": scale,
        "weight_shape": shape,
    }


def pack_int8(weight: torch.Tensor) -> Tensors:
    """Int8 values with one scale per output channel."""
    scale = (weight.float().abs().amax(1, keepdim=True) / 127).clamp_min(_TINY)
    return {
        "weight": (weight.float() / scale).round().clamp(-128, 127).to(torch.int8),
        "weight_scale": scale.bfloat16(),
    }


def round_only(weight: torch.Tensor, bits: int) -> Tensors:
    """The weight rounded to the grid, as the bf16 numbers that any engine runs: what is lost, and nothing saved."""
    levels, scale = grid(weight, bits)
    groups = levels.float().view(*scale.shape, GROUP) * scale.float().unsqueeze(-1)
    return {"weight": groups.view(weight.shape).bfloat16()}


def _scheme(bits: int, strategy: str, **more: Any) -> dict[str, Any]:
    return {
        "num_bits": bits,
        "type": "int",
        "symmetric": True,
        "strategy": strategy,
        "dynamic": False,
        **more,
    }


INT4 = Recipe("pack-quantized", _scheme(4, "group", group_size=GROUP), None, pack_int4)
INT8 = Recipe("int-quantized", _scheme(8, "channel"), _scheme(8, "token", dynamic=True), pack_int8)


def rounded(bits: int) -> Recipe:
    """The recipe that rounds the weights and keeps them in bf16."""
    return Recipe("", {}, None, partial(round_only, bits=bits))


def quantize(source: Path, target: Path, recipe: Recipe) -> None:
    """Write ``source`` with the weights of its projections rounded to ``target``."""
    shutil.copytree(
        source, target, dirs_exist_ok=True, ignore=shutil.ignore_patterns("model.safetensors", "recipe.json")
    )
    rounded: Tensors = {}
    for name, tensor in load_file(source / "model.safetensors").items():
        if name.endswith("_proj.weight"):
            stem = name.removesuffix("weight")
            rounded.update({stem + part: value.contiguous() for part, value in recipe.pack(tensor).items()})
        else:
            rounded[name] = tensor
    save_file(rounded, target / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((source / "config.json").read_text())
    if recipe.format:
        config["quantization_config"] = describe(recipe)
    (target / "config.json").write_text(json.dumps(config, indent=2) + "\n")


def describe(recipe: Recipe) -> dict[str, Any]:
    """The ``quantization_config`` that vLLM reads."""
    group = {
        "targets": ["Linear"],
        "weights": recipe.weights,
        "input_activations": recipe.activations,
        "output_activations": None,
    }
    return {
        "quant_method": "compressed-tensors",
        "quantization_status": "compressed",
        "format": recipe.format,
        "config_groups": {"group_0": group},
        "ignore": ["lm_head"],
    }
