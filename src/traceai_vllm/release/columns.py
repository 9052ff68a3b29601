"""The table of spans that a release decision is made from: its columns, and the attributes that they are read from.

Every source (our store, OTLP files, Parquet, ClickHouse) is brought to this one form; all that follows is Ibis on it.
A Parquet file may also have these columns already: a column is found by its own name or by the name of an attribute.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from traceai_vllm.telemetry import semconv

BASELINE: Final = "baseline"
CANDIDATE: Final = "candidate"
REPEAT: Final = "baseline_repeat"

# Written by the gateway (gateway/names.py), which is not imported: reading spans does not need its libraries.
PAIR_PREFIX: Final = "traceai.pair."
SLICES: Final = "traceai.slices"
FEEDBACK_PREFIX: Final = "traceai.feedback."
COST_USD: Final = "traceai.cost.usd"
PAIRED_CHECK_PREFIX: Final = "traceai.paired_check."


@dataclass(frozen=True)
class Column:
    """One column.

    Attributes:
        name: its name.
        kind: ``string``, ``int64``, ``float64``, ``boolean`` or ``list``: texts in a list.
        keys: the attributes that it is read from; the first that is there counts. None for a field of the span itself.
    """

    name: str
    kind: str
    keys: tuple[str, ...] = ()


FIELDS: Final = (
    Column("trace_id", "string"),
    Column("span_id", "string"),
    Column("parent_span_id", "string"),
    Column("kind", "string"),
    Column("start_ns", "int64"),
    Column("end_ns", "int64"),
    Column("failed", "boolean"),
)

_PROMPT_TOKENS = (semconv.USAGE_INPUT_TOKENS, semconv.LLM_TOKEN_COUNT_PROMPT, "gen_ai.usage.prompt_tokens")
_ANSWER_TOKENS = (semconv.USAGE_OUTPUT_TOKENS, semconv.LLM_TOKEN_COUNT_COMPLETION, "gen_ai.usage.completion_tokens")

ATTRIBUTES: Final = (
    Column("pair_id", "string", (PAIR_PREFIX + "id",)),
    Column("arm", "string", (PAIR_PREFIX + "arm",)),
    Column("outcome", "string", (PAIR_PREFIX + "outcome",)),
    Column("drop_reason", "string", (PAIR_PREFIX + "drop_reason",)),
    Column("prompt_hash", "string", (PAIR_PREFIX + "prompt_hash",)),
    Column("differing_fields", "list", (PAIR_PREFIX + "differing_fields",)),
    Column("same_answer", "boolean", (PAIR_PREFIX + "same_answer",)),
    Column("first_divergence", "int64", (PAIR_PREFIX + "first_divergence",)),
    Column("top1_agreement", "float64", (PAIR_PREFIX + "top1_agreement",)),
    Column("kl_divergence", "float64", (PAIR_PREFIX + "kl_divergence",)),
    Column("model_variant", "string", (semconv.MODEL_VARIANT, "llm.model_name", semconv.RESPONSE_MODEL)),
    Column("quantization_format", "string", (semconv.QUANTIZATION_FORMAT,)),
    Column("route", "string", (semconv.ROUTE,)),
    Column("intent", "string", ("traceai.route.intent",)),
    Column("prompt_version", "string", (semconv.PROMPT_VERSION, "llm.prompt_template.version")),
    Column("traffic_cohort", "string", (semconv.TRAFFIC_COHORT,)),
    Column("agent_step", "string", (semconv.AGENT_STEP,)),
    Column("slices", "list", (SLICES,)),
    Column("session", "string", ("gen_ai.conversation.id", "session.id", "traceai.session.id")),
    Column("operation", "string", (semconv.OPERATION_NAME,)),
    Column("error_type", "string", (semconv.ERROR_TYPE,)),
    Column("input_tokens", "int64", _PROMPT_TOKENS),
    Column("output_tokens", "int64", _ANSWER_TOKENS),
    Column("ttft_s", "float64", (semconv.LATENCY_TIME_TO_FIRST_TOKEN, semconv.RESPONSE_TIME_TO_FIRST_CHUNK)),
    Column("latency_s", "float64", (semconv.LATENCY_E2E,)),
    Column("decode_s", "float64", (semconv.LATENCY_TIME_IN_MODEL_DECODE,)),
    Column("cost_usd", "float64", (COST_USD, "llm.cost.total")),
    Column("feedback", "string", (semconv.FEEDBACK_KIND,)),
    Column("feedback_id", "string", (semconv.FEEDBACK_ID,)),
    Column("feedback_trace_id", "string", (semconv.FEEDBACK_TRACE_ID,)),
    Column("response_id", "string", (semconv.RESPONSE_ID,)),
    Column("temperature", "string", (semconv.REQUEST_TEMPERATURE,)),
    Column("top_p", "string", (semconv.REQUEST_TOP_P,)),
    Column("top_k", "string", (semconv.REQUEST_TOP_K,)),
    Column("max_tokens", "string", (semconv.REQUEST_MAX_TOKENS,)),
    Column("seed", "string", (semconv.REQUEST_SEED,)),
    Column("frequency_penalty", "string", (semconv.REQUEST_FREQUENCY_PENALTY,)),
    Column("presence_penalty", "string", (semconv.REQUEST_PRESENCE_PENALTY,)),
)
# What must be the same in both arms, beside prompt_hash and prompt_version.
SAMPLING: Final = ("temperature", "top_p", "top_k", "max_tokens", "seed", "frequency_penalty", "presence_penalty")
# By how much the second answer differs from the first, as whoever had both noted it.
DIVERGENCE: Final = ("same_answer", "first_divergence", "top1_agreement", "kl_divergence")

COLUMNS: Final = (*FIELDS, *ATTRIBUTES)
# A score per evaluator and span, and whether it reached the evaluator's threshold.
SCORE: Final = "score:"
PASSED: Final = "passed:"


def score_key(evaluator: str) -> str:
    """Return the attribute that an evaluator's score is in."""
    return f"{semconv.EVALUATION_PREFIX}{evaluator}.score"


def passed_key(evaluator: str) -> str:
    """Return the attribute that says whether an evaluator's score reached its threshold."""
    return f"{semconv.EVALUATION_PREFIX}{evaluator}.passed"


def or_else(value: Any, other: Any) -> Any:
    """Return an Ibis value where there is one, else another; a list without items is none, as it may not be null."""
    if value.type().is_array():
        return is_given(value).ifelse(value, other)
    return value.fill_null(other)


def is_given(value: Any) -> Any:
    """Return where an Ibis value is there; see :func:`or_else`."""
    return (value.length() > 0).fill_null(False) if value.type().is_array() else value.notnull()
