"""Runs the coroutines of evaluators, in one event loop for the process.

An HTTP client or a lock belongs to the event loop that used it first: with a loop for each evaluation, an evaluator
that keeps one would fail from the second on.
"""

from __future__ import annotations

import asyncio
import os
import threading
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Awaitable

# A loop that does nothing else for so long has a coroutine that blocks it; the next ones get another.
_PROMPT_S = 0.2


class _Loop:
    """An event loop in a thread of its own, and how many calls it has."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.calls = 0
        threading.Thread(target=self._run, name="traceai-coroutines", daemon=True).start()

    def _run(self) -> None:
        try:
            self.loop.run_forever()
        finally:
            self.loop.close()

    def is_free(self) -> bool:
        """Return whether it does what it is asked to; not from within, where it waits for who asks."""
        if _running() is self.loop:
            return False
        answered = threading.Event()
        self.loop.call_soon_threadsafe(answered.set)
        return answered.wait(_PROMPT_S)


_lock = threading.Lock()
_current: _Loop | None = None
_parents: list[_Loop | None] = []


def outcome_of(awaitable: Awaitable[Any]) -> Any:
    """Wait for a coroutine, from any thread, and return what it returns.

    Raises:
        Exception: what it raises; RuntimeError for what would end the process.
    """
    place = _taken()
    future = asyncio.run_coroutine_threadsafe(_awaited(awaitable), place.loop)
    try:
        return future.result()
    except KeyboardInterrupt:
        future.cancel()
        raise
    finally:
        _left(place)


def _taken() -> _Loop:
    global _current  # noqa: PLW0603 - one for the process
    found = _current
    free = found is not None and found.is_free()
    with _lock:
        if _current is None or (_current is found and not free):
            _current = _Loop()
        _current.calls += 1
        return _current


def _left(place: _Loop) -> None:
    with _lock:
        place.calls -= 1
        ended = place is not _current and not place.calls
    if ended:
        place.loop.call_soon_threadsafe(place.loop.stop)


def _running() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


async def _awaited(value: Awaitable[Any]) -> Any:
    try:
        return await value
    except (SystemExit, KeyboardInterrupt) as error:  # it would end the loop, and its callers would wait for ever
        raise RuntimeError(type(error).__name__) from error


def _renew() -> None:
    """Begin anew in a forked child, to which the parent's thread did not come along."""
    global _lock, _current  # noqa: PLW0603 - one for the process
    _lock = threading.Lock()
    # Held, because collecting it as garbage could close what the parent still uses.
    _parents.append(_current)
    _current = None


os.register_at_fork(after_in_child=_renew)
