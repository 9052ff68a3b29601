"""Says once that a check does less because an optional package is not there."""

from __future__ import annotations

import logging

_log = logging.getLogger("traceai_vllm")
_said: set[str] = set()


def say_once(what: str, error: Exception) -> None:
    """Warn about something that is left out, the first time in this process.

    Args:
        what: what is left out, as the beginning of a sentence.
        error: says what to install.
    """
    if what not in _said:
        _said.add(what)
        _log.warning("%s: %s", what[0].upper() + what[1:], error)
