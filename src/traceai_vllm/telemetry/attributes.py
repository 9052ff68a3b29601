"""From a request's record to span attributes: pure functions, testable without vLLM and without a span."""

from __future__ import annotations

from operator import attrgetter
from typing import TYPE_CHECKING, Any

from traceai_vllm.telemetry import semconv
from traceai_vllm.telemetry.tags import tags_in

if TYPE_CHECKING:
    from collections.abc import Callable

    from opentelemetry.context import Context

    from traceai_vllm.record import RequestRecord, Variant

Attributes = dict[str, Any]


def variant_attributes(variant: Variant) -> Attributes:
    """Return what the engine serves: model, number formats, and where the user declared otherwise."""
    attributes = _present(
        (semconv.MODEL_VARIANT, variant.model_variant),
        (semconv.QUANTIZATION_FORMAT, variant.quantization_format),
        (semconv.REQUEST_MODEL, variant.model),
        (semconv.QUANTIZATION_METHOD, variant.method),
        (semconv.QUANTIZATION_WEIGHTS, variant.weights),
        (semconv.QUANTIZATION_ACTIVATIONS, variant.activations),
        (semconv.QUANTIZATION_KV_CACHE, variant.kv_cache),
        (semconv.QUANTIZATION_GROUP_SIZE, variant.group_size),
    )
    for name, detected in variant.declared:
        attributes[semconv.DETECTED_PREFIX + name] = detected
    return attributes


# Fields of the record and their attributes; a field that is None is left out.
_FIELDS: tuple[tuple[str, str], ...] = (
    ("request_id", semconv.RESPONSE_ID),
    ("max_tokens", semconv.REQUEST_MAX_TOKENS),
    ("temperature", semconv.REQUEST_TEMPERATURE),
    ("top_p", semconv.REQUEST_TOP_P),
    ("top_k", semconv.REQUEST_TOP_K),
    ("frequency_penalty", semconv.REQUEST_FREQUENCY_PENALTY),
    ("presence_penalty", semconv.REQUEST_PRESENCE_PENALTY),
    ("seed", semconv.REQUEST_SEED),
    ("stream", semconv.REQUEST_STREAM),
    ("output_type", semconv.OUTPUT_TYPE),
    ("dimensions", semconv.EMBEDDINGS_DIMENSION_COUNT),
    ("beam_width", semconv.BEAM_WIDTH),
    ("lora", semconv.LORA),
    ("engine_running", semconv.ENGINE_RUNNING),
    ("engine_waiting", semconv.ENGINE_WAITING),
    ("engine_kv_cache_usage", semconv.ENGINE_KV_CACHE_USAGE),
    ("input_tokens", semconv.USAGE_INPUT_TOKENS),
    ("output_tokens", semconv.USAGE_OUTPUT_TOKENS),
    ("cached_tokens", semconv.USAGE_CACHE_READ_INPUT_TOKENS),
    ("input_tokens", semconv.LLM_TOKEN_COUNT_PROMPT),
    ("output_tokens", semconv.LLM_TOKEN_COUNT_COMPLETION),
    ("time_to_first_token", semconv.LATENCY_TIME_TO_FIRST_TOKEN),
    ("e2e", semconv.LATENCY_E2E),
    ("time_in_queue", semconv.LATENCY_TIME_IN_QUEUE),
    ("time_in_model_prefill", semconv.LATENCY_TIME_IN_MODEL_PREFILL),
    ("time_in_model_decode", semconv.LATENCY_TIME_IN_MODEL_DECODE),
    ("time_in_model_inference", semconv.LATENCY_TIME_IN_MODEL_INFERENCE),
    ("preemptions", semconv.PREEMPTIONS),
    ("draft_tokens", semconv.DRAFT_TOKENS),
    ("accepted_tokens", semconv.ACCEPTED_TOKENS),
    ("error_type", semconv.ERROR_TYPE),
)
_KEYS = tuple(key for _, key in _FIELDS)
# One call for all fields: this runs for every request.
_values: Callable[[RequestRecord], tuple[Any, ...]] = attrgetter(*(field for field, _ in _FIELDS))


def request_attributes(record: RequestRecord, variant: Attributes) -> Attributes:
    """Return all attributes of a request that has ended.

    Args:
        record: the request.
        variant: the attributes of its variant (from :func:`variant_attributes`; the same for a whole engine).
    """
    attributes: Attributes = {semconv.OPERATION_NAME: record.operation, semconv.PROVIDER_NAME: semconv.PROVIDER}
    attributes.update(variant)
    attributes.update(tags_in(record.context))
    for key, value in zip(_KEYS, _values(record), strict=True):
        if value is not None:
            attributes[key] = value
    if record.variant.model is not None:
        attributes[semconv.RESPONSE_MODEL] = record.variant.model
    if record.finish_reasons:
        attributes[semconv.RESPONSE_FINISH_REASONS] = tuple(record.finish_reasons)
    if record.choices > 1:
        attributes[semconv.REQUEST_CHOICE_COUNT] = record.choices
    if record.input_tokens is not None:
        attributes[semconv.LLM_TOKEN_COUNT_TOTAL] = record.input_tokens + (record.output_tokens or 0)
    return attributes


def batch_attributes(entry_point: str, variant: Variant, ctx: Context) -> Attributes:
    """Return the attributes of an offline batch: the span round the requests of one call such as ``LLM.chat``."""
    return {semconv.BATCH_ENTRY_POINT: entry_point, **variant_attributes(variant), **tags_in(ctx)}


def _present(*pairs: tuple[str, Any]) -> Attributes:
    return {key: value for key, value in pairs if value is not None}
