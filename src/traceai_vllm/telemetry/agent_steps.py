"""The step of an agent, by the names that agent frameworks give their own spans, for calls without the tag.

Only identifiers of a span travel to a server, not its attributes. So the step is looked for where the agent runs: from
the span of a call outward, the nearest span with an agent's name, OpenInference's or OpenTelemetry's, counts. It is
sent as the ``agent_step`` of W3C baggage, where the server looks for it anyway. ``tags(agent_step=...)`` goes before.
"""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any

from opentelemetry import baggage, context, propagate, trace
from opentelemetry.propagators.textmap import TextMapPropagator, default_getter, default_setter
from opentelemetry.sdk.trace import SpanProcessor

from traceai_vllm.content.limits import encodable
from traceai_vllm.guard import Guard
from traceai_vllm.telemetry import semconv
from traceai_vllm.telemetry.processors import add_span_processor
from traceai_vllm.telemetry.tags import MAX_VALUE_LENGTH, tags_in

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.propagators.textmap import CarrierT, Getter, Setter
    from opentelemetry.sdk.trace import Span

# OpenInference: a graph's node (LangGraph and others), an agent; OpenTelemetry GenAI: an agent.
NAMES = ("graph.node.name", "graph.node.id", "gen_ai.agent.name", "agent.name")
_MAX_DEPTH = 64
_START = Guard("the start of a span")
_INJECT = Guard("the step of an agent")


class AgentSteps(SpanProcessor):
    """Remembers which span is inside which, as long as they live, and can tell the step that one is in.

    Attributes:
        on: False once :meth:`switch_off` was called; the SDK has no way to take a processor out again.
    """

    def __init__(self) -> None:
        self.on = True
        self._outer: weakref.WeakKeyDictionary[Any, Any] = weakref.WeakKeyDictionary()

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        """Remember the span that this one is inside of; an engine's own span gets the step at once."""
        if not self.on:
            return
        with _START:
            outer = trace.get_current_span(parent_context)
            if outer.is_recording():
                self._outer[span] = outer
            if _is_ours(span) and semconv.AGENT_STEP not in (span.attributes or {}):
                step = self.of(outer)
                if step is not None:
                    span.set_attribute(semconv.AGENT_STEP, step)

    def of(self, span: Any) -> str | None:
        """Return the step that a span is in, or None."""
        for _ in range(_MAX_DEPTH):
            attributes = getattr(span, "attributes", None) or {}
            for name in NAMES:
                value = attributes.get(name)
                if isinstance(value, str) and value:
                    return encodable(value[:MAX_VALUE_LENGTH])
            span = self._outer.get(span)
            if span is None:
                break
        return None

    def switch_off(self) -> None:
        """Do nothing from now on."""
        self.on = False
        self._outer.clear()


class AgentStepPropagator(TextMapPropagator):
    """Adds the step to the baggage of outgoing calls that have none, and leaves the rest to another propagator."""

    def __init__(self, wrapped: TextMapPropagator, steps: AgentSteps) -> None:
        self.wrapped = wrapped
        self._steps = steps

    def inject(
        self, carrier: CarrierT, context: Context | None = None, setter: Setter[CarrierT] = default_setter
    ) -> None:
        """Write the headers of a call."""
        ctx = context
        if self._steps.on:
            with _INJECT:
                ctx = self._with_step(context)
        self.wrapped.inject(carrier, ctx, setter)

    def _with_step(self, ctx: Context | None) -> Context | None:
        ctx = context.get_current() if ctx is None else ctx
        if semconv.AGENT_STEP in tags_in(ctx) or baggage.get_baggage(semconv.AGENT_STEP, ctx) is not None:
            return ctx
        step = self._steps.of(trace.get_current_span(ctx))
        return ctx if step is None else baggage.set_baggage(semconv.AGENT_STEP, step, ctx)

    def extract(
        self, carrier: CarrierT, context: Context | None = None, getter: Getter[CarrierT] = default_getter
    ) -> Context:
        """Read the headers of a call, as the other propagator does."""
        return self.wrapped.extract(carrier, context, getter)

    @property
    def fields(self) -> set[str]:
        """The headers that are written."""
        return self.wrapped.fields


_steps: AgentSteps | None = None


def switch_on(tracer_provider: Any) -> None:
    """Begin to tell the steps of spans of this provider; another than the SDK's has no span to look at."""
    global _steps  # noqa: PLW0603 - the propagator is OpenTelemetry's global one
    steps = AgentSteps()
    if _steps is not None or not add_span_processor(tracer_provider, steps):
        return
    _steps = steps
    propagate.set_global_textmap(AgentStepPropagator(propagate.get_global_textmap(), _steps))


def switch_off() -> None:
    """Give OpenTelemetry its propagator back."""
    global _steps  # noqa: PLW0603
    if _steps is None:
        return
    _steps.switch_off()
    _steps = None
    ours = propagate.get_global_textmap()
    if isinstance(ours, AgentStepPropagator):
        propagate.set_global_textmap(ours.wrapped)


def _is_ours(span: Span) -> bool:
    scope = span.instrumentation_scope
    return scope is not None and scope.name == "traceai_vllm"
