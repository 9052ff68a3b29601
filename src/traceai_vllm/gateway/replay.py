"""Sends recorded requests to a candidate, and writes both answers of each to a store as a pair.

No gateway and no mirror is needed: the baseline's answers are those that were recorded.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from opentelemetry.trace import SpanKind

from traceai_vllm.content import ContentOptions
from traceai_vllm.gateway import books, names
from traceai_vllm.gateway.body import Body
from traceai_vllm.gateway.budget import Budget
from traceai_vllm.gateway.call import BASELINE, Arm, Call
from traceai_vllm.gateway.client import new_session
from traceai_vllm.gateway.config import Route
from traceai_vllm.gateway.exchange import CONNECT
from traceai_vllm.gateway.recorded import NotReplayable, Recorded, recorded_in, replayed_in
from traceai_vllm.gateway.spans import Spans
from traceai_vllm.store.writer import SpanStoreExporter
from traceai_vllm.telemetry import semconv

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import aiohttp

    from traceai_vllm.gateway.config import Server

_SCOPE = "traceai_vllm.gateway"
_MAX_BYTES = 256 * 1024 * 1024
_REFUSALS = 5


@dataclass(frozen=True)
class Options:
    """How requests are replayed.

    Attributes:
        store: where they are recorded.
        into: the store that both answers are written to.
        server: the candidate.
        rate: requests per second.
        concurrency: requests under way at once.
        limit: at most so many; None: all.
    """

    store: Path
    into: Path
    server: Server
    rate: float = 2.0
    concurrency: int = 16
    limit: int | None = None


@dataclass
class Summary:
    """What became of the requests.

    Attributes:
        recorded: how many there are.
        before: how many had been replayed before.
        answered: how many the candidate answered now.
        errors: how many it did not, by error.
        left_out: how many cannot be replayed, by reason.
        stopped: whether it ended early, because the candidate does not listen.
    """

    recorded: int = 0
    before: int = 0
    answered: int = 0
    errors: Counter[str] = field(default_factory=Counter)
    left_out: Counter[str] = field(default_factory=Counter)
    stopped: bool = False


async def replay(options: Options, progress: Callable[[int, int], None]) -> Summary:
    """Replay what has not been replayed yet.

    Args:
        options: what, where to and how fast.
        progress: called with how many of how many are done.

    Raises:
        FileNotFoundError: there is no store.
    """
    requests = recorded_in(options.store)
    done, written = replayed_in(options.into), replayed_in(options.into, BASELINE)
    due = [request for request in requests if request.pair_id not in done][: options.limit]
    summary = Summary(recorded=len(requests), before=sum(request.pair_id in done for request in requests))
    provider = TracerProvider(sampler=ALWAYS_ON, shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(SpanStoreExporter(options.into), max_queue_size=65536))
    session = new_session()
    try:
        await _Replay(options, provider, session, summary, written).run(due, progress)
    finally:
        await session.close()
        provider.shutdown()
    return summary


class _Replay:
    def __init__(
        self,
        options: Options,
        provider: TracerProvider,
        session: aiohttp.ClientSession,
        summary: Summary,
        written: set[str],
    ) -> None:
        self._options = options
        self._provider = provider
        self._session = session
        self._summary = summary
        self._written = written
        self._spans = Spans(provider, trust_callers=False, content=ContentOptions())
        self._tracer = trace.get_tracer(_SCOPE, tracer_provider=provider)
        self._budget = Budget(_MAX_BYTES)
        self._refused = 0
        self._done = 0

    async def run(self, due: list[Recorded], progress: Callable[[int, int], None]) -> None:
        places = asyncio.Semaphore(self._options.concurrency)
        tasks: set[asyncio.Task[None]] = set()
        start = time.monotonic()
        progress(0, len(due))
        for number, request in enumerate(due):
            await asyncio.sleep(max(0.0, start + number / self._options.rate - time.monotonic()))
            await places.acquire()
            if self._refused >= _REFUSALS:
                self._summary.stopped = True
                break
            task = asyncio.create_task(self._one(request, places, lambda: progress(self._done, len(due))))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
        await asyncio.gather(*tasks)

    async def _one(self, request: Recorded, places: asyncio.Semaphore, step: Callable[[], None]) -> None:
        try:
            await self._ask(request)
        except NotReplayable as reason:
            self._summary.left_out[str(reason)] += 1
        finally:
            places.release()
            self._done += 1
            step()

    async def _ask(self, request: Recorded) -> None:
        body = Body(request.body(self._options.server.model))
        call = _call(request, body)
        parent = self._tracer.start_span("replay", kind=SpanKind.INTERNAL)
        call.context = trace.set_span_in_context(parent)
        arm = Arm(call, books.CANDIDATE, self._options.server, body=body, budget=self._budget)
        record = await arm.run(self._session, self._spans, None)
        failure = record.failure()
        self._refused = self._refused + 1 if record.error == CONNECT else 0
        if failure is None:
            self._summary.answered += 1
        else:
            self._summary.errors[failure] += 1
            # The next run asks again, and of two answers in a pair the first counts: until then this one is missing.
            call.pair_id = None
        outcome = books.CANDIDATE_ERROR if failure else books.PAIRED
        self._spans.end_arm(arm, {**request.judged_by, names.PAIR_OUTCOME: outcome})
        if request.pair_id not in self._written:
            self._write_baseline(request, call, arm)
        arm.release()
        parent.end()

    def _write_baseline(self, request: Recorded, call: Call, arm: Arm) -> None:
        attributes = {
            **request.attributes,
            names.PAIR_ID: request.pair_id,
            names.PAIR_ARM: BASELINE,
            names.PAIR_PROMPT_HASH: arm.body.prompt_hash(),
        }
        span = self._tracer.start_span(
            request.name, call.context, SpanKind.CLIENT, attributes, start_time=request.start_ns
        )
        span.end(request.end_ns)


def _call(request: Recorded, body: Body) -> Call:
    tags: dict[str, str] = {
        tag: str(request.attributes[tag]) for tag in semconv.NAMED_TAGS if tag in request.attributes
    }
    intent = request.attributes.get(names.INTENT)
    route = Route(name="replay", baseline="recorded", intent=None if intent is None else str(intent))
    headers = [(b"content-type", b"application/json")]
    path = request.path
    return Call(request.pair_id, "POST", path, path, headers, body, route, tags=tags, pair_id=request.pair_id)
