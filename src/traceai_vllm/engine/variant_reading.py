"""Reads that cannot fail, for objects that are not ours: vLLM's configs and what checkpoints wrote into ``config.json``.

A quantization config is a dict in one version and an object in the next, a field is an enum here and a string there,
and a property may raise. Telemetry may not care: what cannot be read is None.

    >>> read({"w_bit": 4}, "bits", "w_bit")
    4
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import Enum
from typing import Any

_SPELLINGS = {"half": "fp16", "float": "fp32", "double": "fp64"}
_FAMILIES = {"bfloat": "bf", "float": "fp", "uint": "int"}
_NUMBER = re.compile(r"(bfloat|bf|float|fp|uint|int|nvfp|mxfp|nf)(\d{1,2})(?!\d)")


def read(source: Any, *names: str) -> Any:
    """Return the first value that is not None among ``names``: keys of a mapping, or attributes of an object."""
    return next((value for value in (_read_one(source, name) for name in names) if value is not None), None)


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


def as_text(value: Any) -> str | None:
    """Return a string, or the string value of an enum, without outer blanks; None when there is nothing to say."""
    try:
        value = value.value if isinstance(value, Enum) else value
        return str(value).strip() or None if isinstance(value, str) else None
    except Exception:
        return None


def as_word(value: Any) -> str | None:
    """Return a string in lower case, as identifiers of methods and formats are compared."""
    text = as_text(value)
    return text.lower() if text else None


def as_whole(value: Any) -> int | None:
    """Return an integer that counts something (bits, elements of a group, experts), or None."""
    return int(value) if type(value) is int and value >= 0 else None


def as_group(value: Any) -> int | None:
    """Return how many elements share one scale: ``128``; of a block ``[128, 128]``, its width; None for ``-1``."""
    if isinstance(value, (list, tuple)) and len(value) == 2:
        value = value[1]
    return as_whole(value) or None


def as_dtype(value: Any) -> str | None:
    """Return the number format that a torch dtype, a vLLM scalar type, or its name stands for."""
    try:
        return number_format(str(value))
    except Exception:
        return None


def number_format(name: str | None) -> str | None:
    """Return our short name for the number format with which a name begins.

    >>> [number_format(n) for n in ("torch.bfloat16", "float8_e4m3fn", "uint4b8", "fp8_per_block", "auto")]
    ['bf16', 'fp8', 'int4', 'fp8', None]
    """
    plain = (name or "").lower().removeprefix("torch.")
    found = _NUMBER.match(plain)
    if found is None:
        return _SPELLINGS.get(plain)
    family, bits = found.groups()
    return f"{_FAMILIES.get(family, family)}{bits}"


def integer_format(bits: int | None) -> str | None:
    """Return ``int4`` for 4 bits; None beyond 8 bits, where the checkpoints mean "not quantized"."""
    return f"int{bits}" if bits and bits <= 8 else None


def float_format(bits: int | None, group: int | None, scale: str | None = None) -> str | None:
    """Return the name of a float format from its width, its block and the type of its scales.

    Sources: NVFP4 has blocks of 16; the OCP Microscaling (MX) formats have blocks of 32 that share one power-of-two
    scale (``e8m0``, stored as ``uint8``), which tells MXFP8 from FP8 with groups of 32.
    """
    if bits == 4 and group == 16:
        return "nvfp4"
    power_of_two = scale is not None and ("e8m0" in scale or "uint8" in scale)
    if group == 32 and (bits in (4, 6) or (bits == 8 and power_of_two)):
        return f"mxfp{bits}"
    return f"fp{bits}" if bits in (4, 6, 8) else None
