"""A gateway for tests: on a real socket, in a thread of this process, with its spans in memory."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

import uvicorn
import uvloop
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter, SimpleLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_ON, Sampler

from traceai_vllm.gateway import GatewayConfig, create_app
from traceai_vllm.gateway.protocol import uvicorn_config

DEADLINE_S = 20.0


class GatewayUnderTest:
    """Serves a configuration (or a file) from entry to exit."""

    def __init__(self, config: Any, sampler: Sampler = ALWAYS_ON) -> None:
        self._exporter = InMemorySpanExporter()
        self.provider = provider = TracerProvider(sampler=sampler, shutdown_on_exit=False)
        provider.add_span_processor(SimpleSpanProcessor(self._exporter))
        given = GatewayConfig.model_validate(config) if isinstance(config, dict) else config
        self._reader = InMemoryMetricReader()
        meters = MeterProvider(metric_readers=[self._reader], shutdown_on_exit=False)
        self._logs = InMemoryLogRecordExporter()
        loggers = LoggerProvider(shutdown_on_exit=False)
        loggers.add_log_record_processor(SimpleLogRecordProcessor(self._logs))
        self.app = create_app(given, tracer_provider=provider, meter_provider=meters, logger_provider=loggers)
        self.runtime = self.app.state.runtime
        self._socket = socket.socket()
        self._socket.bind(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        self._server = uvicorn.Server(uvicorn_config(self.app, self.runtime.config.limits, log_level="critical"))
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        async def serve() -> None:
            self._loop = asyncio.get_running_loop()
            await self._server.serve(sockets=[self._socket])

        uvloop.run(serve())

    def __enter__(self) -> GatewayUnderTest:
        self._thread.start()
        wait_until(lambda: self._server.started, "the gateway starts")
        return self

    def __exit__(self, *args: object) -> None:
        self._server.should_exit = True
        self._thread.join(DEADLINE_S)
        self._socket.close()

    def stop_now(self) -> None:
        """End the answers that are under way, without waiting for them, as a program does at last; then stop."""
        self._server.config.timeout_graceful_shutdown = 0
        self._server.should_exit = True
        self._thread.join(DEADLINE_S)

    @property
    def under_way(self) -> int:
        """How many requests are under way."""
        return len(self._server.server_state.tasks)

    @property
    def connections(self) -> int:
        """How many users are connected."""
        return len(self._server.server_state.connections)

    def spans(self, at_least: int = 0) -> list[ReadableSpan]:
        """Return the spans that have ended, after waiting for so many."""
        wait_until(lambda: len(self._exporter.get_finished_spans()) >= at_least, f"{at_least} spans")
        return list(self._exporter.get_finished_spans())

    def measured(self, name: str) -> list[Any]:
        """Return the points of a metric."""
        data = self._reader.get_metrics_data()
        found = [m for r in data.resource_metrics for s in r.scope_metrics for m in s.metrics if m.name == name]
        return [point for metric in found for point in metric.data.data_points]

    def events(self) -> list[Any]:
        """Return the events that were emitted."""
        return [data.log_record for data in self._logs.get_finished_logs()]

    def clear(self) -> None:
        self._exporter.clear()

    def balance(self, target: str = "candidate") -> Any:
        """Return the books of a target, of all routes together there must be one."""
        [balance] = [b for (_, name), b in self.runtime.books.balances().items() if name == target]
        return balance

    def settled(self) -> None:
        """Wait until nothing is in flight; on the way the books must add up."""

        def nothing_in_flight() -> bool:
            balances = self._in_loop(self.runtime.books.balances)
            assert all(balance.difference == 0 for balance in balances.values()), balances
            return all(balance.in_flight == 0 for balance in balances.values())

        wait_until(nothing_in_flight, "all pairs are settled")

    def _in_loop(self, read: Callable[[], Any]) -> Any:
        async def call() -> Any:
            return read()

        return asyncio.run_coroutine_threadsafe(call(), self._loop).result(DEADLINE_S)


def wait_until(condition: Callable[[], bool], what: str, deadline_s: float = DEADLINE_S) -> None:
    """Wait until a condition holds; fail after the deadline."""
    end = time.monotonic() + deadline_s
    while not condition():
        assert time.monotonic() < end, f"not within {deadline_s} s: {what}"
        time.sleep(0.01)
