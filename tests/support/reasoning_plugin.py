"""A reasoning parser for `vllm serve --reasoning-parser-plugin`: the first two tokens of every answer are reasoning."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from vllm.reasoning import ReasoningParserManager
from vllm.reasoning.identity_reasoning_parser import IdentityReasoningParser


@ReasoningParserManager.register_module("two_tokens")
class TwoTokens(IdentityReasoningParser):
    def count_reasoning_tokens(self, token_ids: Sequence[int]) -> int:
        return min(2, len(token_ids))

    def extract_reasoning(self, model_output: str, request: Any) -> tuple[str | None, str | None]:
        return "hm", model_output
