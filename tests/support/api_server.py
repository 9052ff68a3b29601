"""A real `vllm serve` (or an application of one's own) in processes of its own, and the receiver of what it exports.

with ApiServer.vllm(model, TRACEAI_VLLM_ENABLED="1") as server:
    spans = server.receiver.spans(at_least=1)
"""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.support.otlp_receiver import TIMEOUT_S, OtlpReceiver, ReceivedPoint, ReceivedSpan

START_TIMEOUT_S = 240.0
STOP_TIMEOUT_S = 60.0
BIN = Path(sys.executable).parent
SERVED_NAME = "tiny"
ENGINE_FLAGS = (
    "--served-model-name",
    SERVED_NAME,
    "--enforce-eager",
    "--max-model-len",
    "1024",
    "--max-num-seqs",
    "64",
)
# Small intervals, so that tests wait for what happens and not for a batch to fill.
_ENVIRONMENT = {
    "HF_HUB_OFFLINE": "1",
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_LOGGING_LEVEL": "INFO",
    "VLLM_NO_USAGE_STATS": "1",
    "OMP_WAIT_POLICY": "passive",
    "OTEL_BSP_SCHEDULE_DELAY": "200",
    "OTEL_METRIC_EXPORT_INTERVAL": "1000",
}


class Call:
    """A caller's span: what a client sends as `traceparent`, and what the server's spans are to be under."""

    def __init__(self) -> None:
        self.trace_id = secrets.token_hex(16)
        self.span_id = secrets.token_hex(8)

    def headers(self, **more: str) -> dict[str, str]:
        """Return the request headers: `traceparent`, and others with `_` for `-`."""
        named = {name.replace("_", "-"): value for name, value in more.items()}
        return {"traceparent": f"00-{self.trace_id}-{self.span_id}-01", **named}


class ApiServer:
    """A server that has answered its first health check.

    Attributes:
        base_url: where it listens.
        receiver: what its processes export goes there.
        log: path of what it writes.
    """

    def __init__(self, process: subprocess.Popen[bytes], port: int, receiver: OtlpReceiver, log: Path) -> None:
        self._process = process
        self.base_url = f"http://127.0.0.1:{port}"
        self.receiver = receiver
        self.log = log

    @classmethod
    @contextmanager
    def vllm(cls, model: str, *flags: str, by: tuple[str, ...] = (), **environment: str) -> Iterator[ApiServer]:
        """Run `vllm serve`, under the command ``by`` where one is given."""
        command = [*by, str(BIN / "vllm"), "serve", model, *ENGINE_FLAGS, *flags]
        with cls.command(command, **environment) as server:
            yield server

    @classmethod
    @contextmanager
    def command(cls, command: list[str], **environment: str) -> Iterator[ApiServer]:
        """Run a command with `--host` and `--port` added, until the block ends."""
        port = free_port()
        kept = {
            name: value for name, value in os.environ.items() if not name.startswith(("OTEL_", "TRACEAI_", "VLLM_"))
        }
        with OtlpReceiver() as receiver, tempfile.TemporaryDirectory() as directory:
            log = Path(directory) / "server.log"
            with log.open("wb") as output:
                process = subprocess.Popen(
                    [*command, "--host", "127.0.0.1", "--port", str(port)],
                    env={
                        **kept,
                        **_ENVIRONMENT,
                        "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.http_endpoint,
                        **environment,
                    },
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
            server = cls(process, port, receiver, log)
            try:
                server._wait_until_ready()
                yield server
            finally:
                server.stop()

    @property
    def pid(self) -> int:
        """The first process of the server."""
        return self._process.pid

    def trace(self, call: Call, at_least: int) -> list[ReceivedSpan]:
        """Return the spans of a call's trace, in the order of their start, once there are so many of them."""
        with self.receiver._received:
            self.receiver._received.wait_for(lambda: len(self._of(call.trace_id)) >= at_least, TIMEOUT_S)
        return self._of(call.trace_id)

    def _of(self, trace_id: str) -> list[ReceivedSpan]:
        spans = [span for span in self.receiver.spans() if span.trace_id == trace_id]
        return sorted(spans, key=lambda span: span.start_time_unix_nano)

    def pair(self, call: Call) -> tuple[ReceivedSpan, ReceivedSpan]:
        """Return a call's SERVER span and the engine's under it, which must be all there is."""
        spans = self.trace(call, 2)
        assert [span.scope.rpartition(".")[2] for span in spans] == ["fastapi", "traceai_vllm"], spans
        server, engine = spans
        assert (server.kind, server.parent_span_id) == ("SERVER", call.span_id)
        assert (engine.kind, engine.parent_span_id) == ("INTERNAL", server.span_id)
        return server, engine

    def measured(self, metric: str, by: str) -> dict[str, int]:
        """Return how many measurements of a histogram all processes exported so far, by an attribute's value."""
        latest: dict[tuple[Any, ...], tuple[str, int]] = {}
        for resource, point in self.receiver.points(metric):
            key = (resource["service.instance.id"], *sorted(point.attributes.items(), key=str))
            latest[key] = (str(point.attributes.get(by)), point.value)
        totals: dict[str, int] = {}
        for value, count in latest.values():
            totals[value] = totals.get(value, 0) + count
        return totals

    def total(self, metric: str, **attributes: str) -> float:
        """Return the sum of a counter over all processes, where it has these attributes."""
        latest: dict[tuple[Any, ...], float] = {}
        for resource, point in self.receiver.points(metric):
            if attributes.items() <= point.attributes.items():
                key = (resource["service.instance.id"], *sorted(point.attributes.items(), key=str))
                latest[key] = point.value
        return sum(latest.values())

    def wait_for_points(self, metric: str) -> list[tuple[dict[str, Any], ReceivedPoint]]:
        """Return the points of a metric, with their resources, once there are any."""
        with self.receiver._received:
            self.receiver._received.wait_for(lambda: self.receiver.points(metric), TIMEOUT_S)
            return self.receiver.points(metric)

    def exported(self) -> list[bytes]:
        """Return everything that was exported so far, of all three signals, as it came."""
        with self.receiver._received:
            received = [*self.receiver._traces, *self.receiver._metrics, *self.receiver._logs]
        return [request.SerializeToString() for request in received]

    def wait_for(self, condition: Callable[[list[ReceivedSpan]], Any]) -> list[ReceivedSpan]:
        """Return all spans once they fulfil a condition, or after 30 seconds."""
        with self.receiver._received:
            self.receiver._received.wait_for(lambda: condition(self.receiver.spans()), TIMEOUT_S)
        return self.receiver.spans()

    def client(self, **options: Any) -> Any:
        """Return an ``openai`` client of this server, without retries."""
        import openai

        return openai.OpenAI(base_url=self.base_url + "/v1", api_key="none", max_retries=0, **options)

    def async_client(self) -> Any:
        """Return an asynchronous ``openai`` client of this server, without retries."""
        import openai

        return openai.AsyncOpenAI(base_url=self.base_url + "/v1", api_key="none", max_retries=0)

    def stop(self) -> None:
        """End it as a service manager does, and make sure that none of its processes stays."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(STOP_TIMEOUT_S)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + START_TIMEOUT_S
        while True:
            try:
                with urllib.request.urlopen(self.base_url + "/health", timeout=5):
                    return
            except OSError:
                ended = self._process.poll() is not None
                assert not ended, self.log.read_text(errors="replace")[-6000:]
                assert time.monotonic() < deadline, self.log.read_text(errors="replace")[-6000:]
                time.sleep(0.1)


def free_port() -> int:
    """Return a port of 127.0.0.1 that nobody listens on."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])
