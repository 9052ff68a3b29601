"""What users say of an answer, as a span of its own in the answer's trace.

    answer = client.chat.completions.create(...)
    ...
    traceai_vllm.feedback("thumbs_down", response_id=answer.id)

An ended span cannot be changed, and feedback comes minutes or days later. So it is a span named ``feedback`` that says
which answer it is about: by ``traceai.feedback.trace_id``, by ``gen_ai.response.id``, or both.
"""

from __future__ import annotations

import hashlib
import re
from enum import Enum
from typing import TYPE_CHECKING, Any

from opentelemetry import metrics, trace
from opentelemetry.context import Context
from opentelemetry.trace import NonRecordingSpan, SpanContext, SpanKind, TraceFlags

from traceai_vllm.content.limits import encodable
from traceai_vllm.content.options import ContentOptions, options_from
from traceai_vllm.content.redaction import Redaction
from traceai_vllm.telemetry import semconv
from traceai_vllm.version import __version__

if TYPE_CHECKING:
    from collections.abc import Mapping

    from opentelemetry.metrics import MeterProvider
    from opentelemetry.trace import TracerProvider

_SCOPE = "traceai_vllm.feedback"
_TRACE_ID = re.compile("[0-9a-fA-F]{32}")
_MEASURED = (semconv.MODEL_VARIANT, semconv.QUANTIZATION_FORMAT, semconv.ROUTE, semconv.TRAFFIC_COHORT)


class Kind(str, Enum):
    """What a user can say, or do, about an answer."""

    THUMBS_UP = "thumbs_up"
    THUMBS_DOWN = "thumbs_down"
    CORRECTION = "correction"
    ESCALATION = "escalation"
    ABANDONED = "abandoned"

    @property
    def negative(self) -> bool:
        """Whether it speaks against the answer."""
        return self is not Kind.THUMBS_UP


class FeedbackSpans:
    """Turns feedback into spans and counts.

    Args:
        tracer_provider: where spans go; the global provider when None.
        meter_provider: where counts go; the global provider when None.
        content: whether texts of users are kept, and how they are redacted; None: they are not kept.
    """

    def __init__(
        self,
        tracer_provider: TracerProvider | None = None,
        meter_provider: MeterProvider | None = None,
        content: ContentOptions | None = None,
    ) -> None:
        self._tracer = trace.get_tracer(_SCOPE, __version__, tracer_provider)
        meter = metrics.get_meter(_SCOPE, __version__, meter_provider)
        self._count = meter.create_counter(
            semconv.FEEDBACK_COUNT.name, unit=semconv.FEEDBACK_COUNT.unit, description=semconv.FEEDBACK_COUNT.meaning
        )
        keeps_text = content is not None and content.mode.on_span
        self._redaction = Redaction(content) if keeps_text and content is not None else None
        self._max_length = content.max_length if content is not None else 0

    def record(
        self,
        kind: Kind,
        *,
        feedback_id: str,
        trace_id: int | None,
        response_id: str | None,
        about: SpanContext | None = None,
        text: str | None = None,
        attributes: Mapping[str, Any] | None = None,
    ) -> int:
        """Record feedback, and return the id of the trace that its span is in.

        Args:
            kind: what the user said.
            feedback_id: the same for the same feedback, however often it arrives.
            trace_id: of the answer's trace; None when unknown.
            response_id: of the answer; None when unknown.
            about: the answer's span, when it is still known; the feedback then is its child.
            text: a correction, kept only where content is.
            attributes: what else is known of the answer: its tags, its variant.
        """
        values: dict[str, Any] = {
            **(attributes or {}),
            semconv.FEEDBACK_KIND: kind.value,
            semconv.FEEDBACK_ID: feedback_id,
        }
        if trace_id is not None:
            values[semconv.FEEDBACK_TRACE_ID] = f"{trace_id:032x}"
        if response_id is not None:
            values[semconv.RESPONSE_ID] = encodable(response_id)
        if text and self._redaction is not None:
            values[semconv.FEEDBACK_TEXT] = encodable(self._redaction(text)[0][: self._max_length])
        span = self._tracer.start_span("feedback", _parent(about), SpanKind.INTERNAL, values)
        span.end()
        measured = {name: values[name] for name in _MEASURED if name in values}
        self._count.add(1, {**measured, semconv.FEEDBACK_KIND: kind.value})
        return span.get_span_context().trace_id


def feedback_id(kind: str, trace_id: str | None, response_id: str | None, text: str | None, given: str | None) -> str:
    """Return the id of a piece of feedback: that of the caller, or one of what it says; hashed."""
    said = (given,) if given else (kind, trace_id or "", response_id or "", text or "")
    # Half a surrogate pair, which JSON may bring, is no reason to fail.
    return hashlib.sha256("\0".join(("v1", *said)).encode("utf-8", "surrogatepass")).hexdigest()[:32]


def trace_id_of(text: str) -> int:
    """Return a trace id from its 32 hexadecimal digits, as in the header ``x-trace-id``.

    Raises:
        ValueError: it is none.
    """
    if not _TRACE_ID.fullmatch(text):
        raise ValueError("a trace id has 32 hexadecimal digits, as in the header x-trace-id")
    return int(text, 16)


def feedback(
    kind: str | Kind,
    *,
    response_id: str | None = None,
    trace_id: str | None = None,
    text: str | None = None,
    id: str | None = None,
) -> None:
    """Record what a user says of an answer; later is fine, also in another process.

    Args:
        kind: ``thumbs_up``, ``thumbs_down``, ``correction``, ``escalation`` or ``abandoned``.
        response_id: the ``id`` of the answer.
        trace_id: the trace of the answer, as in the header ``x-trace-id``; where neither id is given, the current one.
        text: the user's correction; kept only where content is captured by the environment's settings, redacted.
        id: makes it the same feedback when it is recorded again; by default all of what is said.

    Raises:
        ValueError: an unknown kind, no answer named, or a trace id that is none.
    """
    said = _kind(kind)
    about: SpanContext | None = None
    number = None if trace_id is None else trace_id_of(trace_id)
    if number is None and response_id is None:
        about = trace.get_current_span().get_span_context()
        if not about.is_valid:
            raise ValueError("feedback() needs response_id=, trace_id=, or to be called inside the answer's span")
        number = about.trace_id
    named = None if number is None else f"{number:032x}"
    FeedbackSpans(content=options_from(None)).record(
        said,
        feedback_id=feedback_id(said.value, named, response_id, text, id),
        trace_id=number,
        response_id=response_id,
        about=about,
        text=text,
    )


def _kind(kind: str) -> Kind:
    try:
        return Kind(kind)
    except ValueError:
        raise ValueError(f"feedback({kind!r}): use one of {', '.join(known.value for known in Kind)}") from None


def _parent(about: SpanContext | None) -> Context:
    if about is None:
        return Context()
    # Sampled, though the answer's span may not be: feedback is rare, and all of it counts.
    sampled = TraceFlags(about.trace_flags | TraceFlags.SAMPLED)
    parent = SpanContext(about.trace_id, about.span_id, is_remote=True, trace_flags=sampled)
    return trace.set_span_in_context(NonRecordingSpan(parent), Context())
