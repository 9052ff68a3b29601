"""Sends copies of users' requests to other servers, beside the users' path and within bounds.

Nothing here raises into a user's request or makes it wait: :meth:`Mirror.offer` starts a copy, queues it or drops it.
A pair is complete when the user's answer and the copy's have both ended, whichever is later; then its ticket is
settled.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from functools import partial
from typing import TYPE_CHECKING, Any

from traceai_vllm.gateway import books, names
from traceai_vllm.gateway.body import differing_fields
from traceai_vllm.gateway.deadline import timeout
from traceai_vllm.gateway.divergence import divergence
from traceai_vllm.gateway.exchange import TIMEOUT
from traceai_vllm.guard import Guard

if TYPE_CHECKING:
    from collections.abc import Callable

    import aiohttp

    from traceai_vllm.gateway.books import Ticket
    from traceai_vllm.gateway.call import Arm
    from traceai_vllm.gateway.exchange import Exchange
    from traceai_vllm.gateway.options import MirrorLimits
    from traceai_vllm.gateway.spans import Spans

DISCONNECTED = "client_disconnected"
QUEUE_FULL = "queue_full"
QUEUE_TIMEOUT = "queue_timeout"
NO_ROOM = "no_room"
TIME_LIMIT = "time_limit"
SHUTDOWN = "shutdown"
INTERNAL = "internal_error"

_COPY = Guard("a mirrored request")
_PAIR = Guard("the end of a pair")


class Copy:
    """One copy of a request, with its place in the books.

    Args:
        arm: what is sent.
        ticket: its place in the books.

    Attributes:
        cut_off: whether the mirror's own limit ended it.
    """

    __slots__ = ("arm", "cut_off", "done", "queued_at", "task", "ticket")

    def __init__(self, arm: Arm, ticket: Ticket) -> None:
        self.arm = arm
        self.ticket = ticket
        self.queued_at = time.monotonic()
        self.task: asyncio.Task[None] | None = None
        self.done = False
        self.cut_off = False


class Pair:
    """A user's request and its copies.

    Attributes:
        primary_arm: the arm that the user's own answer came from.
        primary_ended: whether that answer has ended, well or not.
        copies: the copies.
        abandoned: why the pair will never be complete; None while it may.
    """

    __slots__ = ("abandoned", "copies", "primary_arm", "primary_ended")

    def __init__(self) -> None:
        self.primary_arm: Arm | None = None
        self.primary_ended = False
        self.copies: list[Copy] = []
        self.abandoned: str | None = None

    @property
    def primary(self) -> Exchange | None:
        """How the user's own answer went."""
        return None if self.primary_arm is None else self.primary_arm.record

    @property
    def open(self) -> bool:
        """Whether a copy has no outcome yet."""
        return any(not copy.ticket.settled for copy in self.copies)


class Mirror:
    """The copies that wait and that are under way.

    Args:
        limits: how much it may use; read anew for each copy.
        session: the HTTP client for copies.
        spans: makes their spans.
    """

    def __init__(self, limits: Callable[[], MirrorLimits], session: aiohttp.ClientSession, spans: Spans) -> None:
        self._limits = limits
        self._session = session
        self._spans = spans
        self._queue: deque[tuple[Pair, Copy]] = deque()
        self._running: set[asyncio.Task[None]] = set()
        self._closed = False

    @property
    def queued(self) -> int:
        """How many copies wait."""
        return len(self._queue)

    @property
    def running(self) -> int:
        """How many copies are under way."""
        return len(self._running)

    def offer(self, pair: Pair, copy: Copy) -> None:
        """Take a copy: start it, queue it, or drop it."""
        pair.copies.append(copy)
        limits = self._limits()
        if self._closed:
            self._drop(pair, copy, SHUTDOWN)
        elif not copy.arm.hold.grow(len(copy.arm.body.raw)):
            self._drop(pair, copy, NO_ROOM)
        elif len(self._running) < limits.concurrency:
            self._start(pair, copy)
        elif len(self._queue) < limits.queue:
            self._queue.append((pair, copy))
        else:
            self._drop(pair, copy, QUEUE_FULL)

    def primary_ended(self, pair: Pair, arm: Arm | None, abandoned: str | None = None) -> None:
        """Take in how the user's own answer went.

        Args:
            pair: the pair.
            arm: the arm that answered the user; None when none did.
            abandoned: why the pair will never be complete, e.g. the user hung up.
        """
        pair.primary_arm = arm
        pair.primary_ended = True
        pair.abandoned = abandoned
        if abandoned is not None:
            self._abandon(pair, abandoned)
        for copy in pair.copies:
            if copy.done:
                self._settle(pair, copy)
        self._release_primary(pair)

    async def close(self) -> None:
        """Stop all copies and book them as dropped."""
        self._closed = True
        while self._queue:
            pair, copy = self._queue.popleft()
            self._drop(pair, copy, SHUTDOWN)
        running = list(self._running)
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)

    def _start(self, pair: Pair, copy: Copy) -> None:
        copy.task = task = asyncio.get_running_loop().create_task(self._run(pair, copy))
        self._running.add(task)
        task.add_done_callback(partial(self._ended, pair, copy))

    def _ended(self, pair: Pair, copy: Copy, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        if task.cancelled():  # perhaps before its first step
            self._drop(pair, copy, pair.abandoned or SHUTDOWN)
        limits = self._limits()
        while self._queue and len(self._running) < limits.concurrency:
            pair, copy = self._queue.popleft()
            if time.monotonic() - copy.queued_at > limits.queue_timeout_s:
                self._drop(pair, copy, QUEUE_TIMEOUT)
            else:
                self._start(pair, copy)

    async def _run(self, pair: Pair, copy: Copy) -> None:
        with _COPY:
            await self._exchange(copy)
        if copy.arm.record is None or not copy.arm.record.ended:
            self._drop(pair, copy, INTERNAL)
            return
        copy.done = True
        if pair.primary_ended:
            self._settle(pair, copy)

    async def _exchange(self, copy: Copy) -> None:
        try:
            async with timeout(self._limits().timeout_s):
                await copy.arm.run(self._session, self._spans, None)
        except asyncio.TimeoutError:
            copy.cut_off = True
            if copy.arm.record is not None:
                copy.arm.record.error = TIMEOUT

    def _settle(self, pair: Pair, copy: Copy) -> None:
        if copy.ticket.settled:
            return
        outcome, reason = books.DROPPED, INTERNAL
        compared: dict[str, Any] = {}
        with _PAIR:
            outcome, reason = _outcome(pair, copy)
            if outcome == books.PAIRED:
                compared = _compared(pair, copy)
        self._finish(pair, copy, outcome, reason, compared)

    def _drop(self, pair: Pair, copy: Copy, reason: str) -> None:
        self._finish(pair, copy, books.DROPPED, reason, {})

    def _finish(self, pair: Pair, copy: Copy, outcome: str, reason: str, compared: dict[str, Any]) -> None:
        copy.ticket.settle(outcome, reason)
        with _PAIR:
            if copy.arm.record is not None:
                copy.arm.record.end(INTERNAL)  # unless it has ended already
            about_pair = {
                names.PAIR_OUTCOME: outcome,
                names.PAIR_DROP_REASON: reason or None,
                **compared,
                names.PAIR_DIFFERING_FIELDS: _differing(pair, copy),
            }
            self._spans.end_arm(copy.arm, about_pair)
        copy.arm.release()
        self._release_primary(pair)

    def _abandon(self, pair: Pair, reason: str) -> None:
        for copy in pair.copies:
            if copy.task is not None and not copy.task.done():
                copy.task.cancel()
            elif not copy.ticket.settled:
                if copy.task is None and (pair, copy) in self._queue:
                    self._queue.remove((pair, copy))  # its place is for one that somebody waits for
                self._drop(pair, copy, reason)

    def _release_primary(self, pair: Pair) -> None:
        if pair.primary_ended and pair.primary_arm is not None and not pair.open:
            pair.primary_arm.release()


def _outcome(pair: Pair, copy: Copy) -> tuple[str, str]:
    primary, record = pair.primary, copy.arm.record
    if primary is None or primary.failure() is not None:
        return books.PRIMARY_ERROR, ""
    if copy.cut_off and record is not None and primary.duration >= record.duration:
        return books.DROPPED, TIME_LIMIT  # the user's own answer would have been cut off too
    if record is None or record.failure() is not None:
        return books.CANDIDATE_ERROR, ""
    if not (primary.captured and record.captured):
        return books.DROPPED, NO_ROOM
    return books.PAIRED, ""


def _compared(pair: Pair, copy: Copy) -> dict[str, Any]:
    if pair.primary is None or copy.arm.record is None:
        return {}
    users, other = pair.primary.answer(), copy.arm.record.answer()
    return {names.PAIR_SAME_ANSWER: users.says() == other.says(), **divergence(users, other)}


def _differing(pair: Pair, copy: Copy) -> list[str] | None:
    if pair.primary_arm is None:
        return None
    return differing_fields(pair.primary_arm.body, copy.arm.body) or None
