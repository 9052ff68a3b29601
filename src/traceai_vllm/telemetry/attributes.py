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


def admission_attributes(record: RequestRecord, variant: Attributes) -> Attributes:
    """Return what was known when the request was admitted: what a sampler may decide on.

    Args:
        record: the request.
        variant: the attributes of its variant (from :func:`variant_attributes`; the same for a whole engine).
    """
    attributes: Attributes = {semconv.OPERATION_NAME: record.operation, semconv.PROVIDER_NAME: semconv.PROVIDER}
    attributes.update(variant)
    attributes.update(tags_in(record.context))
    for key, value in (
        (semconv.RESPONSE_ID, record.request_id),
        (semconv.REQUEST_MAX_TOKENS, record.max_tokens),
        (semconv.REQUEST_TEMPERATURE, record.temperature),
        (semconv.REQUEST_TOP_P, record.top_p),
        (semconv.REQUEST_TOP_K, record.top_k),
        (semconv.REQUEST_FREQUENCY_PENALTY, record.frequency_penalty),
        (semconv.REQUEST_PRESENCE_PENALTY, record.presence_penalty),
        (semconv.REQUEST_SEED, record.seed),
        (semconv.REQUEST_STOP_SEQUENCES, record.stop_sequences or None),
        (semconv.REQUEST_CHOICE_COUNT, record.choices if record.choices > 1 else None),
        (semconv.REQUEST_STREAM, record.stream),
        (semconv.OUTPUT_TYPE, record.output_type),
        (semconv.EMBEDDINGS_DIMENSION_COUNT, record.dimensions),
        (semconv.BEAM_WIDTH, record.beam_width),
        (semconv.LORA, record.lora),
        (semconv.ENGINE_RUNNING, record.engine_running),
        (semconv.ENGINE_WAITING, record.engine_waiting),
        (semconv.ENGINE_KV_CACHE_USAGE, record.engine_kv_cache_usage),
    ):
        if value is not None:
            attributes[key] = value
    return attributes


def result_attributes(record: RequestRecord) -> Attributes:
    """Return what came of the request: tokens, latency, finish reasons, error."""
    total = None
    if record.input_tokens is not None:
        total = record.input_tokens + (record.output_tokens or 0)
    return _present(
        (semconv.RESPONSE_MODEL, record.variant.model),
        (semconv.RESPONSE_FINISH_REASONS, tuple(record.finish_reasons) or None),
        (semconv.USAGE_INPUT_TOKENS, record.input_tokens),
        (semconv.USAGE_OUTPUT_TOKENS, record.output_tokens),
        (semconv.USAGE_CACHE_READ_INPUT_TOKENS, record.cached_tokens),
        (semconv.LLM_TOKEN_COUNT_PROMPT, record.input_tokens),
        (semconv.LLM_TOKEN_COUNT_COMPLETION, record.output_tokens),
        (semconv.LLM_TOKEN_COUNT_TOTAL, total),
        (semconv.LATENCY_TIME_TO_FIRST_TOKEN, record.time_to_first_token),
        (semconv.LATENCY_E2E, record.e2e),
        (semconv.LATENCY_TIME_IN_QUEUE, record.time_in_queue),
        (semconv.LATENCY_TIME_IN_MODEL_PREFILL, record.time_in_model_prefill),
        (semconv.LATENCY_TIME_IN_MODEL_DECODE, record.time_in_model_decode),
        (semconv.LATENCY_TIME_IN_MODEL_INFERENCE, record.time_in_model_inference),
        (semconv.PREEMPTIONS, record.preemptions),
        (semconv.DRAFT_TOKENS, record.draft_tokens),
        (semconv.ACCEPTED_TOKENS, record.accepted_tokens),
        (semconv.ERROR_TYPE, record.error_type),
    )


def batch_attributes(entry_point: str, variant: Variant, ctx: Context) -> Attributes:
    """Return the attributes of an offline batch: the span round the requests of one call such as ``LLM.chat``."""
    return {semconv.BATCH_ENTRY_POINT: entry_point, **variant_attributes(variant), **tags_in(ctx)}


def _present(*pairs: tuple[str, Any]) -> Attributes:
    return {key: value for key, value in pairs if value is not None}
