"""The span processor that evaluates requests between the end of their span and its export."""

from __future__ import annotations

import logging
import os
import queue
import threading
import time
import weakref
from collections import OrderedDict
from typing import TYPE_CHECKING, Any

from opentelemetry import metrics
from opentelemetry._logs import get_logger
from opentelemetry.context import get_current
from opentelemetry.sdk.trace import SpanProcessor

from traceai_vllm.evals.pipeline import reporting
from traceai_vllm.evals.pipeline.inputs import (
    NOTHING,
    Said,
    evaluator_inputs,
    said_in_attributes,
    said_in_record,
    sliced_request,
    with_given,
)
from traceai_vllm.evals.pipeline.processes import ProcessRunner
from traceai_vllm.evals.pipeline.runner import ERROR, OK, Runner
from traceai_vllm.evals.pipeline.selection import Selection
from traceai_vllm.evals.slices import SliceSettings, slices_of
from traceai_vllm.guard import Guard
from traceai_vllm.telemetry import semconv
from traceai_vllm.telemetry.handover import ending
from traceai_vllm.telemetry.tags import given_in
from traceai_vllm.version import __version__

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from opentelemetry._logs import LoggerProvider
    from opentelemetry.context import Context
    from opentelemetry.metrics import MeterProvider
    from opentelemetry.sdk.trace import ReadableSpan, Span

    from traceai_vllm.evals.base import Evaluator
    from traceai_vllm.evals.pipeline.runner import Outcome
    from traceai_vllm.record import RequestRecord

_log = logging.getLogger("traceai_vllm")
_TAKE = Guard("taking a request for evaluation")
_SCORE = Guard("the evaluation of a request")
_SLICE = Guard("the slices of a request")
_REPORT = Guard("reporting an evaluation")
_FORWARD = Guard("a span processor behind the evaluators")

_REMEMBERED = 10_000
_SCOPE = "traceai_vllm.evals"
_EVALUATED_OPERATIONS = frozenset({"chat", "text_completion"})


class _Item:
    """A span on its way; whoever takes it first sends it on, so it is sent once."""

    __slots__ = ("_lock", "_taken", "given", "record", "span")

    def __init__(self, span: ReadableSpan, record: RequestRecord | None, given: Mapping[str, Any]) -> None:
        self.span = span
        self.record = record
        self.given = given
        self._lock = threading.Lock()
        self._taken = False

    def take(self) -> bool:
        with self._lock:
            taken, self._taken = self._taken, True
        return not taken


class EvaluatorSpanProcessor(SpanProcessor):
    """Evaluates requests off their path, and passes their spans on with the scores.

    Spans of requests wait in a bounded queue for worker threads; all other spans are passed on at once. Every span is
    passed on once: also when the queue is full, when an evaluator fails or hangs, and at shutdown; it then carries
    ``traceai.evaluation.status`` and no score.

    Args:
        *processors: the processors that export, e.g. ``BatchSpanProcessor(OTLPSpanExporter())``; they are shut down
            with this one.
        evaluators: anything with a name and ``evaluate``.
        selection: which requests are evaluated; all when None.
        slices: the thresholds of cohort slices; the defaults when None. Evaluated requests get their slices with their
            scores, as ``traceai.slices``.
        workers: how many requests are evaluated at a time.
        processes: evaluate in this many processes of their own (extra ``evals``), so that scoring takes neither the GIL
            nor the priority of a server; 0: in threads of this process.
        queue_size: how many spans may wait.
        timeout_s: how long one evaluation may take, in seconds; longer for an evaluator with a longer ``timeout_s``.
        shutdown_timeout_s: how long :meth:`shutdown` waits for evaluations, in seconds.
        explain: put explanations on spans and events. They quote the answer: leave it off where content is not to be
            exported.
        meter_provider: where measurements go; the global provider when None.
        logger_provider: where ``gen_ai.evaluation.result`` events go; the global provider when None.

    Raises:
        TypeError: what stands among the evaluators is none, or cannot be pickled for another process.
        ValueError: no processor, no evaluator, or a number below 1 (``processes``: below 0).
        MissingExtra: ``processes`` is given, and loky is not installed.
    """

    def __init__(
        self,
        *processors: SpanProcessor,
        evaluators: Sequence[Evaluator],
        selection: Selection | None = None,
        slices: SliceSettings | None = None,
        workers: int = 1,
        processes: int = 0,
        queue_size: int = 2048,
        timeout_s: float = 5.0,
        shutdown_timeout_s: float = 30.0,
        explain: bool = False,
        meter_provider: MeterProvider | None = None,
        logger_provider: LoggerProvider | None = None,
    ) -> None:
        if not processors or not evaluators:
            raise ValueError("EvaluatorSpanProcessor needs a processor that exports, and an evaluator")
        if workers < 1 or queue_size < 1 or processes < 0:
            raise ValueError("EvaluatorSpanProcessor: workers and queue_size are at least 1, processes at least 0")
        self._processors = processors
        self._runner = (
            ProcessRunner(evaluators, processes=processes, timeout_s=timeout_s)
            if processes
            else Runner(evaluators, timeout_s=timeout_s)
        )
        self._selection = selection or Selection()
        self._slices = slices or SliceSettings()
        self._workers = workers
        self._queue_size = queue_size
        self._shutdown_timeout_s = shutdown_timeout_s
        self._explain = explain
        self._reporter = reporting.Reporter(
            get_logger(_SCOPE, __version__, logger_provider),
            metrics.get_meter(_SCOPE, __version__, meter_provider),
            explain=explain,
        )
        self._start()
        this = weakref.ref(self)
        os.register_at_fork(after_in_child=lambda: _restart(this))

    def _start(self) -> None:
        # Also after a fork: threads do not survive it, and what waits belongs to the parent.
        self._queue: queue.SimpleQueue[_Item | None] = queue.SimpleQueue()
        self._waiting: set[_Item] = set()
        self._changed = threading.Condition()
        self._open = True
        self._given: OrderedDict[int, Mapping[str, Any]] = OrderedDict()
        for number in range(self._workers):
            threading.Thread(target=self._work, name=f"traceai-evaluator-{number}", daemon=True).start()

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        """Pass the start of a span on, and remember what ``tags(...)`` gives to its evaluators."""
        with _TAKE:
            given = given_in(get_current() if parent_context is None else parent_context)
            if given:
                self._given[span.get_span_context().span_id] = given
                if len(self._given) > _REMEMBERED:  # of spans that never end
                    self._given.popitem(last=False)
        for processor in self._processors:
            with _FORWARD:
                processor.on_start(span, parent_context)

    def on_end(self, span: ReadableSpan) -> None:
        """Queue the span of a request for evaluation, or pass it on."""
        status = None
        with _TAKE:
            record = ending.get()
            given = self._given.pop(_span_id(span), {}) if self._given else {}
            if self._is_evaluated(span, record):
                status = self._enqueue(_Item(span, record, given))
                if status is OK:
                    return
        if status is None:
            self._forward(span)
        else:
            self._forward_unscored(span, status)

    def _is_evaluated(self, span: ReadableSpan, record: RequestRecord | None) -> bool:
        attributes = span.attributes or {}
        if attributes.get(semconv.OPERATION_NAME) not in _EVALUATED_OPERATIONS:
            return False
        if record is None and semconv.OUTPUT_MESSAGES not in attributes:
            return False
        context = span.get_span_context()
        return context is not None and self._selection.takes(context.trace_id, attributes)

    def _enqueue(self, item: _Item) -> str:
        with self._changed:
            if not self._open:
                return reporting.SHUTDOWN
            if len(self._waiting) >= self._queue_size:
                return reporting.QUEUE_FULL
            self._waiting.add(item)
        self._queue.put(item)
        return OK

    def _work(self) -> None:
        waiting = self._queue
        while True:
            item = waiting.get()
            if item is None:
                return
            outcomes: list[Outcome] | None = None
            said: Said = NOTHING
            attributes = item.span.attributes or {}
            slices: tuple[str, ...] = ()
            with _SLICE:
                said = _said(item)
                slices = self._runner.call(slices_of, sliced_request(said, attributes), self._slices)
            with _SCORE:
                outcomes = self._runner.run(evaluator_inputs(said, attributes))
            self._finish(item, outcomes, slices)

    def _finish(self, item: _Item, outcomes: list[Outcome] | None, slices: tuple[str, ...]) -> None:
        if not item.take():
            return
        added: dict[str, Any] = {semconv.SLICES: slices} if slices else {}
        if outcomes is None:
            self._forward_unscored(item.span, ERROR, added)
        else:
            self._forward_scored(item.span, outcomes, added)
        with self._changed:
            self._waiting.discard(item)
            self._changed.notify_all()

    def _forward_scored(self, span: ReadableSpan, outcomes: list[Outcome], added: dict[str, Any]) -> None:
        enriched = span
        with _SCORE:
            if outcomes:  # none: this request has no inputs for any evaluator
                added = {**added, **reporting.span_attributes(outcomes, explain=self._explain)}
            if added:
                enriched = reporting.with_attributes(span, added)
        self._forward(enriched)
        with _REPORT:
            if outcomes:
                self._reporter.report(span, outcomes, reporting.status_of(outcomes))

    def _forward_unscored(self, span: ReadableSpan, status: str, added: dict[str, Any] | None = None) -> None:
        marked = span
        with _SCORE:
            marked = reporting.with_attributes(span, {**(added or {}), semconv.EVALUATION_STATUS: status})
        self._forward(marked)
        with _REPORT:
            self._reporter.report(span, (), status)

    def _forward(self, span: ReadableSpan) -> None:
        for processor in self._processors:
            with _FORWARD:
                processor.on_end(span)

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Wait for the evaluation of all spans that have ended, then flush the processors behind.

        Returns:
            Whether both were done within ``timeout_millis``.
        """
        deadline = time.monotonic() + timeout_millis / 1000
        with self._changed:
            before = set(self._waiting)
            done = self._changed.wait_for(lambda: before.isdisjoint(self._waiting), timeout_millis / 1000)
        for processor in self._processors:
            left = max(0, int((deadline - time.monotonic()) * 1000))
            flushed = False
            with _FORWARD:
                flushed = processor.force_flush(left) is not False
            done = flushed and done
        return done

    def close(self) -> None:
        """Evaluate what waits, as far as there is time, and pass it all on; spans that end later are not evaluated."""
        with self._changed:
            if not self._open:
                return
            self._open = False
            self._changed.wait_for(lambda: not self._waiting, self._shutdown_timeout_s)
            left = list(self._waiting)
        for _ in range(self._workers):
            self._queue.put(None)
        for item in left:
            if item.take():
                self._forward_unscored(item.span, reporting.SHUTDOWN)
                with self._changed:
                    self._waiting.discard(item)
        if isinstance(self._runner, ProcessRunner):
            self._runner.close()
        if left:
            _log.warning("%d requests were exported without scores: there was no time to evaluate them.", len(left))

    def shutdown(self) -> None:
        """Close, and shut the processors behind down."""
        self.close()
        for processor in self._processors:
            with _FORWARD:
                processor.shutdown()


def _said(item: _Item) -> Said:
    if item.record is not None and item.record.content is not None:
        return said_in_record(item.record)
    said = said_in_attributes(item.span.attributes or {})
    return with_given(said, item.given) if item.given else said


def _span_id(span: ReadableSpan) -> int:
    context = span.get_span_context()
    return 0 if context is None else context.span_id


def _restart(this: weakref.ref[EvaluatorSpanProcessor]) -> None:
    processor = this()
    if processor is not None:
        processor._runner.renew()
        processor._start()
