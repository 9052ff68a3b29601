"""The name of an agent's span is the step of the calls inside, where no tag says it."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from typing import Any
from urllib.parse import unquote

import pytest
from opentelemetry import baggage, context, propagate, trace

import traceai_vllm
from tests.support.records import finished_record
from traceai_vllm.engine import runtime
from traceai_vllm.telemetry import agent_steps
from traceai_vllm.testing import Capture, capture


@pytest.fixture
def captured() -> Iterator[Capture]:
    with capture(client=True) as seen:
        yield seen


def tracer(captured: Capture) -> trace.Tracer:
    return captured.tracer_provider.get_tracer("an agent framework")


def sent() -> dict[str, str]:
    """Return the baggage that an instrumented client would send now."""
    carrier: dict[str, str] = {}
    propagate.inject(carrier)
    pairs = (pair.partition("=") for pair in carrier.get("baggage", "").split(",") if pair)
    return {name: unquote(value) for name, _, value in pairs}


@pytest.mark.parametrize("name", ["gen_ai.agent.name", "agent.name", "graph.node.id", "graph.node.name"])
def test_an_agents_name_travels_as_the_step(captured: Capture, name: str) -> None:
    """OpenTelemetry's and OpenInference's attributes, through the client's own span."""
    with (
        tracer(captured).start_as_current_span("agent", attributes={name: "planner"}),
        tracer(captured).start_as_current_span("POST", kind=trace.SpanKind.CLIENT),
    ):
        assert sent() == {"agent_step": "planner"}


def test_an_agents_name_that_baggage_cannot_hold_does_not_break_the_call(captured: Capture) -> None:
    """Half a surrogate pair, as JSON may bring one."""
    with tracer(captured).start_as_current_span("agent", attributes={"agent.name": "a\ud800b"}):
        assert sent() == {"agent_step": "a?b"}


def test_the_nearest_agent_counts_also_when_it_is_named_late(captured: Capture) -> None:
    """A supervisor's span is further out; a name that is set after the start is seen."""
    with (
        tracer(captured).start_as_current_span("supervisor", attributes={"agent.name": "supervisor"}),
        tracer(captured).start_as_current_span("worker") as worker,
        tracer(captured).start_as_current_span("POST"),
    ):
        assert sent() == {"agent_step": "supervisor"}
        worker.set_attribute("agent.name", "worker")
        assert sent() == {"agent_step": "worker"}


def test_a_tag_goes_before_the_name(captured: Capture) -> None:
    """What the application says, counts; a tag that stays at home is not replaced by a name that travels."""
    with tracer(captured).start_as_current_span("agent", attributes={"agent.name": "planner"}):
        with traceai_vllm.tags(agent_step="plan"):
            assert sent() == {"agent_step": "plan"}
        with traceai_vllm.tags(agent_step="plan", propagate=False):
            assert sent() == {}
        with traceai_vllm.tags(route="support"):
            assert sent() == {"route": "support", "agent_step": "planner"}


def test_baggage_that_is_there_is_kept(captured: Capture) -> None:
    """A step from further up the chain of services is not overwritten."""
    token = context.attach(baggage.set_baggage("agent_step", "upstream"))
    try:
        with tracer(captured).start_as_current_span("agent", attributes={"agent.name": "planner"}):
            assert sent() == {"agent_step": "upstream"}
    finally:
        context.detach(token)


def test_an_engine_in_the_agents_own_process_has_the_step_too(captured: Capture) -> None:
    """Its request's span is inside the agent's."""
    active = runtime.current()
    assert active is not None
    with tracer(captured).start_as_current_span("agent", attributes={"agent.name": "planner"}):
        record = finished_record(context=context.get_current())
    active.pipeline.finish(Ended(record))

    (request,) = captured.requests
    assert (request.attributes or {})["agent_step"] == "planner"


class Ended:
    """A request that has ended, as the engine's hooks hand it over."""

    def __init__(self, record: Any) -> None:
        self._record = record

    def __getattr__(self, name: str) -> Any:
        return getattr(self._record, name)

    def record(self) -> Any:
        return self._record


def test_without_a_name_nothing_is_sent(captured: Capture) -> None:
    """A step is never guessed: not from a span's own name, nor from what is no text."""
    with tracer(captured).start_as_current_span("planner", attributes={"agent.name": 7}):
        assert sent() == {}


def test_openinferences_own_spans_are_understood(captured: Capture) -> None:
    """Their tracer's spans are wrappers round the SDK's."""
    openinference = pytest.importorskip("openinference.instrumentation")
    their_tracer = openinference.OITracer(tracer(captured), openinference.TraceConfig())

    with (
        their_tracer.start_as_current_span("agent", openinference_span_kind="agent") as agent,
        tracer(captured).start_as_current_span("POST"),
    ):
        agent.set_attribute("agent.name", "planner")
        assert sent() == {"agent_step": "planner"}


def test_afterwards_opentelemetry_has_its_propagator_back() -> None:
    """uninstrument() leaves nothing behind: neither names that travel nor spans that are kept."""
    before = propagate.get_global_textmap()
    with capture(client=True) as seen:
        assert propagate.get_global_textmap() is not before
        assert propagate.get_global_textmap().fields == before.fields
        provider = seen.tracer_provider

    assert propagate.get_global_textmap() is before
    with provider.get_tracer("agent").start_as_current_span("agent", attributes={"agent.name": "planner"}):
        assert sent() == {}


def test_spans_that_have_ended_are_not_kept(captured: Capture) -> None:
    """What is remembered of a span goes with it."""
    for _ in range(100):
        with tracer(captured).start_as_current_span("agent"), tracer(captured).start_as_current_span("POST"):
            pass
    gc.collect()

    assert agent_steps._steps is not None
    assert len(agent_steps._steps._outer) == 0
