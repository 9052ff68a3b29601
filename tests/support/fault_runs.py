"""Runs one use of vLLM under one fault, and says what is wrong for the user after it."""

from __future__ import annotations

import io
import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr
from dataclasses import dataclass, field
from typing import Any
from unittest import mock

from opentelemetry.context import Context
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider

import traceai_vllm
from tests.support.faults import KINDS, Kind, Target, called_in, injected
from tests.support.usage import Engines, Outcome, outcome_of
from traceai_vllm import guard
from traceai_vllm.engine import funnel

# More than any use makes of engine requests: two prompts, one of them with two answers.
MOST_ANSWERS = 3
_NO_RESOURCE = Resource.get_empty()

Use = Callable[[Engines], Any]


class SpanCount(SpanProcessor):
    """Counts the spans that were begun and ended."""

    def __init__(self) -> None:
        self.begun = 0
        self.ended = 0

    def on_start(self, span: Any, parent_context: Context | None = None) -> None:
        self.begun += 1

    def on_end(self, span: ReadableSpan) -> None:
        self.ended += 1


class Printed:
    """What reached the user's log and stderr while it was watched."""

    def __init__(self) -> None:
        self._text = io.StringIO()

    @property
    def tracebacks(self) -> int:
        """How many tracebacks there are."""
        return self._text.getvalue().count("Traceback (most recent call last)")

    @contextmanager
    def watch(self) -> Iterator[None]:
        """Collect it, with the internal errors of this time alone in the guard's count."""
        handler = logging.StreamHandler(self._text)
        logger = logging.getLogger("traceai_vllm")
        logger.addHandler(handler)
        logger.propagate = False
        try:
            with (
                mock.patch.object(guard, "_errors", type(guard._errors)()),
                mock.patch.object(sys, "unraisablehook", sys.__unraisablehook__),
                redirect_stderr(self._text),
            ):
                yield
                self.kinds = len(guard.internal_errors())
        finally:
            logger.removeHandler(handler)
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
        functions: names of the functions that were made to fail.
        faults: how many faults there were.
        failures: fault and problem, for every problem.
        whole: how many faults left the trace with as many spans as without a fault, all ended.
    """

    functions: set[str] = field(default_factory=set)
    faults: int = 0
    failures: list[str] = field(default_factory=list)
    whole: int = 0


class Harness:
    """Puts faults into the hooks while real engines work.

    Args:
        engines: the engines.
        seam: names of the functions that are spared because they hold the user's call.
        quiet: names of functions that Python calls itself; it prints an exception of theirs each time.
    """

    def __init__(self, engines: Engines, seam: frozenset[str], quiet: frozenset[str]) -> None:
        self.engines = engines
        self._seam = seam
        self._quiet = quiet

    def walk(self, use: Use) -> Tally:
        """Make each function that runs during a use fail in each way, one after the other."""
        self.uninstrument()
        outcome_of(use, self.engines)  # what vLLM does only once is done
        expected = outcome_of(use, self.engines)
        healthy = self.result(use, expected)
        tally = Tally(failures=[f"no fault: {problem}" for problem in healthy.problems])
        for target in self.targets(use):
            tally.functions.add(target.name)
            for kind in KINDS:
                if kind.fits(target):
                    self._count(tally, healthy, use, expected, target, kind)
        self.uninstrument()
        return tally

    def targets(self, use: Use) -> list[Target]:
        """Return the functions that run during a use, without the seam."""
        self.fresh()
        called = called_in(lambda: outcome_of(use, self.engines))
        return [target for target in called if target.name not in self._seam]

    def _count(self, tally: Tally, healthy: Result, use: Use, expected: Outcome, target: Target, kind: Kind) -> None:
        result = self.result(use, expected, target, kind)
        tally.faults += 1
        tally.failures += [f"{target.name} {kind.name}: {problem}" for problem in result.problems]
        tally.whole += result.spans == healthy.spans and not result.dangling

    def result(self, use: Use, expected: Outcome, target: Target | None = None, kind: Kind | None = None) -> Result:
        """Use vLLM, with a fault in place if one is given, and compare with what is expected."""
        self.fresh()
        printed = Printed()
        problems = []
        with printed.watch():
            if target is None or kind is None:
                outcome = outcome_of(use, self.engines)
            else:
                with injected(target, kind) as injection:
                    outcome = outcome_of(use, self.engines)
                if not injection.reached:
                    problems.append("it was not called, so nothing was tested")
        if outcome != expected:
            problems.append(f"the user got {outcome} instead of {expected}")
        if printed.tracebacks > printed.kinds and (target is None or target.name not in self._quiet):
            problems.append(f"{printed.tracebacks} tracebacks were printed for {printed.kinds} kinds of error")
        problems += self._leftovers()
        problems += self._switched_off()
        return Result(problems, self.spans.ended, self.spans.begun - self.spans.ended)

    def _switched_off(self) -> list[str]:
        try:
            self.uninstrument()
        except Exception as error:
            self._forget_trackers()
            self.uninstrument()
            return [f"uninstrument() raised {error!r}"]
        return []

    def _leftovers(self) -> list[str]:
        left = self._open()
        if left > MOST_ANSWERS:
            return [f"{left} requests are held, more than were made"]
        if left:
            for use in self._next_requests:
                outcome_of(use, self.engines)
            left = self._open()
        return [f"{left} requests are held for ever"] if left else []

    def _open(self) -> int:
        trackers = [processor.__dict__.get(funnel._ATTRIBUTE) for processor in self.engines.processors]
        return sum(len(getattr(tracker, "open", ())) for tracker in trackers)

    _next_requests: tuple[Use, ...] = ()

    def fresh(self, **options: Any) -> None:
        """Instrument vLLM as if it had never been: also what happens once per engine will happen again."""
        self.uninstrument()
        self._forget_trackers()
        self.spans = SpanCount()
        tracer_provider = TracerProvider(resource=_NO_RESOURCE, shutdown_on_exit=False)
        tracer_provider.add_span_processor(self.spans)
        traceai_vllm.instrument(
            **{
                "tracer_provider": tracer_provider,
                "meter_provider": MeterProvider(
                    [InMemoryMetricReader()], resource=_NO_RESOURCE, shutdown_on_exit=False
                ),
                "phase_spans": True,
                **options,
            }
        )

    def _forget_trackers(self) -> None:
        for processor in self.engines.processors:
            for name in (funnel._ATTRIBUTE, *funnel.HOOKS_IN_FLIGHT):
                processor.__dict__.pop(name, None)

    @staticmethod
    def uninstrument() -> None:
        """Give vLLM its own functions back, if it has not got them."""
        if traceai_vllm.VLLMInstrumentor().is_instrumented_by_opentelemetry:
            traceai_vllm.uninstrument()
