"""Whatever fails inside of us, the user's call goes on as if we were not there.

Each function of ours raises in each use of vLLM in which it runs, and fails in each other way in the first of them.
Which functions there are is found out by watching real calls, so new code is tried without being named here. With
``TRACEAI_SAFETY_RESULTS=FILE`` the counts are written there, for ``docs/safety.md``.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from opentelemetry import context
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.trace import Span, Tracer, TracerProvider
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.sdk.trace.sampling import ParentBased

import traceai_vllm
from tests.integration.conftest import Run
from tests.support import safety_results
from tests.support.fault_runs import Harness, NowhereExporter, Printed, SpanCount
from tests.support.faults import KINDS, NOTHING, Injected, Raising
from tests.support.usage import Engines, Use
from tests.support.usage_async import ASYNCHRONOUS, cancelled, closed, rejected_stream, streamed
from tests.support.usage_offline import OFFLINE, beam_search, failing_step, generate, one_token, rejected_request
from traceai_vllm.store.processor import StoreProcessor

pytestmark = pytest.mark.internal_errors_expected

USES = {use.__name__: use for use in (*OFFLINE, *ASYNCHRONOUS)}
RESULTS = os.environ.get("TRACEAI_SAFETY_RESULTS")


@pytest.fixture(scope="module")
def harness(llm: Any, async_engine: Any, run: Run, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Harness]:
    """The engines with everything that `instrument()` can switch on."""
    store = StoreProcessor(tmp_path_factory.mktemp("store"))
    harness = Harness(Engines(llm, async_engine, run, TracerProvider()), store)
    with traceai_vllm.tags(route="support", traffic_cohort="mirrored"):
        yield harness
    harness.uninstrument()
    store.shutdown()
    if RESULTS:
        safety_results.write(Path(RESULTS), harness)


@pytest.mark.parametrize("use", USES.values(), ids=USES)
def test_no_fault_of_ours_reaches_the_user(harness: Harness, use: Use) -> None:
    """The user's tokens or exception are the same whichever of our functions fails, and however it does."""
    tally = harness.walk(use)

    assert tally.reached
    assert not tally.failures, f"{len(tally.failures)} of {len(tally.reached)}:\n" + "\n".join(tally.failures)


def test_every_function_has_failed_in_every_way(harness: Harness) -> None:
    """A function that runs only now and then, as the engine's timing has it, was made to fail in one use or another."""
    tallies = harness.tallies.values()
    if not tallies:
        pytest.skip("it looks at what the tests above have done")
    missed = {fault for tally in tallies for fault in tally.tried} - {f for tally in tallies for f in tally.reached}

    assert not missed


BOUNDARY = {
    "start_span": (Tracer, "start_span"),
    "set_status": (Span, "set_status"),
    "is_recording": (Span, "is_recording"),
    "end": (Span, "end"),
    "sampler": (ParentBased, "should_sample"),
    "id generator": (RandomIdGenerator, "generate_span_id"),
    "processor's on_start": (SpanCount, "on_start"),
    "processor's on_end": (SpanCount, "on_end"),
    "exporter": (NowhereExporter, "export"),
    "measurement": (type(MeterProvider().get_meter("any").create_histogram("any")), "record"),
    "context.attach": (context, "attach"),
}
BOUNDARY_USES = (
    generate,
    beam_search,
    rejected_request,
    failing_step,
    streamed,
    closed,
    cancelled,
    rejected_stream,
)


@pytest.mark.parametrize(("owner", "method"), BOUNDARY.values(), ids=BOUNDARY)
def test_no_fault_of_opentelemetry_reaches_the_user(harness: Harness, owner: Any, method: str) -> None:
    """Nor does it when the SDK, a processor, an exporter or a sampler raises where we call it."""
    faults = {use: Raising(owner, method) for use in BOUNDARY_USES}
    problems = {use.__name__: harness.result(use, harness.expected(use), faults[use]).problems for use in faults}
    reached = sum(fault.reached > 0 for fault in faults.values())
    harness.boundary_faults += reached

    assert reached
    assert problems == {use.__name__: [] for use in BOUNDARY_USES}


@contextmanager
def failing_throughout(*more: AbstractContextManager[Any]) -> Iterator[None]:
    """Every request fails to begin inside of us, and something else fails too."""
    with ExitStack() as stack:
        stack.enter_context(Injected(safety_results.target("engine.live.begin"), KINDS[0]))
        for fault in more:
            stack.enter_context(fault)
        yield


@pytest.mark.parametrize("use", [generate, streamed], ids=lambda use: use.__name__)
def test_the_handling_of_a_fault_may_fail_too(harness: Harness, use: Use) -> None:
    """What runs only after an error of ours can itself fail, and so can the user's log handler."""
    expected = harness.expected(use)
    usual = {target.name for target in harness.targets(use)}
    targets = [target for target in harness.targets(use, failing_throughout()) if target.name not in usual]
    faults = [Injected(target, kind) for target in targets for kind in KINDS if kind.fits(target)]

    for fault in [*faults, Raising(Printed, "emit")]:
        assert harness.result(use, expected, failing_throughout(fault)).problems == []
    assert "guard.report" in {target.name for target in targets}
    assert all(fault.reached for fault in faults)


def test_the_harness_sees_what_does_reach_the_user(harness: Harness) -> None:
    """A fault in the seam, which nothing can hold back, is found: by the user's exception, and by what is printed."""
    hook = safety_results.target("engine.calls.generate")
    finalizer = safety_results.target("engine.live.LiveRequest.__del__")

    fault = Injected(hook, KINDS[0])
    assert "InjectedFault" in str(harness.result(streamed, harness.expected(streamed), fault).problems)
    fault = Injected(finalizer, KINDS[0])
    assert "errors were shown" in str(harness.result(one_token, harness.expected(one_token), fault).problems)


@contextmanager
def no_end_seen() -> Iterator[None]:
    """No end of a request is seen, and what lets go of such requests does nothing either."""
    with ExitStack() as stack:
        for name in ("engine.funnel.Tracker.close", "engine.funnel._let_go"):
            stack.enter_context(Injected(safety_results.target(name), NOTHING))
        yield


def test_the_harness_sees_requests_that_are_held(harness: Harness) -> None:
    """Requests that pile up are found."""
    problems = harness.result(one_token, harness.expected(one_token), no_end_seen()).problems

    assert problems == ["1 requests are held, and 2 after as many again"]


@pytest.mark.parametrize("question", safety_results.QUESTIONS, ids=lambda question: question.fault)
def test_the_questions_that_were_put_to_others(harness: Harness, question: safety_results.Question) -> None:
    """What `benchmarks/safety` asks of other libraries: the user sees the same, and the spans end."""
    row = safety_results.answer(harness, question)
    harness.rows.append(row)

    assert row["user_sees"] == "same"
    assert row["span_ends"] is True
