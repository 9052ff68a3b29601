"""From a request's record to span attributes: pure functions, testable without vLLM and without a span."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from traceai_vllm.telemetry import semconv
from traceai_vllm.telemetry.tags import tags_in

if TYPE_CHECKING:
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


_KEYS = (
    semconv.RESPONSE_ID,
    semconv.REQUEST_MAX_TOKENS,
    semconv.REQUEST_TEMPERATURE,
    semconv.REQUEST_TOP_P,
    semconv.REQUEST_TOP_K,
    semconv.REQUEST_FREQUENCY_PENALTY,
    semconv.REQUEST_PRESENCE_PENALTY,
    semconv.REQUEST_SEED,
    semconv.REQUEST_STREAM,
    semconv.OUTPUT_TYPE,
    semconv.EMBEDDINGS_DIMENSION_COUNT,
    semconv.BEAM_WIDTH,
    semconv.LORA,
    semconv.ENGINE_RUNNING,
    semconv.ENGINE_WAITING,
    semconv.ENGINE_KV_CACHE_USAGE,
    semconv.USAGE_INPUT_TOKENS,
    semconv.USAGE_OUTPUT_TOKENS,
    semconv.USAGE_CACHE_READ_INPUT_TOKENS,
    semconv.LLM_TOKEN_COUNT_PROMPT,
    semconv.LLM_TOKEN_COUNT_COMPLETION,
    semconv.LATENCY_TIME_TO_FIRST_TOKEN,
    semconv.LATENCY_E2E,
    semconv.LATENCY_TIME_IN_QUEUE,
    semconv.LATENCY_TIME_IN_MODEL_PREFILL,
    semconv.LATENCY_TIME_IN_MODEL_DECODE,
    semconv.LATENCY_TIME_IN_MODEL_INFERENCE,
    semconv.PREEMPTIONS,
    semconv.DRAFT_TOKENS,
    semconv.ACCEPTED_TOKENS,
    semconv.ERROR_TYPE,
)


def _values(record: RequestRecord) -> tuple[Any, ...]:
    # In the order of _KEYS. Written out, because this runs for every request: bytecode remembers where a field of the
    # record is, where attrgetter looks each of them up in the type.
    return (
        record.request_id,
        record.max_tokens,
        record.temperature,
        record.top_p,
        record.top_k,
        record.frequency_penalty,
        record.presence_penalty,
        record.seed,
        record.stream,
        record.output_type,
        record.dimensions,
        record.beam_width,
        record.lora,
        record.engine_running,
        record.engine_waiting,
        record.engine_kv_cache_usage,
        record.input_tokens,
        record.output_tokens,
        record.cached_tokens,
        record.input_tokens,
        record.output_tokens,
        record.time_to_first_token,
        record.e2e,
        record.time_in_queue,
        record.time_in_model_prefill,
        record.time_in_model_decode,
        record.time_in_model_inference,
        record.preemptions,
        record.draft_tokens,
        record.accepted_tokens,
        record.error_type,
    )


def request_attributes(record: RequestRecord, variant: Attributes) -> Attributes:
    """Return all attributes of a request that has ended.

    Args:
        record: the request.
        variant: the attributes of its variant (from :func:`variant_attributes`; the same for a whole engine).
    """
    attributes = variant.copy()
    attributes[semconv.OPERATION_NAME] = record.operation
    attributes[semconv.PROVIDER_NAME] = semconv.PROVIDER
    tags = tags_in(record.context)
    if tags:
        attributes.update(tags)
    for key, value in zip(_KEYS, _values(record), strict=True):  # one that is None is left out
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
