"""Attribute names that only the gateway writes; the shared ones are in :mod:`traceai_vllm.telemetry.semconv`."""

from __future__ import annotations

from typing import Final

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
