"""An engine core without a model: vLLM's real frontend runs on it, and its own cost is small and always the same.

The model makes most of a request's time and nearly all of the noise. What an instrumentation adds, it adds in the frontend
(``LLM``, ``LLMEngine``, ``OutputProcessor``, detokenizer), which is real here; so the addition can be measured to a few
microseconds. Throughput is measured with the real core, see ``offline.py``.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

_TOKENS = 2_000


class StubCore:
    """Takes the place of ``LLMEngine.engine_core``: each step gives each running request one token.

    Args:
        real: the engine core in whose place it stands; answers everything that is not about requests.
        in_flight: how many requests run at a time; the others wait.
    """

    def __init__(self, real: Any, in_flight: int) -> None:
        from vllm.v1 import engine
        from vllm.v1.metrics.stats import PrefillStats, SchedulerStats

        self._real, self._vllm, self._in_flight = real, engine, in_flight
        self._prefill = PrefillStats(num_prompt_tokens=32, num_computed_tokens=32)
        self._waiting: list[tuple[Any, Any]] = []
        self._running: dict[str, list[Any]] = {}
        self._stats = SchedulerStats(num_running_reqs=in_flight)
        self.log_stats = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    def add_request(self, request: Any) -> None:
        """Queue a request."""
        kind = self._vllm.EngineCoreEventType.QUEUED
        queued = self._vllm.EngineCoreEvent.new_event(kind) if self.log_stats else None
        self._waiting.append((request, queued))

    def abort_requests(self, request_ids: list[str]) -> None:
        """Drop requests; the benchmark aborts none."""

    def get_output(self) -> Any:
        """Give each running request its next token."""
        outputs = self._admit()
        for request_id, state in list(self._running.items()):
            outputs.append(self._next(request_id, state))
        stats = self._stats if self.log_stats else None
        return self._vllm.EngineCoreOutputs(outputs=outputs, scheduler_stats=stats)

    def _admit(self) -> list[Any]:
        first: list[Any] = []
        while self._waiting and len(self._running) + len(first) < self._in_flight:
            request, queued = self._waiting.pop(0)
            output = self._next(request.request_id, state := [request.sampling_params.max_tokens, 0])
            output.prefill_stats = self._prefill
            if queued is not None:
                kind = self._vllm.EngineCoreEventType.SCHEDULED
                output.events = [queued, self._vllm.EngineCoreEvent.new_event(kind)]
            first.append((request.request_id, state, output))
        self._running.update({name: state for name, state, output in first if not output.finished})
        self._fresh = {name for name, _, _ in first}
        return [output for _, _, output in first]

    def _next(self, request_id: str, state: list[Any]) -> Any:
        raise NotImplementedError


@contextmanager
def stubbed(llm: Any, in_flight: int) -> Iterator[None]:
    """Run an offline ``LLM`` on a stub core."""
    raise NotImplementedError
    yield
