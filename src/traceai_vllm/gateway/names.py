"""Attribute names that only the gateway writes; the shared ones are in :mod:`traceai_vllm.telemetry.semconv`.

``docs/attributes.md`` has them from here.
"""

from __future__ import annotations

from typing import Final

from traceai_vllm.telemetry.semconv import Attribute

PAIR_ID: Final = "traceai.pair.id"
PAIR_ARM: Final = "traceai.pair.arm"
PAIR_OUTCOME: Final = "traceai.pair.outcome"
PAIR_DROP_REASON: Final = "traceai.pair.drop_reason"
PAIR_PROMPT_HASH: Final = "traceai.pair.prompt_hash"
PAIR_DIFFERING_FIELDS: Final = "traceai.pair.differing_fields"
PAIR_SAME_ANSWER: Final = "traceai.pair.same_answer"
FIRST_DIVERGENCE: Final = "traceai.pair.first_divergence"
TOP1_AGREEMENT: Final = "traceai.pair.top1_agreement"
KL_DIVERGENCE: Final = "traceai.pair.kl_divergence"

CONVERSATION: Final = "gen_ai.conversation.id"
REQUEST_ID: Final = "traceai.request.id"
MODE: Final = "traceai.gateway.mode"
SERVED_BY: Final = "traceai.gateway.served_by"
REFUSED: Final = "traceai.gateway.refused"
FALLBACK: Final = "traceai.gateway.fallback"
DECISION: Final = "traceai.decision.id"
ROLLED_BACK: Final = "traceai.gateway.rolled_back"
ROLLBACK_EVENT: Final = "traceai.gateway.rollback"
ROLLBACK_SIGNAL: Final = "traceai.gateway.rollback.signal"
ROLLBACK_SOURCE: Final = "traceai.gateway.rollback.source"
INTENT: Final = "traceai.route.intent"
RISK: Final = "traceai.route.risk"

CHUNKS: Final = "traceai.response.chunks"
BYTES: Final = "traceai.response.bytes"
GAP_P50: Final = "traceai.response.token_gap.p50"
GAP_P99: Final = "traceai.response.token_gap.p99"
GAP_MAX: Final = "traceai.response.token_gap.max"
TOOL_NAMES: Final = "traceai.response.tool_names"
COST_USD: Final = "traceai.cost.usd"

_GENAI = "OpenTelemetry GenAI"
_OURS = "traceai-vllm"

ATTRIBUTES: tuple[Attribute, ...] = (
    Attribute(REQUEST_ID, "string", "On the SERVER span: the `x-request-id`, the caller's or one made for it.", _OURS),
    Attribute(CONVERSATION, "string", "The user's session, from `x-session-id` or the body's metadata.", _GENAI),
    Attribute(INTENT, "string", "The route's intent.", _OURS),
    Attribute(RISK, "string", "The route's risk level: `low`, `medium`, `high`.", _OURS),
    Attribute(MODE, "string", "On the SERVER span: the serving mode of the route at that moment.", _OURS),
    Attribute(SERVED_BY, "string", "On the SERVER span: the arm whose answer the user got.", _OURS),
    Attribute(FALLBACK, "string", "On the SERVER span: why the baseline answered instead of the candidate.", _OURS),
    Attribute(REFUSED, "string", "On the SERVER span: why the gateway refused the request.", _OURS),
    Attribute(DECISION, "string", "On the SERVER span: the id of the release decision in force.", _OURS),
    Attribute(ROLLED_BACK, "boolean", "On the SERVER span: the guard had taken the candidate back.", _OURS),
    Attribute(PAIR_ID, "string", "What the answers to one request share.", _OURS),
    Attribute(PAIR_ARM, "string", "Whose answer: `baseline`, `candidate`, `baseline_repeat`.", _OURS),
    Attribute(PAIR_OUTCOME, "string", "What the books say of the request: `paired`, `candidate_error`, …", _OURS),
    Attribute(PAIR_DROP_REASON, "string", "Why there is no pair, where it was dropped.", _OURS),
    Attribute(PAIR_PROMPT_HASH, "string", "Hash of what the arm was asked; equal in a clean pair.", _OURS),
    Attribute(PAIR_DIFFERING_FIELDS, "string[]", "Fields of the body that are not equal in both arms.", _OURS),
    Attribute(PAIR_SAME_ANSWER, "boolean", "Whether the copy's answer is the one that the user got.", _OURS),
    Attribute(FIRST_DIVERGENCE, "int", "Words (tokens with `logprobs`) before the answers part.", _OURS),
    Attribute(TOP1_AGREEMENT, "double", "With `logprobs`: how often both models' likeliest token was the same.", _OURS),
    Attribute(KL_DIVERGENCE, "double", "With `top_logprobs`: divergence of the next token, at least; nats.", _OURS),
    Attribute(COST_USD, "double", "What the tokens cost in US dollars, where the server has a `price`.", _OURS),
    Attribute(CHUNKS, "int", "Pieces that the answer's body came in.", _OURS),
    Attribute(BYTES, "int", "Length of the answer's body.", _OURS),
    Attribute(GAP_P50, "double", "Median time between events of a stream with content, in seconds.", _OURS),
    Attribute(GAP_P99, "double", "99th percentile of it.", _OURS),
    Attribute(GAP_MAX, "double", "The longest.", _OURS),
    Attribute(TOOL_NAMES, "string[]", "The tools that the answer calls.", _OURS),
    Attribute(ROLLBACK_SIGNAL, "string", "On the event `traceai.gateway.rollback`: what the guard saw.", _OURS),
    Attribute(ROLLBACK_SOURCE, "string", "On that event: what the rollback took back.", _OURS),
)
"""Every attribute of the gateway's spans and events that engines' spans do not have."""
