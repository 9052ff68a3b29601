"""The gateway's spans: SERVER for the user's request, CLIENT below it for each arm, all in one trace."""

from __future__ import annotations

from functools import lru_cache
from itertools import pairwise
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from opentelemetry import trace
from opentelemetry._logs import NoOpLogger
from opentelemetry.baggage.propagation import W3CBaggagePropagator
from opentelemetry.context import Context
from opentelemetry.propagators.composite import CompositePropagator
from opentelemetry.trace import SpanKind
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from traceai_vllm.content.content import ContentReader
from traceai_vllm.gateway import names
from traceai_vllm.gateway.headers import CARRIED
from traceai_vllm.gateway.said import Said, json_format
from traceai_vllm.record import UNKNOWN_VARIANT, RequestRecord
from traceai_vllm.telemetry import semconv
from traceai_vllm.telemetry.content import ContentExport
from traceai_vllm.telemetry.handover import ending
from traceai_vllm.telemetry.spans import error_status
from traceai_vllm.version import __version__

if TYPE_CHECKING:
    from collections.abc import Iterable

    from opentelemetry.trace import Span, TracerProvider

    from traceai_vllm.content import ContentOptions
    from traceai_vllm.gateway.answers import Answer
    from traceai_vllm.gateway.call import Arm, Call
    from traceai_vllm.gateway.config import Server
    from traceai_vllm.gateway.durations import Durations
    from traceai_vllm.gateway.exchange import Exchange
    from traceai_vllm.gateway.options import Price
    from traceai_vllm.gateway.user import Rejected

    Headers = Iterable[tuple[bytes, bytes]]
    Attributes = dict[str, Any]

_SCOPE = "traceai_vllm.gateway"
_propagator = CompositePropagator([TraceContextTextMapPropagator(), W3CBaggagePropagator()])

_TOO_LARGE = 2**63  # for an attribute
# Sampling parameters of all dialects to the attributes of the conventions, with the type that these have.
_PARAMETERS: dict[str, tuple[str, type]] = {
    "temperature": (semconv.REQUEST_TEMPERATURE, float),
    "top_p": (semconv.REQUEST_TOP_P, float),
    "top_k": (semconv.REQUEST_TOP_K, float),
    "frequency_penalty": (semconv.REQUEST_FREQUENCY_PENALTY, float),
    "presence_penalty": (semconv.REQUEST_PRESENCE_PENALTY, float),
    "seed": (semconv.REQUEST_SEED, int),
    "max_tokens": (semconv.REQUEST_MAX_TOKENS, int),
    "max_output_tokens": (semconv.REQUEST_MAX_TOKENS, int),
    "max_completion_tokens": (semconv.REQUEST_MAX_TOKENS, int),
    "n": (semconv.REQUEST_CHOICE_COUNT, int),
    "dimensions": (semconv.EMBEDDINGS_DIMENSION_COUNT, int),
}


class Spans:
    """Makes the gateway's spans.

    Args:
        tracer_provider: where they go; the global provider when None.
        trust_callers: whether a caller's trace context is continued.
        content: whether what is said goes on spans, or to evaluators alone; None: it is not looked at.
        durations: takes the times of each arm; None: nobody does.
    """

    def __init__(
        self,
        tracer_provider: TracerProvider | None,
        *,
        trust_callers: bool,
        content: ContentOptions | None = None,
        durations: Durations | None = None,
    ) -> None:
        self._durations = durations
        self._reader = None if content is None else ContentReader(content)
        self._on_span = None if content is None else ContentExport(content, NoOpLogger(_SCOPE))
        self._tracer = trace.get_tracer(_SCOPE, __version__, tracer_provider)
        self._trust_callers = trust_callers

    def start_call(self, call: Call, start_ns: int) -> Span:
        """Start the SERVER span of a user's request, and put it into the call's context; the rest comes at its end."""
        parent = self._caller_context(call.headers)
        attributes: Attributes = {
            "http.request.method": call.method,
            "http.route": call.path,
            "url.path": call.path,
            "url.scheme": "http",
        }
        span = self._tracer.start_span(
            f"{call.method} {call.path}", parent, SpanKind.SERVER, attributes, start_time=start_ns
        )
        call.context = trace.set_span_in_context(span, parent)
        return span

    def refused(self, headers: Headers, method: str, path: str, rejected: Rejected, start_ns: int) -> int:
        """Make the SERVER span of a request that the gateway refused, and return the id of its trace."""
        attributes: Attributes = {
            "http.request.method": method,
            "http.route": path,
            "url.path": path,
            "url.scheme": "http",
            "http.response.status_code": rejected.status,
            names.REFUSED: rejected.kind,
        }
        parent = self._caller_context(headers)
        span = self._tracer.start_span(f"{method} {path}", parent, SpanKind.SERVER, attributes, start_time=start_ns)
        span.end()
        return span.get_span_context().trace_id

    def callers_trace_id(self, headers: Headers) -> int:
        """Return the id of the trace that a caller is in; 0 when in none, or when callers are not trusted."""
        return trace.get_current_span(self._caller_context(headers)).get_span_context().trace_id

    def end_call(
        self, call: Call, span: Span, status: int, end_ns: int, *, error: str | None, more: Attributes
    ) -> None:
        """End the SERVER span.

        Args:
            call: the request.
            span: the span.
            status: the HTTP status that the user got; 0 for none.
            end_ns: when the user had the last byte.
            error: why the user has no whole answer; None when he has.
            more: further attributes; None values are left out.
        """
        if span.is_recording():
            error = error or (str(status) if status >= 500 else None)
            attributes = {
                semconv.OPERATION_NAME: call.operation,
                names.REQUEST_ID: call.id,
                **_route_attributes(call),
                **{key: value for key, value in more.items() if value is not None},
            }
            _put(attributes, names.PAIR_ID, call.pair_id)
            if status:
                attributes["http.response.status_code"] = status
            if error is not None:
                attributes[semconv.ERROR_TYPE] = error
                span.set_status(error_status(error, None))
            span.set_attributes(attributes)
        span.end(end_ns)

    def start_arm(self, arm: Arm, start_ns: int) -> Span:
        """Start the CLIENT span of an arm. What takes time to find out is added when it ends."""
        model = arm.body.model
        return self._tracer.start_span(
            f"{arm.call.operation} {model}" if model else arm.call.operation,
            arm.call.context,
            SpanKind.CLIENT,
            {semconv.OPERATION_NAME: arm.call.operation, semconv.PROVIDER_NAME: semconv.PROVIDER},
            start_time=start_ns,
        )

    def context_of(self, arm: Arm, span: Span) -> Context:
        """Return the context in which a server's own spans are children of an arm's span."""
        return trace.set_span_in_context(span, arm.call.context)

    def end_arm(self, arm: Arm, more: Attributes) -> None:
        """End the CLIENT span of an arm; it is done once, however often it is called.

        Args:
            arm: the arm; without a span nothing is done.
            more: further attributes; None values are left out.
        """
        span, record = arm.span, arm.record
        if span is None or record is None:
            return
        arm.span = None
        if self._durations is not None:
            self._durations.record(arm, self.context_of(arm, span))
        said = self._said(arm, record) if span.is_recording() else None
        if span.is_recording():
            attributes = arm_attributes(arm, record)
            attributes.update((key, value) for key, value in more.items() if value is not None)
            failure = record.failure()
            if failure is not None:
                attributes[semconv.ERROR_TYPE] = failure
                span.set_status(error_status(failure, None))
            if said is not None and self._on_span is not None and self._on_span.on_span:
                attributes.update(self._on_span.span_attributes(said))
            span.set_attributes(attributes)
        # What is only scored goes to the evaluators beside the span.
        token = ending.set(said)
        try:
            span.end(record.end_ns)
        finally:
            ending.reset(token)

    def _said(self, arm: Arm, record: Exchange) -> RequestRecord | None:
        if self._reader is None or not record.captured or not record.status or record.status >= 400:
            return None
        return RequestRecord(
            arm.call.context or Context(),
            UNKNOWN_VARIANT,
            arm.call.operation,
            record.start_ns,
            record.end_ns,
            content=Said(arm.body, record.answer(), self._reader),
        )

    def _caller_context(self, headers: Headers) -> Context:
        if not self._trust_callers:
            return Context()
        carrier: dict[str, str] = {}
        for name, value in headers:
            if name in CARRIED:
                carrier.setdefault(name.decode(), value.decode("latin-1"))
        return _propagator.extract(carrier, Context()) if carrier else Context()


def arm_attributes(arm: Arm, record: Exchange) -> Attributes:
    """Return the attributes of an arm whose exchange has ended."""
    attributes: Attributes = {
        **_server_attributes(arm.server),
        **_route_attributes(arm.call),
        **_request_attributes(arm),
    }
    if record.status:
        attributes["http.response.status_code"] = record.status
    attributes[names.CHUNKS] = record.pieces
    attributes[names.BYTES] = record.length
    attributes[semconv.LATENCY_E2E] = record.duration
    # A whole answer comes when it is done: that says nothing of its first token, nor of the time between tokens.
    if record.first_byte is not None and arm.body.stream:
        attributes[semconv.RESPONSE_TIME_TO_FIRST_CHUNK] = record.first_byte - record.started
    if record.captured and record.status and record.status < 400:
        answer = record.answer()
        attributes.update(_answer_attributes(answer, record.started))
        _put(attributes, names.COST_USD, _cost(answer, arm.server.price))
    return attributes


def _cost(answer: Answer, price: Price | None) -> float | None:
    if price is None or answer.input_tokens is None:
        return None
    # Embeddings have no tokens of their own.
    return price.of(answer.input_tokens, answer.output_tokens or 0)


def _route_attributes(call: Call) -> Attributes:
    attributes: Attributes = {names.RISK: call.route.risk.value, **call.tags}
    _put(attributes, names.INTENT, call.route.intent)
    _put(attributes, names.CONVERSATION, call.session)
    return attributes


def _server_attributes(server: Server) -> Attributes:
    attributes: Attributes = dict(_address(server.url))
    _put(attributes, semconv.MODEL_VARIANT, server.model_variant)
    _put(attributes, semconv.QUANTIZATION_FORMAT, server.quantization_format)
    return attributes


@lru_cache(maxsize=256)
def _address(url: str) -> tuple[tuple[str, str | int], ...]:
    parts = urlsplit(url)
    named = (("server.address", parts.hostname), ("server.port", parts.port))
    return tuple((name, value) for name, value in named if value is not None)


def _request_attributes(arm: Arm) -> Attributes:
    body = arm.body
    attributes: Attributes = {}
    _put(attributes, semconv.REQUEST_MODEL, body.model)
    if body.stream:
        attributes[semconv.REQUEST_STREAM] = True
    for name, value in body.sampling_parameters().items():
        key, kind = _PARAMETERS.get(name, ("", float))
        if key and isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < _TOO_LARGE:
            attributes[key] = kind(value)
    if json_format(body) is not None:
        attributes[semconv.OUTPUT_TYPE] = "json"
    if arm.call.pair_id is not None or arm.call.route.candidate is not None:
        attributes[names.PAIR_ARM] = arm.name  # also without a pair: feedback is compared by who answered
    if arm.call.pair_id is not None:
        attributes[names.PAIR_ID] = arm.call.pair_id
        attributes[names.PAIR_PROMPT_HASH] = body.prompt_hash()
    return attributes


def _answer_attributes(answer: Answer, started: float) -> Attributes:
    attributes: Attributes = {}
    _put(attributes, semconv.RESPONSE_ID, answer.id)
    _put(attributes, semconv.RESPONSE_MODEL, answer.model)
    _put(attributes, semconv.RESPONSE_FINISH_REASONS, answer.finish_reasons or None)
    for key, count in (
        (semconv.USAGE_INPUT_TOKENS, answer.input_tokens),
        (semconv.LLM_TOKEN_COUNT_PROMPT, answer.input_tokens),
        (semconv.USAGE_OUTPUT_TOKENS, answer.output_tokens),
        (semconv.LLM_TOKEN_COUNT_COMPLETION, answer.output_tokens),
        (semconv.USAGE_CACHE_READ_INPUT_TOKENS, answer.cached_tokens),
    ):
        _put(attributes, key, count)
    if answer.input_tokens is not None and answer.output_tokens is not None:
        attributes[semconv.LLM_TOKEN_COUNT_TOTAL] = answer.input_tokens + answer.output_tokens
    tools = [call.name for _, choice in sorted(answer.choices.items()) for call in choice.tool_calls.values()]
    _put(attributes, names.TOOL_NAMES, tools or None)
    attributes.update(_stream_times(answer.content_times, started))
    return attributes


def _stream_times(times: list[float], started: float) -> Attributes:
    if not times:
        return {}
    attributes = {semconv.LATENCY_TIME_TO_FIRST_TOKEN: times[0] - started}
    gaps = sorted(later - earlier for earlier, later in pairwise(times))
    if gaps:
        attributes[names.GAP_P50] = gaps[len(gaps) // 2]
        attributes[names.GAP_P99] = gaps[len(gaps) * 99 // 100]
        attributes[names.GAP_MAX] = gaps[-1]
    return attributes


def _put(attributes: Attributes, key: str, value: Any) -> None:
    if value is not None:
        attributes[key] = value
