"""Which model variant an engine serves, read from vLLM's own config and never guessed.

An operator renames models, copies checkpoints and passes ``--quantization`` by hand; a dashboard that
trusts the name compares the wrong things. So the number format is read where vLLM has it: the method in
force, the checkpoint's ``quantization_config``, the dtype, the KV cache's dtype. Plain reads only:
neither vLLM nor torch is imported, nothing is called, and what a version (0.8.5 to 0.33) does not have
stays None.

    >>> detect_variant(llm.llm_engine.vllm_config)  # doctest: +SKIP
    Variant(model_variant='Meta-Llama-3.1-70B-Instruct-AWQ-INT4', quantization_format='int4',
            model='hugging-quants/Meta-Llama-3.1-70B-Instruct-AWQ-INT4', method='awq', weights='int4',
            activations='fp16', kv_cache='fp16', group_size=128, declared=())

How formats are named, and what counts: :mod:`traceai_vllm.engine.variant_formats`; methods:
:mod:`traceai_vllm.engine.variant_methods`.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

from traceai_vllm.engine.variant_methods import scheme_of
from traceai_vllm.engine.variant_reading import (
    UNKNOWN_SCHEME,
    Scheme,
    Source,
    as_format,
    as_list,
    as_text,
    as_whole,
    as_word,
    first,
    read,
)
from traceai_vllm.record import Variant

_UNREADABLE = object()


def detect_variant(vllm_config: Any) -> Variant:
    """Return what the engine with this ``VllmConfig`` serves; never raises.

    ``quantization_format`` is the format of the quantized weights (``int4``, ``fp8``, ``nvfp4``, ...),
    the model's dtype when nothing is quantized, and ``mixed`` when layers differ; ``weights`` then has
    all of them (``fp8+nvfp4``). For square blocks of weights with one scale (``[128, 128]``),
    ``group_size`` is their width.

    Args:
        vllm_config: ``llm.llm_engine.vllm_config``, of any version; anything else gives an empty variant.
    """
    source = _source(vllm_config)
    method, scheme = _scheme(vllm_config, source)
    return Variant(
        model_variant=_model_variant(vllm_config, source.model),
        quantization_format="mixed" if "+" in (scheme.weights or "") else scheme.weights,
        model=_model(_served_name(vllm_config) or source.model),
        method=method,
        weights=scheme.weights,
        activations=scheme.activations,
        kv_cache=_kv_cache(vllm_config, source),
        group_size=scheme.group_size,
    )


def override_variant(detected: Variant, *, model_variant: str | None, quantization_format: str | None) -> Variant:
    """Return ``detected`` with what the user declares; what the engine says otherwise goes to ``declared``.

    Weights that were rounded to an int4 grid but are served in bf16 can only be known to the user; a
    wrong label can be seen by comparing both.

    Args:
        detected: what :func:`detect_variant` found.
        model_variant: the user's name of the artifact; None or empty to keep the detected one.
        quantization_format: the user's word on the weights' format; None or empty to keep the detected one.
    """
    wanted = {"model_variant": model_variant, "quantization_format": quantization_format}
    given = {name: value for name, value in wanted.items() if value}
    found = {name: getattr(detected, name) for name in given}
    declared = tuple((name, value) for name, value in found.items() if value and value != given[name])
    return replace(
        detected,
        model_variant=given.get("model_variant", detected.model_variant),
        quantization_format=given.get("quantization_format", detected.quantization_format),
        declared=detected.declared + declared,
    )


def _source(vllm_config: Any) -> Source:
    model_config = read(vllm_config, "model_config")
    hf_config = read(model_config, "hf_config")
    return Source(
        method=as_word(read(model_config, "quantization")) or _method_of_loader(vllm_config) or "",
        dtype=as_format(read(model_config, "dtype")),
        checkpoint=_checkpoint_config(model_config, hf_config),
        runtime=read(vllm_config, "quant_config"),
        args=read(model_config, "quantization_config"),
        hf_config=hf_config,
        model=as_text(read(model_config, "model")),
        experts=_experts(model_config, hf_config),
    )


def _checkpoint_config(model_config: Any, hf_config: Any) -> Any:
    """Look where vLLM looks (`weight_utils.py`: get_quant_config); multi-modal models may nest it."""
    texts = (read(hf_config, "text_config"), read(model_config, "hf_text_config"))
    return first(
        (
            read(hf_config, "quantization_config"),
            *(read(text, "quantization_config") for text in texts),
            read(hf_config, "compression_config"),  # older compressed-tensors checkpoints
        )
    )


def _experts(model_config: Any, hf_config: Any) -> int | None:
    """Return the number of experts as vLLM counts it (0.14), else from the fields that it counts."""
    counted = as_whole(read(read(model_config, "model_arch_config"), "num_experts"))
    if counted is not None or hf_config is None:
        return counted
    names = ("num_experts", "moe_num_experts", "n_routed_experts", "num_local_experts")
    places = (read(model_config, "hf_text_config"), read(hf_config, "text_config"), hf_config)
    found = first(read(place, *names) for place in places)
    return as_whole(first((*as_list(found)[:1], found, 0)))


def _method_of_loader(vllm_config: Any) -> str | None:
    # Both are loaders as much as methods: plug-ins that bring them (from 0.32, they are no longer vLLM's
    # own) may name the loader alone.
    loader = as_word(read(read(vllm_config, "load_config"), "load_format"))
    return loader if loader in ("gguf", "bitsandbytes") else None


def _scheme(vllm_config: Any, source: Source) -> tuple[str | None, Scheme]:
    if source.method:
        return scheme_of(source)
    try:
        stated = getattr(read(vllm_config, "model_config"), "quantization", _UNREADABLE)
    except Exception:
        stated = _UNREADABLE
    # vLLM fills the field from the checkpoint, so None means plain weights; no field at all means nothing.
    return None, Scheme(source.dtype, source.dtype) if stated is None else UNKNOWN_SCHEME


_SNAPSHOT = re.compile(r"models--([^/]+)/snapshots/[^/]+$")


def _model_variant(vllm_config: Any, model: str | None) -> str | None:
    served = _served_name(vllm_config)
    # The default of served_model_name is the model. For remote weights vLLM changes `model` to a local
    # copy and leaves the address in the served name, where nobody chose it.
    if served and model and served != model and "://" not in served:
        return served
    return _last_part(served or model)


def _model(name: str | None) -> str | None:
    # A model served from a local directory has its path as name: span names and dashboards want its last part.
    return _last_part(name) if name and name.startswith(("/", ".")) else name


def _served_name(vllm_config: Any) -> str | None:
    served = read(read(vllm_config, "model_config"), "served_model_name")
    return as_text(first((*as_list(served)[:1], served)))


def _last_part(path: str | None) -> str | None:
    """Return the name in ``org/name``, ``/models/name/`` or ``.../models--org--name/snapshots/<commit>``."""
    trimmed = (path or "").rstrip("/")
    snapshot = _SNAPSHOT.search(trimmed)
    name = snapshot[1].rsplit("--", 1)[-1] if snapshot else trimmed.rsplit("/", 1)[-1]
    return name or path


_KV_CACHE_FLOATS = frozenset({"half", "float", "float16", "bfloat16", "float32"})


def _kv_cache(vllm_config: Any, source: Source) -> str | None:
    """Return the KV cache's format in vLLM's own word (``fp8_e5m2``, ...), and for ``auto`` what it means."""
    stated = as_word(read(read(vllm_config, "cache_config"), "cache_dtype"))
    if stated != "auto":
        return as_format(stated) if stated in _KV_CACHE_FLOATS else stated
    return "fp8" if _checkpoint_sets_kv_cache(vllm_config, source) else source.dtype


def _checkpoint_sets_kv_cache(vllm_config: Any, source: Source) -> bool:
    """Tell whether ``auto`` follows the checkpoint, as only the attention layers of vLLM's workers decide.

    For compressed-tensors from 0.15 (`attention.py`: kv_cache_scheme, which must be FP8), but not for
    MLA. ModelOpt's wish is already in ``cache_dtype`` (`torch_utils.py`: resolve_kv_cache_dtype_string).
    Other methods do not follow it. To 0.21, compressed-tensors also won over a dtype that the user chose;
    no config tells these versions apart, and the user's choice is reported.
    """
    if source.method != "compressed-tensors" or source.find("kv_cache_scheme") is None:
        return False
    since_0_15 = read(read(vllm_config, "cache_config"), "mamba_cache_mode") is not None  # came with 0.15
    return since_0_15 and read(read(vllm_config, "model_config"), "use_mla") is not True
