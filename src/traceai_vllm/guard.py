"""The one guard between our code and the user's call.

Everything that a hook does for us stands inside ``with Guard("where"):``, and the user's call stands outside of it.
An error of ours is swallowed there, counted, and logged once per place and kind. Only :class:`Exception` is swallowed:
cancellation, ``GeneratorExit`` and ``KeyboardInterrupt`` belong to the user. A guard is never the way of a value that
the user is to get.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
from collections import Counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import TracebackType

_log = logging.getLogger("traceai_vllm")
# Reentrant: the garbage collector may run a callback of ours, and that fail, in a thread that holds it.
_lock = threading.RLock()
_errors: Counter[tuple[str, str]] = Counter()


def _begin_child() -> None:
    _errors.clear()  # its parent reports them
    _lock.release()


# A lock that another thread held would be held in a forked child for ever.
os.register_at_fork(before=_lock.acquire, after_in_parent=_lock.release, after_in_child=_begin_child)


def internal_errors() -> dict[tuple[str, str], int]:
    """Return how often each kind of error was swallowed: (where, exception class name) to count."""
    with _lock:
        return dict(_errors)


def report(where: str, error: Exception) -> None:
    """Count an error of ours, and log it the first time that it happens at this place."""
    kind = (where, type(error).__name__)
    with _lock:
        _errors[kind] += 1
        first = _errors[kind] == 1
    if first:
        _log.warning(
            "traceai-vllm hit an error of its own in %s. Your vLLM call is not affected; some telemetry is missing. "
            "Further errors of this kind are only counted (metric traceai.internal.errors).",
            where,
            exc_info=error,
        )


class Guard:
    """Context manager that keeps errors of ours from the user's call. Stateless: one instance serves all threads.

    On the path of every request, where a ``with`` would cost two calls, ``except Exception as error:`` round a ``try``
    of ours hands the error to :meth:`caught`, which is the same.

    Args:
        where: the step that is guarded, as it is to appear in the log and the metric.
    """

    __slots__ = ("where",)

    def __init__(self, where: str) -> None:
        self.where = where

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> bool:
        if error is None or not isinstance(error, Exception):
            return False
        self.caught(error)
        return True

    def caught(self, error: Exception) -> None:
        """Report an error of ours that was caught; never raises."""
        with contextlib.suppress(Exception):  # the last line of defence: a broken log handler must not reach the user
            report(self.where, error)
