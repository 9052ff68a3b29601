"""Runs one use of vLLM under one fault after the other, and says what is wrong for the user after each."""

from __future__ import annotations

import io
import logging
import sys
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, redirect_stderr
from dataclasses import dataclass, field
from typing import Any
from unittest import mock

from opentelemetry.context import Context
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter, SpanExportResult

import traceai_vllm
from tests.support.fault_seam import FINALIZERS, SEAM
from tests.support.faults import KINDS, Injected, Kind, Target, called_in
from tests.support.usage import Engines, Outcome, Use, outcome_of
from tests.support.usage_async import stream_switched_off_meanwhile, streamed
from tests.support.usage_offline import imported, one_token, switched_off_meanwhile
from traceai_vllm import guard
from traceai_vllm.engine import funnel, patches

NO_RESOURCE = Resource.get_empty()
# Some functions do not run in each run of a use: it depends on when the engine's process answers.
ATTEMPTS = 5
# In these the patching itself may fail, and vLLM then keeps functions of ours that do nothing.
SWITCHING = (imported, switched_off_meanwhile, stream_switched_off_meanwhile)
_ABSENT = object()


class SpanCount(SpanProcessor):
    """Counts the spans that were begun and ended."""

    def __init__(self) -> None:
        self.begun = 0
        self.ended = 0

    def on_start(self, span: Any, parent_context: Context | None = None) -> None:
        self.begun += 1

    def on_end(self, span: ReadableSpan) -> None:
        self.ended += 1


class NowhereExporter(SpanExporter):
    """Takes spans and keeps nothing."""

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        return SpanExportResult.SUCCESS


class Printed(logging.Handler):
    """What reached the user's log and stderr while it was watched."""

    def __init__(self) -> None:
        super().__init__()
        self._stderr = io.StringIO()
        self._logged = 0
        self.kinds = 0

    @property
    def tracebacks(self) -> int:
        """How many errors were shown, each with its traceback."""
        return self._logged + self._stderr.getvalue().count("Traceback (most recent call last)")

    def emit(self, record: logging.LogRecord) -> None:
        """Show the record, as a handler of the user's would."""
        self.format(record)
        self._logged += record.exc_info is not None

    @contextmanager
    def watch(self) -> Iterator[None]:
        """Collect it, and count the kinds of internal errors of this time alone."""
        logger = logging.getLogger("traceai_vllm")
        logger.addHandler(self)
        logger.propagate = False
        try:
            with (
                mock.patch.object(guard, "_errors", type(guard._errors)()),
                mock.patch.object(sys, "unraisablehook", sys.__unraisablehook__),
                redirect_stderr(self._stderr),
            ):
                yield
                self.kinds = len(guard.internal_errors())
        finally:
            logger.removeHandler(self)
            logger.propagate = True


@dataclass
class Result:
    """What a use came to under a fault.

    Attributes:
        problems: what is wrong for the user; empty when nothing is.
        spans: how many spans were ended.
        dangling: how many spans were begun and not ended.
    """

    problems: list[str]
    spans: int
    dangling: int


@dataclass
class Tally:
    """The results of one use of vLLM under every fault.

    Attributes:
        tried: function and kind of each fault that was put in place.
        reached: those that came to happen.
        failures: fault and problem, for every problem.
        whole: those that left as many spans as there are without a fault, all ended.
    """

    tried: set[tuple[str, str]] = field(default_factory=set)
    reached: set[tuple[str, str]] = field(default_factory=set)
    failures: list[str] = field(default_factory=list)
    whole: set[tuple[str, str]] = field(default_factory=set)


class Harness:
    """Puts faults into the hooks while real engines work.

    Args:
        engines: the engines; vLLM is not instrumented.
        store: what ``instrument(store=...)`` adds to the tracer provider.

    Attributes:
        tallies: name of a use to what :meth:`walk` has found.
        everything: instrument with all that can be switched on, not as we are by default.
        boundary_faults: how many faults of OpenTelemetry's were tried.
        rows: our answers to the questions that were put to other libraries.
    """

    def __init__(self, engines: Engines, store: SpanProcessor) -> None:
        self.engines = engines
        self.tallies: dict[str, Tally] = {}
        self.boundary_faults = 0
        self.everything = True
        self.rows: list[dict[str, Any]] = []
        self._store = store
        owners = dict.fromkeys((patch.module, patch.owner) for patch in patches.PATCHES)
        imported = [(sys.modules[module], owner) for module, owner in owners if module in sys.modules]
        self._owners = [getattr(module, owner) for module, owner in imported if hasattr(module, owner)]
        self._own = [dict(vars(owner)) for owner in self._owners]

    def expected(self, use: Use) -> Outcome:
        """Return what a use comes to without us."""
        self.uninstrument()
        outcome_of(use, self.engines)  # what vLLM does only once is done
        return outcome_of(use, self.engines)

    def walk(self, use: Use) -> Tally:
        """Make each function that runs during a use raise, one after the other, and fail in each way not seen yet."""
        expected = self.expected(use)
        healthy = self.result(use, expected)
        tally = Tally(failures=[f"no fault: {problem}" for problem in healthy.problems])
        for target in self.targets(use):
            for kind in self._kinds(target):
                tally.tried.add((target.name, kind.name))
                self._try(tally, healthy, use, expected, target, kind)
        self.uninstrument()
        self.tallies[use.__name__] = tally
        return tally

    def _kinds(self, target: Target) -> list[Kind]:
        # All kinds in all uses would take four times as long.
        reached = set().union(*(tally.reached for tally in self.tallies.values()))
        usual = KINDS[0]
        return [k for k in KINDS if k.fits(target) and (k is usual or (target.name, k.name) not in reached)]

    def targets(self, use: Use, fault: AbstractContextManager[Any] | None = None) -> list[Target]:
        """Return the functions that run during a use, with a fault in place if one is given; without the seam."""
        self.fresh()
        with fault or nullcontext():
            called = called_in(lambda: outcome_of(use, self.engines))
        return [target for target in called if target.name not in SEAM]

    def _try(self, tally: Tally, healthy: Result, use: Use, expected: Outcome, target: Target, kind: Kind) -> None:
        for _ in range(ATTEMPTS):
            fault = Injected(target, kind)
            result = self.result(use, expected, fault, quiet=target.name not in FINALIZERS)
            if fault.reached:
                break
        else:
            return
        tally.reached.add((target.name, kind.name))
        tally.failures += [f"{target.name} {kind.name}: {problem}" for problem in result.problems]
        if result.spans == healthy.spans and not result.dangling:
            tally.whole.add((target.name, kind.name))

    def result(
        self, use: Use, expected: Outcome, fault: AbstractContextManager[Any] | None = None, *, quiet: bool = True
    ) -> Result:
        """Use vLLM, with a fault in place if one is given, and compare with what is expected.

        Args:
            use: what the user does.
            expected: what comes of it without us.
            fault: makes something fail.
            quiet: no more than one error of each kind may be shown.
        """
        self.fresh()
        printed = Printed()
        problems: list[str] = []
        with printed.watch():
            with fault or nullcontext():
                outcome = outcome_of(use, self.engines)
                problems += self._growth(use)
            spans = self.spans
            if outcome != expected:
                problems.append(f"the user got {outcome} instead of {expected}")
            problems += self._leftovers(use)
            problems += self._switched_off(use)
        if quiet and printed.tracebacks > printed.kinds:
            problems.append(f"{printed.tracebacks} errors were shown, of {printed.kinds} kinds")
        return Result(problems, spans.ended, spans.begun - spans.ended)

    def _growth(self, use: Use) -> list[str]:
        held = self._held()
        if not held:
            return []
        outcome_of(use, self.engines)
        return [f"{held} requests are held, and {self._held()} after as many again"] if self._held() > held else []

    def _leftovers(self, use: Use) -> list[str]:
        if self._held():
            if use in SWITCHING:
                self._instrument()
            for next_use in (one_token, streamed):
                outcome_of(next_use, self.engines)
        held = self._held()
        return [f"{held} requests are held for ever"] if held else []

    def _held(self) -> int:
        trackers = [processor.__dict__.get(funnel._ATTRIBUTE) for processor in self.engines.processors]
        return sum(len(getattr(tracker, "open", ())) for tracker in trackers)

    def _switched_off(self, use: Use) -> list[str]:
        problems = []
        try:
            self.uninstrument()
        except Exception as error:
            problems.append(f"uninstrument() raised {error!r}")
        if use not in SWITCHING and [dict(vars(owner)) for owner in self._owners] != self._own:
            problems.append("vLLM did not get its own functions back")
        return problems

    def fresh(self) -> None:
        """Instrument vLLM as if it had never been: what happens once per engine will happen again."""
        for processor in self.engines.processors:
            for name in (funnel._ATTRIBUTE, *funnel.HOOKS_IN_FLIGHT):
                processor.__dict__.pop(name, None)
        self._instrument()

    def _instrument(self) -> None:
        self._restore()
        self.uninstrument()
        self.spans = SpanCount()
        tracer_provider = TracerProvider(resource=NO_RESOURCE, shutdown_on_exit=False)
        tracer_provider.add_span_processor(self.spans)
        tracer_provider.add_span_processor(SimpleSpanProcessor(NowhereExporter()))
        tracer_provider.add_span_processor(self._store)
        self.engines.tracer_provider = tracer_provider
        meter_provider = MeterProvider([InMemoryMetricReader()], resource=NO_RESOURCE, shutdown_on_exit=False)
        traceai_vllm.instrument(
            tracer_provider=tracer_provider,
            meter_provider=meter_provider,
            model_variant="declared",
            phase_spans=self.everything,
            capture_content="SPAN_AND_EVENT" if self.everything else "NO_CONTENT",
        )

    def _restore(self) -> None:
        patches._applied.clear()
        for owner, own in zip(self._owners, self._own, strict=True):
            for name in {patch.name for patch in patches.PATCHES} & {*vars(owner), *own}:
                if name not in own:
                    delattr(owner, name)
                elif vars(owner).get(name, _ABSENT) is not own[name]:
                    setattr(owner, name, own[name])

    @staticmethod
    def uninstrument() -> None:
        """Give vLLM its own functions back, if it has not got them."""
        if traceai_vllm.VLLMInstrumentor().is_instrumented_by_opentelemetry:
            traceai_vllm.uninstrument()
