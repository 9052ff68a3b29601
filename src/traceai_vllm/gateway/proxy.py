"""Answers one user: finds the route, asks a server, passes the answer on, and offers the request to the mirror."""

from __future__ import annotations

import asyncio
import time
import uuid
from typing import TYPE_CHECKING, Any

from traceai_vllm.gateway import books, names
from traceai_vllm.gateway.answers import DIALECTS
from traceai_vllm.gateway.auth import admitted
from traceai_vllm.gateway.body import Body
from traceai_vllm.gateway.call import BASELINE, PREFLIGHT, Arm, Call, sent_on, tags_of
from traceai_vllm.gateway.config import Mode
from traceai_vllm.gateway.copies import Copies
from traceai_vllm.gateway.exchange import CANCELLED, TIMEOUT, ClientGone
from traceai_vllm.gateway.headers import header, visible
from traceai_vllm.gateway.mirror import DISCONNECTED, SHUTDOWN
from traceai_vllm.gateway.recent import Answered
from traceai_vllm.gateway.routing import candidate_answers, find_route
from traceai_vllm.gateway.user import Rejected, User, read_body
from traceai_vllm.guard import Guard

if TYPE_CHECKING:
    from collections.abc import MutableMapping

    from opentelemetry.trace import Span, SpanContext

    from traceai_vllm.gateway.config import GatewayConfig, Serving
    from traceai_vllm.gateway.exchange import Exchange
    from traceai_vllm.gateway.runtime import Runtime
    from traceai_vllm.gateway.user import Receive, Send

    Scope = MutableMapping[str, Any]

CIRCUIT_OPEN = "circuit_open"
OK = 200
UNAUTHORIZED = 401

_MIRROR = Guard("a request and its copies")
_SPAN = Guard("the spans of a request")
_GUARD = Guard("the guard over a candidate's answers")


class Proxy:
    """The ASGI endpoint behind every path that the gateway serves.

    Args:
        runtime: what all requests share.
    """

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        self._runtime.start()
        began = time.time_ns(), time.perf_counter_ns()
        user = User(receive, send)
        config = self._runtime.config  # one for all of the request: its body may arrive while the file changes
        try:
            call = await self._read(scope, receive, config)
            user.watch()
            if call.path in DIALECTS and call.method != PREFLIGHT:
                await _Request(self._runtime, config, call, user, began).serve()
            else:
                await self._pass(call, user, config)
        except Rejected as rejected:
            user.trace_id = self._refused(scope, rejected, began[0])
            await user.answer(rejected.status, rejected.kind, rejected.message)
        except ClientGone:
            pass
        except asyncio.CancelledError:
            if not user.gone:  # the process ends
                raise
        finally:
            user.unwatch()

    async def _read(self, scope: Scope, receive: Receive, config: GatewayConfig) -> Call:
        headers, path = list(scope["headers"]), _path_of(scope)
        preflight = scope["method"] == PREFLIGHT  # has no key and no body
        if not preflight and not admitted(headers, config):
            raise Rejected(401, "invalid_api_key", "send a valid key as `Authorization: Bearer KEY`")
        body = Body(b"" if preflight else await read_body(receive, headers, config.limits))
        route = find_route(config.routes, path, headers, body) if path in DIALECTS else config.routes[0]
        if route is None and preflight:
            route = config.routes[0]  # the request itself will say which
        if route is None:
            raise Rejected(404, "not_found", "no route is for this request; ask for another model")
        query = scope["query_string"].decode("latin-1")
        return Call(
            id=visible(header(headers, b"x-request-id")) or uuid.uuid4().hex,
            method=scope["method"],
            path=path,
            target=f"{path}?{query}" if query else path,
            headers=sent_on(headers, config.trust_callers),
            body=body,
            route=route,
            tags=tags_of(route, headers, config.trust_callers),
            keep_credentials=config.keys_env is None,
        )

    def _refused(self, scope: Scope, rejected: Rejected, start_ns: int) -> int:
        """Return the trace id of a request that the gateway refused."""
        headers, spans, path = scope["headers"], self._runtime.spans, _path_of(scope)
        # Strangers without a key, and probes, shall not fill the store.
        if rejected.status != UNAUTHORIZED and path in DIALECTS:
            with _SPAN:
                return spans.refused(headers, scope["method"], path, rejected, start_ns)
        return spans.callers_trace_id(headers)

    async def _pass(self, call: Call, user: User, config: GatewayConfig) -> None:
        """Ask the route's baseline for what is no model's answer: the list of models, health, a browser's preflight."""
        runtime = self._runtime
        server = config.servers[call.route.baseline]
        arm = Arm(call, BASELINE, server, body=call.body, budget=runtime.budget)
        user.trace_id = runtime.spans.callers_trace_id(call.headers)
        try:
            record = await arm.run(runtime.session, runtime.silent, user)
            await _finish(user, record)
        finally:
            arm.release()


class _Request:
    """One request that a model answers, from its arrival to its spans."""

    def __init__(self, runtime: Runtime, config: GatewayConfig, call: Call, user: User, began: tuple[int, int]) -> None:
        self._runtime = runtime
        self._config = config
        self._serving: Serving = runtime.serving(call.route)
        self._decision_id = None if runtime.decision is None else runtime.decision.id
        self._call = call
        self._user = user
        # The same moment of the wall clock, and of the one that is never set.
        self._start_ns, self._clock = began
        self._arm: Arm | None = None
        self._copies = Copies(runtime, config, call)
        self._end_ns = 0
        self._span: Span | None = None
        self._served_by = call.route.baseline
        self._fallback: str | None = None
        self._shift = runtime.shift(call.route)
        self._shifted = self._serving.mode not in (Mode.BASELINE, Mode.MIRROR)
        self._refused = False

    async def serve(self) -> None:
        """Answer the user; whatever becomes of that, spans end and the mirror hears of it."""
        tokens = self._runtime.tokens(self._call.route.name)
        salt, slices = self._config.mirror.salt, self._config.slices
        candidate_serves = candidate_answers(self._serving, self._call, salt, tokens, slices, holder=self._holder())
        with _MIRROR:
            self._copies.choose(self._serving, candidate_serves)
        self._span = self._runtime.spans.start_call(self._call, self._start_ns)
        self._user.trace_id = self._span.get_span_context().trace_id
        self._copies.offer_later()
        try:
            record = await self._ask(candidate_serves)
            await _finish(self._user, record)
            self._end_ns = self._now_ns()
        finally:
            self._user.unwatch()
            self._copies.offer_now()
            self._ended()

    def _holder(self) -> str | None:
        """Return which arm keeps the response that the request goes on from; None when that is not known."""
        earlier = self._runtime.recent.by_response(self._call.body.text("previous_response_id") or "")
        if earlier is None:
            return None
        route, servers = self._call.route, self._config.servers
        if earlier.server == servers[route.baseline]:
            return BASELINE
        held = route.candidate is not None and earlier.server == servers[route.candidate]
        return books.CANDIDATE if held else None

    async def _ask(self, candidate_serves: bool) -> Exchange:
        if candidate_serves:
            record = await self._ask_candidate()
            if record is not None:
                return record
        record = await self._run(BASELINE, self._call.route.baseline)
        # A candidate that refuses to go on from what the baseline keeps has not failed.
        if self._refused and record.error is None and not self._call.body.refers_to_state():
            self._note_candidate(failed=True, timed_out=False, first_byte_s=None)
        return record

    async def _ask_candidate(self) -> Exchange | None:
        """Return the candidate's exchange; None when the baseline is to answer, because nothing has been sent yet."""
        name = self._call.route.candidate or ""
        if not self._runtime.breaker(name).allows():
            self._fallback = CIRCUIT_OPEN
            self._guard(failed=True, timed_out=False, first_byte_s=None)
            return None
        record = await self._run(books.CANDIDATE, name, self._config.servers[name].first_byte_timeout_s)
        # A request that is refused may be the user's fault: then the baseline refuses it too.
        self._refused = record.error is not None and 400 <= record.status < 500 and not self._user.status
        if record.error is None or self._user.status:
            return record  # what it says is looked at when the user has it
        if not self._refused:
            self._note_candidate(failed=True, timed_out=record.error == TIMEOUT, first_byte_s=_first_byte_s(record))
        self._fallback = record.error
        self._end_arm()
        return None

    def _note_candidate(self, *, failed: bool, timed_out: bool, first_byte_s: float | None) -> None:
        self._runtime.breaker(self._call.route.candidate or "").note(failed)
        self._guard(failed=failed, timed_out=timed_out, first_byte_s=first_byte_s)

    def _guard(self, *, failed: bool, timed_out: bool, first_byte_s: float | None) -> None:
        if self._shift is not None:
            with _GUARD:
                self._runtime.rollout.answered(
                    self._shift, failed=failed, timed_out=timed_out, first_byte_s=first_byte_s
                )

    async def _run(self, arm_name: str, server: str, first_byte_timeout_s: float | None = None) -> Exchange:
        runtime, call = self._runtime, self._call
        self._arm = arm = Arm(call, arm_name, self._config.servers[server], body=call.body, budget=runtime.budget)
        self._served_by = server
        return await arm.run(runtime.session, runtime.spans, self._user, first_byte_timeout_s=first_byte_timeout_s)

    def _end_arm(self) -> None:
        if self._arm is not None:
            with _SPAN:
                self._runtime.spans.end_arm(self._arm, {})
            self._arm.release()

    def _now_ns(self) -> int:
        return self._start_ns + time.perf_counter_ns() - self._clock

    def _ended(self) -> None:
        self._end_ns = self._end_ns or self._now_ns()
        arm = self._arm
        record = None if arm is None else arm.record
        error = None if record is None else record.error
        # Who hangs up when the whole answer has come was answered.
        left = self._user.gone and (record is None or error is not None)
        if arm is not None:
            with _GUARD:
                # At once: it decides who answers the next request.
                self._given_up(arm) if left else self._judge(arm)
        self._record(arm, error, left)

    def _record(self, arm: Arm | None, error: str | None, left: bool) -> None:
        with _SPAN:
            if arm is not None:
                span_context = None if arm.span is None else arm.span.get_span_context()
                self._runtime.spans.end_arm(arm, {})
                self._remember(arm, span_context)
            if self._span is not None:
                more = {
                    names.MODE: self._serving.mode.value,
                    names.SERVED_BY: self._served_by,
                    names.DECISION: self._decision_id,
                    names.FALLBACK: self._fallback,
                    names.ROLLED_BACK: True if self._shift is not None and not self._shifted else None,
                }
                error = CANCELLED if left else error
                status, end_ns = self._user.status, self._end_ns
                self._runtime.spans.end_call(self._call, self._span, status, end_ns, error=error, more=more)
        abandoned = DISCONNECTED if left else None
        if error == CANCELLED and not left:
            abandoned = SHUTDOWN  # by whoever serves this application: the server has not failed
        if self._copies.pair is not None:
            with _MIRROR:
                self._runtime.mirror.primary_ended(self._copies.pair, arm, abandoned)
        elif arm is not None:
            arm.release()

    def _judge(self, arm: Arm) -> None:
        """Tell the circuit and the guard how the answer that the user got went."""
        record = arm.record
        if record is None or record.error == CANCELLED:
            return
        failure = record.failure()
        if arm.name == books.CANDIDATE:
            first = _first_byte_s(record)
            self._note_candidate(failed=failure is not None, timed_out=failure == TIMEOUT, first_byte_s=first)
        elif self._fallback is None and not 400 <= record.status < 500:
            self._runtime.rollout.baseline_answered(self._call.route.name, failed=failure is not None)

    def _given_up(self, arm: Arm) -> None:
        """Tell the guard that the user hung up, if it was before the candidate's first byte."""
        record, shift = arm.record, self._shift
        if arm.name == books.CANDIDATE and shift is not None and record is not None and record.first_byte is None:
            self._runtime.rollout.given_up(shift, record.duration)

    def _remember(self, arm: Arm, context: SpanContext | None) -> None:
        """Keep what feedback and evaluations that come later need, and learn from the answer's counts."""
        record, call = arm.record, self._call
        if record is None or record.status != OK:
            return
        answer = record.answer() if record.captured else None
        if answer is not None and answer.input_tokens and arm.body.is_text_alone:
            self._runtime.tokens(call.route.name).learn(arm.body.prompt_bytes, answer.input_tokens)
        if context is not None and context.is_valid:
            shift = self._shift if arm.name == books.CANDIDATE else None
            response_id = None if answer is None else answer.id
            self._runtime.recent.add(Answered(context, response_id, call.tags, arm.server, call.pair_id, shift))


def _path_of(scope: Scope) -> str:
    path: str = scope["path"]
    return path.removeprefix(scope.get("root_path", ""))  # where the application is mounted


def _first_byte_s(record: Exchange) -> float | None:
    return None if record.first_byte is None else record.first_byte - record.started


async def _finish(user: User, record: Exchange) -> None:
    """End the user's answer as the server's has ended."""
    broken = record.error is not None and not record.error.isdecimal()
    if not broken:
        await user.finish()
    elif not user.status:
        status = 504 if record.error == TIMEOUT else 502
        await user.answer(status, "upstream_error", f"the model's server did not answer ({record.error})")
    # Else the answer broke off. It must not look complete: without its end, the connection is closed on the user.
