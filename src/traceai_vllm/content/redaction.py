"""Takes out of content what must not stand in telemetry, before anything else sees it."""

from __future__ import annotations

import logging
from collections import Counter
from typing import TYPE_CHECKING, Any

from traceai_vllm.content.patterns import redactors

if TYPE_CHECKING:
    from traceai_vllm.content.options import ContentOptions

_log = logging.getLogger("traceai_vllm")

FAILED = "[redaction failed]"
# Written by us, from a short list of words; never text of a user's.
_OURS = frozenset({"type", "modality", "finish_reason", "source"})
_FREE = frozenset({"arguments", "response", "parameters"})
_ROLES = frozenset({"system", "developer", "user", "assistant", "tool"})


class Redaction:
    """Applies the patterns and the user's function to every text and number of a structure.

    Args:
        options: which.
    """

    __slots__ = ("_apply", "_function", "_logged")

    def __init__(self, options: ContentOptions) -> None:
        self._apply = redactors(options.patterns)
        self._function = options.redact
        self._logged = False

    def __call__(self, value: Any) -> tuple[Any, int]:
        """Return a JSON value with all its texts and numbers redacted, and how many places were."""
        if not self._apply and self._function is None:
            return value, 0
        count = [0]
        return self._value(value, count), count[0]

    def _value(self, value: Any, count: list[int]) -> Any:
        if isinstance(value, str):
            return self._text(value, count)
        if isinstance(value, dict):
            return {key: self._member(key, item, count) for key, item in value.items()}
        if isinstance(value, list):
            return [self._value(item, count) for item in value]
        return self._number(value, count)

    def _member(self, key: str, item: Any, count: list[int]) -> Any:
        if key in _OURS or (key == "role" and item in _ROLES):
            return item
        return self._free(item, count) if key in _FREE else self._value(item, count)

    def _free(self, value: Any, count: list[int]) -> Any:
        """Redact a structure of the caller's own, in which the keys are theirs too."""
        if isinstance(value, dict):
            return self._free_members(value, count)
        if isinstance(value, list):
            return [self._free(item, count) for item in value]
        return self._text(value, count) if isinstance(value, str) else self._number(value, count)

    def _free_members(self, members: dict[str, Any], count: list[int]) -> dict[str, Any]:
        made: dict[str, Any] = {}
        same: Counter[str] = Counter()
        for key, item in members.items():
            name = text = self._text(key, count)
            while name in made:  # several keys may come to the same text
                same[text] += 1
                name = f"{text} ({same[text] + 1})"
            made[name] = self._free(item, count)
        return made

    def _number(self, value: Any, count: list[int]) -> Any:
        """Redact what is no text: a number may be a card's; one in which nothing is found stays a number."""
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            return value
        text = str(value)
        redacted = self._text(text, count)
        return value if redacted == text else redacted

    def _text(self, text: str, count: list[int]) -> str:
        for redactor in self._apply:
            text, places = redactor(text)
            count[0] += places
        if self._function is None:
            return text
        try:
            redacted = self._function(text)
            if not isinstance(redacted, str):
                raise TypeError(type(redacted).__name__)
        except Exception as error:
            self._note(error)
            redacted = FAILED
        count[0] += redacted != text
        return redacted

    def _note(self, error: Exception) -> None:
        # The error's message and traceback may quote the text: only its class is named.
        if not self._logged:
            self._logged = True
            _log.warning(
                "The redaction function given to traceai-vllm failed (%s). Your vLLM call is not affected; texts that "
                "it fails for are left out as %r. This is logged once.",
                type(error).__name__,
                FAILED,
            )
