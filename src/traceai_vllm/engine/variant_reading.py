"""What the function of a quantization method reads, what it returns, and reads that cannot fail.

The objects are not ours: vLLM's configs, and what other tools wrote into a checkpoint's ``config.json``.
A field is a dict in one version and an object in the next, an enum here and a string there, and a property
may raise. Telemetry may not care: what cannot be read is None.

    >>> read({"w_bit": 4}, "bits", "w_bit")
    4
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


@dataclass(frozen=True, slots=True)
class Scheme:
    """The formats in which a method keeps weights and activations; ``group_size`` as in ``Variant``."""

    weights: str | None = None
    activations: str | None = None
    group_size: int | None = None


UNKNOWN_SCHEME = Scheme()


@dataclass(frozen=True, slots=True)
class Source:
    """All that the function of a method may read.

    Attributes:
        method: vLLM's name of the method in force, e.g. ``gptq_marlin``.
        dtype: number format of what is not quantized.
        checkpoint: the ``quantization_config`` of the checkpoint, dict or object; None when it has none.
        runtime: vLLM's own quantization config; it has what older checkpoints keep in a file of their own.
        args: ``model_config.quantization_config`` (0.20): how the user wants weights quantized while loading.
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
        """Return the first of ``names`` in the checkpoint's config (ModelOpt nests its own) or vLLM's own."""
        places = (self.checkpoint, read(self.checkpoint, "quantization"), self.runtime)
        return first(read(place, *names) for place in places)


def merge(schemes: Sequence[Scheme]) -> Scheme:
    """Return one scheme for layers that may differ: formats joined, the group size only if all have it."""
    groups = {scheme.group_size for scheme in schemes}
    return Scheme(
        _joined([scheme.weights for scheme in schemes]),
        _joined([scheme.activations for scheme in schemes]),
        groups.pop() if len(groups) == 1 else None,
    )


def _joined(formats: list[str | None]) -> str | None:
    known = {name for name in formats if name is not None}
    # One layer that cannot be named makes the whole unknown: "int4" for int4 and something else is a guess.
    return "+".join(sorted(known)) if known and None not in formats else None


def first(values: Iterable[Any]) -> Any:
    """Return the first value that is not None."""
    return next((value for value in values if value is not None), None)


def read(source: Any, *names: str) -> Any:
    """Return the first of ``names`` that is not None: keys of a mapping, or attributes of an object."""
    return first(_read_one(source, name) for name in names)


def _read_one(source: Any, name: str) -> Any:
    try:
        return source.get(name) if isinstance(source, Mapping) else getattr(source, name, None)
    except Exception:  # a property of theirs; nothing that it raises is our business
        return None


def entries(source: Any) -> list[tuple[str, Any]]:
    """Return the items of a mapping whose keys are strings; of anything else, none."""
    try:
        return [(key, value) for key, value in source.items() if isinstance(key, str)]
    except Exception:
        return []


def as_list(value: Any) -> list[Any]:
    """Return the members of a list or tuple; of anything else, none."""
    try:
        return list(value) if isinstance(value, (list, tuple)) else []
    except Exception:  # even isinstance raises, where __class__ does
        return []


def as_text(value: Any) -> str | None:
    """Return a string, or the string of an enum, without outer blanks; None when there is nothing to say."""
    try:
        value = value.value if isinstance(value, Enum) else value
        return str(value).strip() or None if isinstance(value, str) else None
    except Exception:
        return None


def as_word(value: Any) -> str | None:
    """Return a string in lower case, as names of methods and formats are compared."""
    text = as_text(value)
    return text.lower() if text else None


def spelled(value: Any) -> str:
    """Return how a torch dtype, a vLLM scalar type or a name spells itself, in lower case."""
    try:
        return (as_text(value) or str(value)).lower()
    except Exception:
        return ""


def as_whole(value: Any) -> int | None:
    """Return an integer that counts something (bits, elements of a group, experts), or None."""
    return int(value) if type(value) is int and value >= 0 else None


def as_group(value: Any) -> int | None:
    """Return how many elements share a scale: ``128``; of a block ``[64, 128]`` its width; None for ``-1``."""
    block = as_list(value)
    return as_whole(block[1] if len(block) == 2 else value) or None


_NUMBER = re.compile(r"(bfloat|bf|float|fp|uint|int|nvfp|mxfp|nf)(\d{1,2})(?!\d)")
_FAMILIES = {"bfloat": "bf", "float": "fp", "uint": "int"}
_SPELLINGS = {"half": "fp16", "float": "fp32", "double": "fp64"}


def as_format(value: Any) -> str | None:
    """Return our short name for the number format that a name (of a dtype, a scheme) starts with.

    >>> [as_format(n) for n in ("torch.bfloat16", "float8_e4m3fn", "uint4b8", "fp8_per_block", "auto")]
    ['bf16', 'fp8', 'int4', 'fp8', None]
    """
    name = spelled(value).removeprefix("torch.")
    found = _NUMBER.match(name)
    return _FAMILIES.get(found[1], found[1]) + found[2] if found else _SPELLINGS.get(name)


def integer_format(bits: int | None) -> str | None:
    """Return ``int4`` for 4 bits; None beyond 8 bits, where checkpoints mean "not quantized"."""
    return f"int{bits}" if bits and bits <= 8 else None


def float_format(bits: int | None, group: int | None, scale: str = "") -> str | None:
    """Return the name of a float format from its width, its block and the type of its scales.

    Sources: NVFP4 has blocks of 16; the OCP Microscaling (MX) formats have blocks of 32 with one power-of-two
    scale (``e8m0``, stored as ``uint8``), which tells MXFP8 from FP8 with groups of 32.
    """
    if bits == 4 and group == 16:
        return "nvfp4"
    power_of_two = "e8m0" in scale or "uint8" in scale
    if group == 32 and (bits in (4, 6) or (bits == 8 and power_of_two)):
        return f"mxfp{bits}"
    return f"fp{bits}" if bits in (4, 6, 8) else None
