"""The copies of one request: whether there are any is chosen when it arrives; they leave after the user's own has."""

from __future__ import annotations

import asyncio
import uuid
from typing import TYPE_CHECKING

from traceai_vllm.gateway import books
from traceai_vllm.gateway.call import Arm
from traceai_vllm.gateway.config import Mode
from traceai_vllm.gateway.mirror import INTERNAL, Copy, Pair
from traceai_vllm.gateway.routing import fits_candidate
from traceai_vllm.gateway.sampling import chosen
from traceai_vllm.guard import Guard

if TYPE_CHECKING:
    from collections.abc import Callable

    from traceai_vllm.gateway.books import Ticket
    from traceai_vllm.gateway.call import Call
    from traceai_vllm.gateway.config import GatewayConfig, Serving
    from traceai_vllm.gateway.runtime import Runtime

_RESPONSES = "/v1/responses"
_STORE = "store"

SERVER_TOOLS = "server_tools"
BACKGROUND = "background"
SERVER_STATE = "server_state"
UNREADABLE = "unreadable_body"
PROMPT_TOO_LONG = "prompt_too_long"
# By then the user's own request has left, and an answer that is there so soon has gone to him: copies wait for both.
_AFTER_S = 0.005

_MIRROR = Guard("offering a request to the mirror")


class Copies:
    """Offers copies of one request to the mirror.

    Args:
        runtime: what all requests share.
        config: the configuration that the request began with.
        call: the request.

    Attributes:
        pair: the request and its copies; None when it is not sampled.
    """

    def __init__(self, runtime: Runtime, config: GatewayConfig, call: Call) -> None:
        self._runtime = runtime
        self._config = config
        self._call = call
        self._later: asyncio.TimerHandle | None = None
        self.pair: Pair | None = None

    def choose(self, serving: Serving, candidate_serves: bool) -> None:
        """Sample the request, or not."""
        route, call = self._call.route, self._call
        if serving.mode is Mode.BASELINE or route.candidate is None or candidate_serves:
            return
        if chosen(call.id, route.sampling_rate, self._config.mirror.salt):
            self.pair = Pair()
            call.pair_id = uuid.uuid4().hex

    def offer_later(self) -> None:
        """Offer the copies in a moment."""
        if self.pair is not None:
            self._later = asyncio.get_running_loop().call_later(_AFTER_S, self._offer, self.pair)

    def offer_now(self) -> None:
        """Offer the copies, unless that has been done."""
        if self._later is not None and self.pair is not None:
            self._later.cancel()
            self._offer(self.pair)

    def _offer(self, pair: Pair) -> None:
        self._later = None
        call, route, limits = self._call, self._call.route, self._config.mirror
        with _MIRROR:
            decile = self._runtime.deciles(route.name, call.body.prompt_bytes)
            self._offer_to(pair, books.CANDIDATE, route.candidate or "", decile)
            if chosen(call.id, route.noise_floor, limits.salt + ":noise"):
                self._offer_to(pair, books.REPEAT, route.baseline, decile)

    def _offer_to(self, pair: Pair, target: str, server: str, decile: str) -> None:
        call = self._call
        ticket = self._runtime.books.sample(call.route.name, target, decile)
        with _MIRROR:
            self._send(pair, target, server, ticket)
            return
        ticket.settle(books.DROPPED, INTERNAL)

    def _send(self, pair: Pair, target: str, server: str, ticket: Ticket) -> None:
        call, limits = self._call, self._config.mirror
        reason = _cannot_be_copied(call, self._runtime.tokens(call.route.name))
        if reason is not None:
            ticket.settle(books.DROPPED, reason)
            return
        body = call.body.without(limits.strip_fields)
        if call.path == _RESPONSES and _STORE in limits.strip_fields:
            body = body.with_field(_STORE, False)  # left out, it would mean true there
        arm = Arm(
            call,
            target,
            self._config.servers[server],
            body=body,
            budget=self._runtime.budget,
            strip_headers=limits.strip_headers,
        )
        self._runtime.mirror.offer(pair, Copy(arm, ticket))


def _cannot_be_copied(call: Call, tokens: Callable[[int], float]) -> str | None:
    """Return why a request cannot be mirrored: a copy would do something, or would not be the same request."""
    if not call.body.fields:
        return UNREADABLE
    if call.body.runs_server_tools():
        return SERVER_TOOLS
    if call.body.get("background") is True:
        return BACKGROUND
    if call.body.refers_to_state():
        return SERVER_STATE
    if not fits_candidate(call, tokens):
        return PROMPT_TOO_LONG
    return None
