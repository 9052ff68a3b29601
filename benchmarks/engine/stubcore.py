"""An engine core without a model: vLLM's real frontend runs on it, and its own cost is small and always the same.

The model makes most of a request's time and nearly all of the noise. What an instrumentation adds, it adds in the
frontend (``LLM``, ``LLMEngine``, ``OutputProcessor``, detokenizer), which is real here; so the addition can be measured
to a few microseconds. Throughput is measured with the real core, see ``offline.py``.
"""

from __future__ import annotations

from collections import deque
from typing import Any


class _Running:
    __slots__ = ("events", "left", "request_id")

    def __init__(self, request: Any, queued: Any) -> None:
        self.request_id = request.request_id
        self.left = request.sampling_params.max_tokens
        self.events = None if queued is None else [queued]


class StubCore:
    """Takes the place of ``LLMEngine.engine_core``: each step gives each running request one token.

    Args:
        real: the engine core in whose place it stands; it answers everything that is not about requests.
        log_stats: whether to report events and scheduler statistics, as the real core does with statistics on.
    """

    def __init__(self, real: Any, *, log_stats: bool) -> None:
        from vllm.v1 import engine
        from vllm.v1.metrics.stats import PrefillStats, SchedulerStats

        self._real, self._vllm = real, engine
        self._prefill = PrefillStats(num_prompt_tokens=32, num_computed_tokens=32)
        self._stats = SchedulerStats(num_running_reqs=1) if log_stats else None
        self._waiting: deque[_Running] = deque()
        self._running: list[_Running] = []
        self.in_flight = 64

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    def add_request(self, request: Any) -> None:
        """Queue a request."""
        self._waiting.append(_Running(request, self._event("QUEUED") if self._stats is not None else None))

    def abort_requests(self, request_ids: list[str]) -> None:
        """Do nothing: no request of the benchmark is aborted."""

    def get_output(self) -> Any:
        """Give each running request its next token."""
        outputs = [self._next(running) for running in self._running]
        while self._waiting and len(outputs) < self.in_flight:
            self._running.append(running := self._waiting.popleft())
            outputs.append(self._first(running))
        self._running = [running for running in self._running if running.left]
        return self._vllm.EngineCoreOutputs(outputs=outputs, scheduler_stats=self._stats)

    def _first(self, running: _Running) -> Any:
        output = self._next(running)
        output.prefill_stats = self._prefill
        if running.events is not None:
            output.events = [*running.events, self._event("SCHEDULED")]
        return output

    def _next(self, running: _Running) -> Any:
        running.left -= 1
        output = self._vllm.EngineCoreOutput(running.request_id, [1_000 + 37 * running.left % 2_000])
        if not running.left:
            output.finish_reason = self._vllm.FinishReason.LENGTH
        return output

    def _event(self, kind: str) -> Any:
        return self._vllm.EngineCoreEvent.new_event(self._vllm.EngineCoreEventType[kind])
