"""One request of a user, as the gateway works with it, and one arm of it: the request that goes to one server."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from traceai_vllm.gateway.answers import DIALECTS
from traceai_vllm.gateway.books import REPEAT
from traceai_vllm.gateway.budget import Budget, Hold
from traceai_vllm.gateway.client import OutgoingRequest
from traceai_vllm.gateway.config import key_in
from traceai_vllm.gateway.exchange import Exchange, Sink, exchange
from traceai_vllm.gateway.headers import CARRIED, header, request_headers, visible
from traceai_vllm.telemetry import semconv

if TYPE_CHECKING:
    import aiohttp
    from opentelemetry.context import Context
    from opentelemetry.trace import Span

    from traceai_vllm.gateway.body import Body
    from traceai_vllm.gateway.config import Route, Server
    from traceai_vllm.gateway.spans import Spans

    Headers = list[tuple[bytes, bytes]]

BASELINE = "baseline"
# A browser's question, before a page's own request, whether the page may send it.
PREFLIGHT = "OPTIONS"

_CREDENTIALS = ("authorization", "x-api-key")
_TAG_HEADERS = {
    semconv.ROUTE: "x-route",
    semconv.PROMPT_VERSION: "x-prompt-version",
    semconv.TRAFFIC_COHORT: "x-traffic-cohort",
    semconv.AGENT_STEP: "x-agent-step",
}
_RAW_TAG_HEADERS = {tag: name.encode() for tag, name in _TAG_HEADERS.items()}
_BELIEVED = frozenset({*_RAW_TAG_HEADERS.values(), *CARRIED})
_traceparent = TraceContextTextMapPropagator()


@dataclass
class Call:
    """A user's request, read whole.

    Attributes:
        id: the request id: the caller's ``x-request-id``, or one of ours; it decides whether the request is sampled.
        method: the HTTP method.
        path: the path, one of those that the gateway serves.
        target: path and query as the caller wrote them.
        headers: the caller's headers, names in lower case; without his tags and trace context where he is a stranger.
        body: the body.
        route: the route.
        tags: the tags of its spans, which are also sent to the servers.
        pair_id: what its two answers share; None when it is not sampled.
        keep_credentials: whether the caller's credentials go on to the servers.
        context: with the SERVER span, once there is one.
    """

    id: str
    method: str
    path: str
    target: str
    headers: Headers
    body: Body
    route: Route
    tags: dict[str, str] = field(default_factory=dict)
    pair_id: str | None = None
    keep_credentials: bool = True
    context: Context | None = None

    @cached_property
    def session(self) -> str | None:
        """The user's session, as the header ``x-session-id`` or the body's metadata name it."""
        given = visible(header(self.headers, b"x-session-id"))
        if given:
            return given
        value = self.body.metadata.get("session_id")
        return value[:128] if isinstance(value, str) and value else None

    @property
    def operation(self) -> str:
        """The operation, in the words of the GenAI conventions; the path where no model is asked."""
        dialect = DIALECTS.get(self.path)
        return self.path if dialect is None else dialect.operation


def tags_of(route: Route, headers: Headers, trusted: bool) -> dict[str, str]:
    """Return the tags of a request: what the route says, then what a trusted caller's headers say."""
    given = {
        semconv.ROUTE: route.name,
        semconv.PROMPT_VERSION: route.prompt_version,
        semconv.TRAFFIC_COHORT: route.traffic_cohort,
    }
    tags = {tag: value for tag, value in given.items() if value is not None}
    if trusted:
        for tag, name in _RAW_TAG_HEADERS.items():
            value = None if tag in tags else header(headers, name)
            if value:
                tags[tag] = value[:256]
    return tags


def sent_on(headers: Headers, trusted: bool) -> Headers:
    """Return a caller's headers; of a stranger's, not the tags and the trace context, which servers would believe."""
    return headers if trusted else [pair for pair in headers if pair[0] not in _BELIEVED]


class Arm:
    """What goes to one server for a call, and what comes back.

    Args:
        call: the user's request.
        name: ``baseline``, ``candidate`` or ``baseline_repeat``.
        server: whom it is sent to.
        body: what is sent.
        budget: the room for what is kept of the answer.
        strip_headers: headers that are left out.

    Attributes:
        record: what happened; None before it runs.
        span: the CLIENT span; None before it runs.
    """

    def __init__(
        self, call: Call, name: str, server: Server, *, body: Body, budget: Budget, strip_headers: tuple[str, ...] = ()
    ) -> None:
        self.call = call
        self.name = name
        self.server = server
        self.body = body.with_model(server.model)
        self.hold = Hold(budget)
        self.record: Exchange | None = None
        self.span: Span | None = None
        self._strip_headers = strip_headers

    async def run(
        self,
        session: aiohttp.ClientSession,
        spans: Spans,
        sink: Sink | None,
        *,
        first_byte_timeout_s: float | None = None,
    ) -> Exchange:
        """Send the request and take the answer in; the arguments are those of :func:`exchange`."""
        self.record = record = Exchange(self.call.path)
        self.span = span = spans.start_arm(self, record.start_ns)
        record.captured = span.is_recording() or self._is_judged()
        request = OutgoingRequest(self.call.method, self.call.target, self._headers(spans, span), self.body.raw)
        await exchange(
            session,
            self.server,
            request,
            record,
            hold=self.hold,
            sink=sink,
            first_byte_timeout_s=first_byte_timeout_s,
        )
        return record

    def release(self) -> None:
        """Forget the answer's bytes."""
        if self.record is not None:
            self.record.release()
        self.hold.release()

    def _is_judged(self) -> bool:
        # By a pair, or by the circuit and the guard over the route's candidate; whether its trace is sampled or not.
        return self.call.pair_id is not None or (self.call.route.candidate is not None and self.call.path in DIALECTS)

    def _headers(self, spans: Spans, span: Span) -> list[tuple[str, str]]:
        replaced = dict.fromkeys(self._strip_headers, "")
        replaced.update((_TAG_HEADERS[tag], _one_line(value)) for tag, value in self.call.tags.items())
        # The original may still run on the same server, and vLLM makes its own id of this one.
        replaced["x-request-id"] = f"{self.call.id}-repeat" if self.name == REPEAT else self.call.id
        variable = self.server.api_key_env
        if variable is not None or not self.call.keep_credentials:
            replaced.update(dict.fromkeys(_CREDENTIALS, ""))
        # Anybody may send a preflight: none of the server's keys goes with it.
        if variable is not None and self.call.method != PREFLIGHT and (key := key_in(variable)):
            replaced["authorization"] = f"Bearer {key}"
        if span.get_span_context().is_valid:
            replaced.update(traceparent="", tracestate="")
            _traceparent.inject(replaced, spans.context_of(self, span))
        return request_headers(self.call.headers, replaced)


def _one_line(value: str) -> str:
    return value if value.isprintable() else "".join(filter(str.isprintable, value))
