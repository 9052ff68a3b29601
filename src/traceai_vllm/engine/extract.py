"""From vLLM's objects to the record: pure reads, in one place, each with the version that brought it.

Objects are read by ``getattr`` because their classes move between versions (0.8.5 to 0.33); none is imported, and none
is changed. What a version does not have stays None.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from traceai_vllm.record import RequestRecord

# A client may choose it (`X-Request-Id`), and vLLM's server takes headers of megabytes.
MAX_REQUEST_ID = 256

# vllm.pooling_params.PoolingParams.task to the operation name; `embeddings` is the GenAI conventions' word.
POOLING_OPERATIONS = {
    "embed": "embeddings",
    "token_embed": "embeddings",
    "classify": "classify",
    "token_classify": "classify",
    "score": "score",
}


def params_of(request: Any, state: Any) -> Any:
    """Return the ``SamplingParams`` or ``PoolingParams`` of a request, from its first ``EngineCoreRequest``."""
    if state.parent_req is not None:  # n > 1: each child has a copy with n = 1 and a seed of its own
        return state.parent_req.sampling_params
    return request.sampling_params or getattr(request, "pooling_params", None)  # pooling: 0.9.2


def operation_of(params: Any) -> str:
    """Return the operation of a request from its ``SamplingParams`` or ``PoolingParams``."""
    if hasattr(params, "max_tokens"):
        return "text_completion"
    return POOLING_OPERATIONS.get(getattr(params, "task", None) or "", "encode")


def read_params(record: RequestRecord, params: Any) -> None:
    """Copy what the caller asked for from ``SamplingParams`` or ``PoolingParams``."""
    if not hasattr(params, "max_tokens"):
        record.dimensions = getattr(params, "dimensions", None)
        return
    # Callers may pass the integer 0; an attribute must keep one type.
    temperature, top_p, top_k = params.temperature, params.top_p, params.top_k
    record.max_tokens = params.max_tokens
    record.temperature = None if temperature is None else float(temperature)
    record.top_p = None if top_p is None else float(top_p)
    record.top_k = float(top_k) if top_k and top_k > 0 else None  # may be beyond 64 bits
    if params.frequency_penalty:
        record.frequency_penalty = float(params.frequency_penalty)
    if params.presence_penalty:
        record.presence_penalty = float(params.presence_penalty)
    record.seed = params.seed
    if params.stop:
        record.stop_sequences = (params.stop,) if isinstance(params.stop, str) else tuple(params.stop)
    record.choices = params.n
    record.output_type = "json" if _wants_json(params) else "text"


def request_id_of(state: Any) -> Any:
    """Return the id under which a request was handed to the engine, from its ``RequestState``."""
    # external_req_id: 0.14 and later; before, the caller's id is the parent's or the request's own.
    return getattr(state, "external_req_id", None) or (state.parent_req or state).request_id


def read_admission(record: RequestRecord, state: Any) -> None:
    """Copy what the engine's ``RequestState`` says when the request is admitted."""
    record.lora = state.lora_name
    if state.detokenizer is not None:  # None for pooling requests (0.9.2 and later)
        record.max_tokens = state.max_tokens_param


def read_load(record: RequestRecord, scheduler_stats: Any) -> None:
    """Copy the engine's load from its latest ``SchedulerStats``."""
    record.engine_running = scheduler_stats.num_running_reqs
    record.engine_waiting = scheduler_stats.num_waiting_reqs
    record.engine_kv_cache_usage = getattr(scheduler_stats, "kv_cache_usage", None)  # gpu_cache_usage to 0.9.0


def read_result(record: RequestRecord, state: Any, *, in_parts: bool = False) -> None:
    """Add what one answer's ``RequestState`` came to; called once per answer, so several times when n > 1.

    Args:
        record: where it is added.
        state: the ``RequestState``.
        in_parts: the input was streamed: vLLM begins some of its times anew with each part, and none is the request's.
    """
    record.input_tokens = state.prompt_len
    record.cached_tokens = getattr(state, "num_cached_tokens", None)  # 0.10.1
    if state.detokenizer is not None:
        record.output_tokens = (record.output_tokens or 0) + output_tokens(state.detokenizer)
    metrics = getattr(state, "spec_decode_metrics", None)  # 0.29
    if metrics is not None:
        accepted = sum(count * tokens for tokens, count in enumerate(metrics.histogram))
        record.draft_tokens = (record.draft_tokens or 0) + metrics.num_draft_tokens
        record.accepted_tokens = (record.accepted_tokens or 0) + accepted
    if state.stats is not None:
        if not in_parts:
            _read_times(record, state.stats)
        preemptions = getattr(state.stats, "num_preemptions", None)  # 0.30
        if preemptions is not None:
            record.preemptions = (record.preemptions or 0) + preemptions


def output_tokens(detokenizer: Any) -> int:
    """Return how many tokens were generated, as the caller gets them (cut at a stop string)."""
    count = getattr(detokenizer, "num_output_tokens", None)  # 0.10 and later
    return int(count()) if count is not None else len(detokenizer.output_token_ids)


def reports_first_token(state: Any) -> bool:
    """Return whether vLLM measures this request's time to first token itself (0.10.2, with statistics on)."""
    return hasattr(state.stats, "first_token_latency")


def _read_times(record: RequestRecord, stats: Any) -> None:
    # RequestStateStats. The *_ts are the engine core's monotonic clock: only their differences mean something, and a 0
    # says that the request never got there. With n > 1 the slowest answer counts.
    queued, scheduled = stats.queued_ts, stats.scheduled_ts
    first, last = stats.first_token_ts, stats.last_token_ts
    record.time_in_queue = _longest(record.time_in_queue, queued, scheduled)
    record.time_in_model_prefill = _longest(record.time_in_model_prefill, scheduled, first)
    record.time_in_model_decode = _longest(record.time_in_model_decode, first, last)
    record.time_in_model_inference = _longest(record.time_in_model_inference, scheduled, last)
    latency = getattr(stats, "first_token_latency", 0.0)
    if latency > 0 and (record.time_to_first_token is None or latency < record.time_to_first_token):
        record.time_to_first_token = latency


def _longest(known: float | None, begin: float, end: float) -> float | None:
    if not begin or not end or end < begin:
        return known
    return max(known or 0.0, end - begin)


def output_schema(params: Any) -> Any:
    """Return the JSON schema (a dictionary, or its text) that the answer is held to; None when there is none."""
    return getattr(_guided(params), "json", None)


def _wants_json(params: Any) -> bool:
    guided = _guided(params)
    return guided is not None and bool(getattr(guided, "json", None) or getattr(guided, "json_object", None))


def _guided(params: Any) -> Any:
    try:
        return params.structured_outputs  # StructuredOutputsParams: 0.11.1
    except AttributeError:
        return getattr(params, "guided_decoding", None)
