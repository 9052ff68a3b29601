"""How many tokens a prompt has, estimated from its bytes: the gateway has no tokenizer."""

from __future__ import annotations

from collections import deque

_WINDOW = 200
_ENOUGH = 20
# Before enough is known of a route. Text of most kinds has more bytes for a token, so prompts count as longer.
_BYTES_PER_TOKEN = 2.0


class TokenEstimate:
    """Learns, from the counts in a route's last 200 answers, how many tokens the bytes of its prompts make.

    A picture is megabytes of few tokens, and an earlier response tokens without bytes: neither says how long a text is,
    and they are not to be learned from. Before 20 counts are known, a token is taken to have 2 bytes. vLLM counts
    tokens in every answer that is not streamed, and in a stream for ``stream_options={"include_usage": true}``.
    """

    def __init__(self) -> None:
        self._seen: deque[tuple[int, int]] = deque()
        self._bytes = 0
        self._tokens = 0

    def learn(self, prompt_bytes: int, tokens: int | None) -> None:
        """Take in what a server counted for a prompt; None when it did not."""
        if not tokens or tokens < 0:
            return
        if len(self._seen) == _WINDOW:
            old_bytes, old_tokens = self._seen.popleft()
            self._bytes -= old_bytes
            self._tokens -= old_tokens
        self._seen.append((prompt_bytes, tokens))
        self._bytes += prompt_bytes
        self._tokens += tokens

    def __call__(self, prompt_bytes: int) -> float:
        """Return the estimate for a prompt of so many bytes."""
        if len(self._seen) < _ENOUGH or not self._bytes:
            return prompt_bytes / _BYTES_PER_TOKEN
        return prompt_bytes * self._tokens / self._bytes
