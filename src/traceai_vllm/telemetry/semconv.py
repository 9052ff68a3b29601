"""Every attribute and metric name that this package writes, with type and meaning.

Names from OpenTelemetry's GenAI semantic conventions are written out here (not imported from the package's
``_incubating`` modules, which lack names in older releases); a test holds them against the installed conventions.
``docs/attributes.md`` is generated from this module.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Attribute:
    """One attribute of the contract: its key, its type, what it means and whose name it is."""

    key: str
    type: str
    meaning: str
    source: str


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric: its name, instrument, unit, meaning and (for histograms) bucket boundaries."""

    name: str
    instrument: str
    unit: str
    meaning: str
    boundaries: tuple[float, ...] = ()


PROVIDER: Final = "vllm"

# --- Which variant answered --------------------------------------------------------------------------------------
MODEL_VARIANT: Final = "model_variant"
QUANTIZATION_FORMAT: Final = "quantization_format"
QUANTIZATION_METHOD: Final = "traceai.quantization.method"
QUANTIZATION_WEIGHTS: Final = "traceai.quantization.weights"
QUANTIZATION_ACTIVATIONS: Final = "traceai.quantization.activations"
QUANTIZATION_KV_CACHE: Final = "traceai.quantization.kv_cache"
QUANTIZATION_GROUP_SIZE: Final = "traceai.quantization.group_size"
DETECTED_PREFIX: Final = "traceai.detected."

# --- Which traffic it was ----------------------------------------------------------------------------------------
ROUTE: Final = "route"
PROMPT_VERSION: Final = "prompt_version"
TRAFFIC_COHORT: Final = "traffic_cohort"
AGENT_STEP: Final = "agent_step"
TAG_PREFIX: Final = "traceai.tag."
NAMED_TAGS: Final = (ROUTE, PROMPT_VERSION, TRAFFIC_COHORT, AGENT_STEP)

# --- OpenTelemetry GenAI -----------------------------------------------------------------------------------------
OPERATION_NAME: Final = "gen_ai.operation.name"
PROVIDER_NAME: Final = "gen_ai.provider.name"
REQUEST_MODEL: Final = "gen_ai.request.model"
REQUEST_MAX_TOKENS: Final = "gen_ai.request.max_tokens"
REQUEST_TEMPERATURE: Final = "gen_ai.request.temperature"
REQUEST_TOP_P: Final = "gen_ai.request.top_p"
REQUEST_TOP_K: Final = "gen_ai.request.top_k"
REQUEST_FREQUENCY_PENALTY: Final = "gen_ai.request.frequency_penalty"
REQUEST_PRESENCE_PENALTY: Final = "gen_ai.request.presence_penalty"
REQUEST_SEED: Final = "gen_ai.request.seed"
REQUEST_STOP_SEQUENCES: Final = "gen_ai.request.stop_sequences"
REQUEST_CHOICE_COUNT: Final = "gen_ai.request.choice.count"
REQUEST_STREAM: Final = "gen_ai.request.stream"
OUTPUT_TYPE: Final = "gen_ai.output.type"
EMBEDDINGS_DIMENSION_COUNT: Final = "gen_ai.embeddings.dimension.count"
RESPONSE_MODEL: Final = "gen_ai.response.model"
RESPONSE_ID: Final = "gen_ai.response.id"
RESPONSE_TIME_TO_FIRST_CHUNK: Final = "gen_ai.response.time_to_first_chunk"
RESPONSE_FINISH_REASONS: Final = "gen_ai.response.finish_reasons"
USAGE_INPUT_TOKENS: Final = "gen_ai.usage.input_tokens"
USAGE_OUTPUT_TOKENS: Final = "gen_ai.usage.output_tokens"
USAGE_CACHE_READ_INPUT_TOKENS: Final = "gen_ai.usage.cache_read.input_tokens"
USAGE_REASONING_OUTPUT_TOKENS: Final = "gen_ai.usage.reasoning.output_tokens"
TOKEN_TYPE: Final = "gen_ai.token.type"
INPUT_MESSAGES: Final = "gen_ai.input.messages"
OUTPUT_MESSAGES: Final = "gen_ai.output.messages"
SYSTEM_INSTRUCTIONS: Final = "gen_ai.system_instructions"
TOOL_DEFINITIONS: Final = "gen_ai.tool.definitions"
CONTENT_EVENT: Final = "gen_ai.client.inference.operation.details"
ERROR_TYPE: Final = "error.type"

# --- OpenInference twins -----------------------------------------------------------------------------------------
LLM_TOKEN_COUNT_PROMPT: Final = "llm.token_count.prompt"
LLM_TOKEN_COUNT_COMPLETION: Final = "llm.token_count.completion"
LLM_TOKEN_COUNT_TOTAL: Final = "llm.token_count.total"

# --- vLLM's own latency names (vllm/tracing/utils.py, SpanAttributes) --------------------------------------------
LATENCY_TIME_TO_FIRST_TOKEN: Final = "gen_ai.latency.time_to_first_token"
LATENCY_E2E: Final = "gen_ai.latency.e2e"
LATENCY_TIME_IN_QUEUE: Final = "gen_ai.latency.time_in_queue"
LATENCY_TIME_IN_MODEL_PREFILL: Final = "gen_ai.latency.time_in_model_prefill"
LATENCY_TIME_IN_MODEL_DECODE: Final = "gen_ai.latency.time_in_model_decode"
LATENCY_TIME_IN_MODEL_INFERENCE: Final = "gen_ai.latency.time_in_model_inference"

# --- The engine --------------------------------------------------------------------------------------------------
LORA: Final = "traceai.lora"
PREEMPTIONS: Final = "traceai.preemptions"
DRAFT_TOKENS: Final = "traceai.speculative.draft_tokens"
ACCEPTED_TOKENS: Final = "traceai.speculative.accepted_tokens"
ENGINE_RUNNING: Final = "traceai.engine.running"
ENGINE_WAITING: Final = "traceai.engine.waiting"
ENGINE_KV_CACHE_USAGE: Final = "traceai.engine.kv_cache_usage"

# --- Content, when it is captured --------------------------------------------------------------------------------
RETRIEVED_CONTEXT: Final = "traceai.context"
OUTPUT_SCHEMA: Final = "traceai.output_schema"
TOOL_CHOICE: Final = "traceai.tool_choice"
EXPECTED_CALLS: Final = "traceai.expected_calls"
CONTENT_LEFT_OUT: Final = "traceai.content.left_out"
CONTENT_REDACTIONS: Final = "traceai.content.redactions"

WORKER_RANK: Final = "vllm.worker.rank"
PROCESS_PID: Final = "process.pid"
HW_ID: Final = "hw.id"
HW_NAME: Final = "hw.name"

# --- Evaluation --------------------------------------------------------------------------------------------------
EVALUATION_PREFIX: Final = "gen_ai.evaluation."
EVALUATION_STATUS: Final = "traceai.evaluation.status"
EVALUATION_FAILURES: Final = "traceai.evaluation.failures"
EVALUATION_EVENT: Final = "gen_ai.evaluation.result"
EVALUATION_NAME: Final = "gen_ai.evaluation.name"
EVALUATION_SCORE_VALUE: Final = "gen_ai.evaluation.score.value"
EVALUATION_SCORE_LABEL: Final = "gen_ai.evaluation.score.label"
SLICES: Final = "traceai.slices"
EVALUATION_EXPLANATION: Final = "gen_ai.evaluation.explanation"

# --- Feedback ----------------------------------------------------------------------------------------------------
FEEDBACK_KIND: Final = "traceai.feedback.kind"
FEEDBACK_ID: Final = "traceai.feedback.id"
FEEDBACK_TRACE_ID: Final = "traceai.feedback.trace_id"
FEEDBACK_TEXT: Final = "traceai.feedback.text"

# --- Offline batches ---------------------------------------------------------------------------------------------
BATCH_ENTRY_POINT: Final = "traceai.batch.entry_point"
BATCH_SIZE: Final = "traceai.batch.size"
BEAM_WIDTH: Final = "traceai.beam.width"

_OTEL = "OpenTelemetry"
_GENAI = "OpenTelemetry GenAI"
_OPENINFERENCE = "OpenInference"
_VLLM = "vLLM"
_OURS = "traceai-vllm"

ATTRIBUTES: Final[tuple[Attribute, ...]] = (
    Attribute(MODEL_VARIANT, "string", "The artifact that served the request, e.g. `llama-3.1-70b-awq`.", _OURS),
    Attribute(QUANTIZATION_FORMAT, "string", "Number format of the weights, read from the engine.", _OURS),
    Attribute(QUANTIZATION_METHOD, "string", "Quantization method in force: `awq`, `compressed-tensors`, …", _OURS),
    Attribute(QUANTIZATION_WEIGHTS, "string", "Number format of the weights, as the engine says.", _OURS),
    Attribute(QUANTIZATION_ACTIVATIONS, "string", "Number format of the activations.", _OURS),
    Attribute(QUANTIZATION_KV_CACHE, "string", "Number format of the KV cache.", _OURS),
    Attribute(QUANTIZATION_GROUP_SIZE, "int", "Elements that share one weight scale.", _OURS),
    Attribute(
        DETECTED_PREFIX + "<name>",
        "string",
        "What the engine says where the user declared another `model_variant` or `quantization_format`.",
        _OURS,
    ),
    Attribute(ROUTE, "string", "The application's route, from `tags(...)`; unset when unknown.", _OURS),
    Attribute(PROMPT_VERSION, "string", "The version of the prompt, from `tags(...)`.", _OURS),
    Attribute(TRAFFIC_COHORT, "string", "The cohort of traffic, from `tags(...)`.", _OURS),
    Attribute(AGENT_STEP, "string", "The step of the agent that asked, from `tags(...)`.", _OURS),
    Attribute(TAG_PREFIX + "<name>", "string, bool, int, float", "A free tag: `tags(extra={name: value})`.", _OURS),
    Attribute(OPERATION_NAME, "string", "`chat`, `text_completion`, `embeddings`, `classify`, `score`, …", _GENAI),
    Attribute(PROVIDER_NAME, "string", "Always `vllm`.", _GENAI),
    Attribute(REQUEST_MODEL, "string", "The model name that the engine serves.", _GENAI),
    Attribute(REQUEST_MAX_TOKENS, "int", "Token limit of the request, after vLLM's defaults.", _GENAI),
    Attribute(REQUEST_TEMPERATURE, "double", "Sampling temperature; 0 is recorded.", _GENAI),
    Attribute(REQUEST_TOP_P, "double", "Nucleus sampling threshold.", _GENAI),
    Attribute(REQUEST_TOP_K, "double", "Top-k, when it is limited.", _GENAI),
    Attribute(REQUEST_FREQUENCY_PENALTY, "double", "Frequency penalty, when not 0.", _GENAI),
    Attribute(REQUEST_PRESENCE_PENALTY, "double", "Presence penalty, when not 0.", _GENAI),
    Attribute(REQUEST_SEED, "int", "Seed, when given.", _GENAI),
    Attribute(REQUEST_STOP_SEQUENCES, "string[]", "Stop strings; only when content is captured.", _GENAI),
    Attribute(REQUEST_CHOICE_COUNT, "int", "`n`, when more than one answer was asked for.", _GENAI),
    Attribute(REQUEST_STREAM, "boolean", "True when outputs were streamed as they came.", _GENAI),
    Attribute(OUTPUT_TYPE, "string", "`json` when structured output was asked for, else `text`.", _GENAI),
    Attribute(EMBEDDINGS_DIMENSION_COUNT, "int", "Dimensions asked for in an embedding request.", _GENAI),
    Attribute(RESPONSE_MODEL, "string", "The model name that the engine serves.", _GENAI),
    Attribute(RESPONSE_ID, "string", "The request id that the caller sees, to 256 characters.", _GENAI),
    Attribute(RESPONSE_FINISH_REASONS, "string[]", "One per answer: `stop`, `length`, `abort`, `error`, …", _GENAI),
    Attribute(
        RESPONSE_TIME_TO_FIRST_CHUNK,
        "double",
        "On the SERVER span: seconds from the HTTP request to the first bytes of the response's body.",
        _GENAI,
    ),
    Attribute(USAGE_INPUT_TOKENS, "int", "Prompt tokens (once, also when `n` > 1).", _GENAI),
    Attribute(USAGE_OUTPUT_TOKENS, "int", "Generated tokens, over all answers.", _GENAI),
    Attribute(USAGE_CACHE_READ_INPUT_TOKENS, "int", "Prompt tokens found in the prefix cache.", _GENAI),
    Attribute(
        USAGE_REASONING_OUTPUT_TOKENS,
        "int",
        "On the SERVER span: generated tokens that are reasoning, where vLLM counts them.",
        _GENAI,
    ),
    Attribute(
        ERROR_TYPE, "string", "Engine error class, `timeout`, `cancelled` (client gone); HTTP status (5xx).", _GENAI
    ),
    Attribute(LLM_TOKEN_COUNT_PROMPT, "int", "Twin of `gen_ai.usage.input_tokens`.", _OPENINFERENCE),
    Attribute(LLM_TOKEN_COUNT_COMPLETION, "int", "Twin of `gen_ai.usage.output_tokens`.", _OPENINFERENCE),
    Attribute(LLM_TOKEN_COUNT_TOTAL, "int", "Prompt and generated tokens.", _OPENINFERENCE),
    Attribute(LATENCY_TIME_TO_FIRST_TOKEN, "double", "Seconds from arrival to the first token.", _VLLM),
    Attribute(LATENCY_E2E, "double", "Seconds from arrival to the end.", _VLLM),
    Attribute(LATENCY_TIME_IN_QUEUE, "double", "Seconds waiting for the scheduler.", _VLLM),
    Attribute(LATENCY_TIME_IN_MODEL_PREFILL, "double", "Seconds from scheduling to the first token.", _VLLM),
    Attribute(LATENCY_TIME_IN_MODEL_DECODE, "double", "Seconds from the first to the last token.", _VLLM),
    Attribute(LATENCY_TIME_IN_MODEL_INFERENCE, "double", "Seconds from scheduling to the last token.", _VLLM),
    Attribute(LORA, "string", "Name of the LoRA adapter.", _OURS),
    Attribute(PREEMPTIONS, "int", "How often the scheduler preempted the request.", _OURS),
    Attribute(DRAFT_TOKENS, "int", "Speculative tokens proposed.", _OURS),
    Attribute(ACCEPTED_TOKENS, "int", "Speculative tokens accepted.", _OURS),
    Attribute(ENGINE_RUNNING, "int", "Requests running in the engine at admission.", _OURS),
    Attribute(ENGINE_WAITING, "int", "Requests waiting in the engine at admission.", _OURS),
    Attribute(ENGINE_KV_CACHE_USAGE, "double", "Share of the KV cache in use at admission, 0 to 1.", _OURS),
    Attribute(INPUT_MESSAGES, "JSON", "The conversation, or the prompt; only when content is captured.", _GENAI),
    Attribute(OUTPUT_MESSAGES, "JSON", "The answers; only when content is captured.", _GENAI),
    Attribute(SYSTEM_INSTRUCTIONS, "JSON", "Instructions sent apart from the conversation; like them.", _GENAI),
    Attribute(TOOL_DEFINITIONS, "JSON", "The tools that the model was offered; like them.", _GENAI),
    Attribute(RETRIEVED_CONTEXT, "JSON", "Retrieved context, each text with its source; like them.", _OURS),
    Attribute(
        OUTPUT_SCHEMA,
        "JSON",
        "The JSON schema that the answer is to meet; like them, but whole or not at all, and only if nothing in it "
        "would be redacted.",
        _OURS,
    ),
    Attribute(
        TOOL_CHOICE,
        "JSON",
        "Whether a tool was to be called, or which, in the words of the request; like the schema.",
        _OURS,
    ),
    Attribute(
        EXPECTED_CALLS, "JSON", "The tool calls that are right, from `tags(expected=...)`; whole or not at all.", _OURS
    ),
    Attribute(CONTENT_LEFT_OUT, "int", "Characters of content that were cut off, when any.", _OURS),
    Attribute(CONTENT_REDACTIONS, "int", "Places in the content that were redacted, when any.", _OURS),
    Attribute(
        EVALUATION_PREFIX + "<Name>.score",
        "double",
        "An evaluator's score, from 0 to 1, higher is better; absent when it failed.",
        _OURS,
    ),
    Attribute(EVALUATION_PREFIX + "<Name>.label", "string", "The evaluator's word for the outcome.", _OURS),
    Attribute(EVALUATION_PREFIX + "<Name>.passed", "bool", "Whether the score reaches the threshold.", _OURS),
    Attribute(
        EVALUATION_PREFIX + "<Name>.cost_usd",
        "double",
        "What the evaluation itself has cost, where the evaluator says it: a judge with prices.",
        _OURS,
    ),
    Attribute(
        EVALUATION_PREFIX + "<Name>.explanation",
        "string",
        "Why, in words that may be the answer's: only where spans carry content.",
        _OURS,
    ),
    Attribute(
        EVALUATION_STATUS,
        "string",
        "`ok`, or what kept an evaluation away: `error`, `timeout`, `circuit_open`, `queue_full`, `shutdown`. Absent "
        "from requests that were not to be evaluated.",
        _OURS,
    ),
    Attribute(EVALUATION_FAILURES, "string[]", "The evaluators without a score, as `<Name>:<status>`.", _OURS),
    Attribute(
        SLICES,
        "string[]",
        "Cohort slices of an evaluated request: `long_context`, `code`, `multilingual`, `tool_calling`, `regulated`, "
        "`rare_entity`, and those of the tag `slices`. Absent when it is in none.",
        _OURS,
    ),
    Attribute(EVALUATION_NAME, "string", "On the event `gen_ai.evaluation.result`: the evaluator.", _GENAI),
    Attribute(EVALUATION_SCORE_VALUE, "double", "On that event: the score.", _GENAI),
    Attribute(EVALUATION_SCORE_LABEL, "string", "On that event: the evaluator's word for the outcome.", _GENAI),
    Attribute(EVALUATION_EXPLANATION, "string", "On that event: why, where events carry content.", _GENAI),
    Attribute(
        FEEDBACK_KIND,
        "string",
        "On a span `feedback`: `thumbs_up`, `thumbs_down`, `correction`, `escalation` or `abandoned`.",
        _OURS,
    ),
    Attribute(FEEDBACK_ID, "string", "On that span: the same for the same feedback, however often it came.", _OURS),
    Attribute(FEEDBACK_TRACE_ID, "string", "On that span: the trace of the answer that it is about.", _OURS),
    Attribute(FEEDBACK_TEXT, "string", "On that span: a correction; only when content is captured.", _OURS),
    Attribute(BATCH_ENTRY_POINT, "string", "On a batch span: the method called, e.g. `LLM.chat`.", _OURS),
    Attribute(BATCH_SIZE, "int", "On a batch span: how many results it returned.", _OURS),
    Attribute(BEAM_WIDTH, "int", "On a beam search request: how many beams were kept.", _OURS),
)

# Bucket boundaries: the advice of the GenAI metric conventions.
REQUEST_DURATION: Final = Metric(
    "gen_ai.server.request.duration",
    "histogram",
    "s",
    "Time from arrival to the end of a request.",
    (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92),
)
TIME_TO_FIRST_TOKEN: Final = Metric(
    "gen_ai.server.time_to_first_token",
    "histogram",
    "s",
    "Time from arrival to the first token, of requests that end without an error.",
    (0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0),
)
TIME_PER_OUTPUT_TOKEN: Final = Metric(
    "gen_ai.server.time_per_output_token",
    "histogram",
    "s",
    "Mean time per output token after the first, of the same.",
    (0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5),
)
TOKEN_USAGE: Final = Metric(
    "gen_ai.client.token.usage",
    "histogram",
    "{token}",
    "Tokens per request, by gen_ai.token.type (input, output).",
    (1, 4, 16, 64, 256, 1024, 4096, 16384, 65536, 262144, 1048576, 4194304, 16777216, 67108864),
)
INTERNAL_ERRORS: Final = Metric(
    "traceai.internal.errors",
    "observable counter",
    "{error}",
    "Errors inside traceai-vllm itself, swallowed so that the user's call went on.",
)
CAPPED_VALUES: Final = Metric(
    "traceai.metrics.capped_values",
    "observable counter",
    "{value}",
    "Tag values counted as `other` in metrics because their dimension was full.",
)
CALLER_VALUES_REPLACED: Final = Metric(
    "traceai.callers.values_replaced",
    "observable counter",
    "{value}",
    "Tag values of HTTP callers that became `other`: not on the allow-list, or too many different ones.",
)
# The engine's, under vLLM's own names for them (its Prometheus metrics `vllm:*`, and CacheConfig's fields).
NUM_REQUESTS_RUNNING: Final = Metric(
    "vllm.num_requests_running", "observable gauge", "{request}", "Requests in the engine's running batch."
)
NUM_REQUESTS_WAITING: Final = Metric(
    "vllm.num_requests_waiting", "observable gauge", "{request}", "Requests that wait for the scheduler."
)
NUM_PREEMPTIONS: Final = Metric(
    "vllm.num_preemptions", "counter", "{preemption}", "Preemptions, counted when the request ends (vLLM 0.30)."
)
KV_CACHE_USAGE: Final = Metric(
    "vllm.kv_cache_usage", "observable gauge", "1", "Share of the KV cache in use, 0 to 1 (`kv_cache_usage_perc`)."
)
KV_CACHE_SIZE_TOKENS: Final = Metric(
    "vllm.kv_cache_size_tokens", "observable gauge", "{token}", "Tokens that fit into the KV cache of one engine."
)
NUM_GPU_BLOCKS: Final = Metric(
    "vllm.num_gpu_blocks", "observable gauge", "{block}", "Blocks of the KV cache (on CPUs too), over all engines."
)
PREFIX_CACHE_QUERIES: Final = Metric(
    "vllm.prefix_cache_queries", "observable counter", "{token}", "Prompt tokens looked up in the prefix cache."
)
PREFIX_CACHE_HITS: Final = Metric(
    "vllm.prefix_cache_hits", "observable counter", "{token}", "Prompt tokens found in the prefix cache."
)
WEIGHTS_MEMORY: Final = Metric(
    "vllm.weights_memory", "observable up-down counter", "By", "What the model's weights take in one worker's memory."
)
KV_CACHE_MEMORY: Final = Metric(
    "vllm.kv_cache_memory", "observable up-down counter", "By", "What is allocated for the KV cache of one worker."
)
PROCESS_MEMORY_USAGE: Final = Metric(
    "process.memory.usage",
    "observable up-down counter",
    "By",
    "Resident memory of this process and of the engine's own processes.",
)
GPU_MEMORY_USAGE: Final = Metric(
    "hw.gpu.memory.usage",
    "observable up-down counter",
    "By",
    "Memory in use on an NVIDIA GPU that the engine may use, by whatever process (extra `gpu`).",
)
GPU_MEMORY_LIMIT: Final = Metric(
    "hw.gpu.memory.limit", "observable up-down counter", "By", "Memory that such a GPU has."
)
# On the engine's metrics only.
METRIC_ATTRIBUTES: Final = (
    Attribute(WORKER_RANK, "int", "On the memory of a worker: its rank among the engine's workers.", _VLLM),
    Attribute(PROCESS_PID, "int", "On the memory of a process: its id.", _OTEL),
    Attribute(HW_ID, "string", "On the memory of a GPU: its UUID.", _OTEL),
    Attribute(HW_NAME, "string", "On the memory of a GPU: its product name.", _OTEL),
)
ENGINE_METRICS: Final = (
    NUM_REQUESTS_RUNNING,
    NUM_REQUESTS_WAITING,
    NUM_PREEMPTIONS,
    KV_CACHE_USAGE,
    KV_CACHE_SIZE_TOKENS,
    NUM_GPU_BLOCKS,
    PREFIX_CACHE_QUERIES,
    PREFIX_CACHE_HITS,
    WEIGHTS_MEMORY,
    KV_CACHE_MEMORY,
    PROCESS_MEMORY_USAGE,
    GPU_MEMORY_USAGE,
    GPU_MEMORY_LIMIT,
)
EVALUATION_SCORE: Final = Metric(
    "traceai.evaluation.score",
    "histogram",
    "1",
    "Scores, by evaluator, variant, route and cohort.",
    (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99),
)
EVALUATIONS: Final = Metric(
    "traceai.evaluation.count", "counter", "{evaluation}", "Evaluations, by evaluator, status and whether they passed."
)
EVALUATED_REQUESTS: Final = Metric(
    "traceai.evaluation.requests", "counter", "{request}", "Requests that were to be evaluated, by status."
)
FEEDBACK_COUNT: Final = Metric(
    "traceai.feedback.count", "counter", "{feedback}", "What users said of answers, by kind, variant, route and cohort."
)

METRICS: Final = (
    REQUEST_DURATION,
    TIME_TO_FIRST_TOKEN,
    TIME_PER_OUTPUT_TOKEN,
    TOKEN_USAGE,
    INTERNAL_ERRORS,
    CAPPED_VALUES,
    CALLER_VALUES_REPLACED,
    EVALUATION_SCORE,
    EVALUATIONS,
    EVALUATED_REQUESTS,
    FEEDBACK_COUNT,
)
