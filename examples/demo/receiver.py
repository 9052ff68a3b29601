"""A real OTLP receiver (rotel, an OpenTelemetry collector) on free local ports, for as long as the demo runs."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import time
from importlib import resources
from typing import IO, TYPE_CHECKING

from children import dies_with_parent

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

_SPAN_ID = re.compile(r"^    ID             : ([0-9a-f]{16})$", re.M)
_START_SECONDS = 15


class ReceiverError(Exception):
    """The receiver did not start; the message says why."""


class Receiver:
    """Runs the receiver inside a ``with`` block; it is ended when the block is left, however that happens.

    Attributes:
        endpoint: where to send OTLP over HTTP.
        log: its debug log: every span it gets, with all attributes.
    """

    def __init__(self, log: Path) -> None:
        self.log = log
        self.endpoint = ""
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Receiver:
        grpc, http = free_ports(2)
        self.endpoint = f"http://127.0.0.1:{http}"
        with self.log.open("wb") as log:
            self._process = _start(grpc, http, log)
        try:
            self._wait_until_open(http)
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def span_ids(self) -> list[str]:
        """The ids of the spans that have arrived, in order."""
        return _SPAN_ID.findall(self.log.read_text(encoding="utf-8", errors="replace"))

    def wait_for(self, count: int, seconds: float = 10) -> list[str]:
        """Give spans that are still under way the time to arrive, then return their ids."""
        end = time.monotonic() + seconds
        while len(self.span_ids()) < count and time.monotonic() < end:
            time.sleep(0.2)
        return self.span_ids()

    def _wait_until_open(self, port: int) -> None:
        assert self._process is not None
        end = time.monotonic() + _START_SECONDS
        while time.monotonic() < end and self._process.poll() is None:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
            except OSError:
                time.sleep(0.05)
            else:
                return
        raise ReceiverError(f"the OTLP receiver did not start; its log, {self.log}, says why")

    def _end(self) -> None:
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def _start(grpc: int, http: int, log: IO[bytes]) -> subprocess.Popen[bytes]:
    agent = resources.files("rotel") / "rotel-agent"
    command = [
        str(agent), "start", *_onward(),
        "--debug-log", "traces", "--debug-log-verbosity", "detailed",
        "--otlp-grpc-endpoint", f"127.0.0.1:{grpc}", "--otlp-http-endpoint", f"127.0.0.1:{http}",
    ]  # fmt: skip
    return subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=subprocess.STDOUT,
        preexec_fn=dies_with_parent,  # noqa: PLW1509 - no other thread runs here yet
    )


def _onward() -> list[str]:
    """Pass everything on to the user's own collector if the standard variable names one."""
    collector = os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT")
    if not collector:
        return ["--exporter", "blackhole"]
    protocol = "grpc" if os.environ.get("OTEL_EXPORTER_OTLP_PROTOCOL") == "grpc" else "http"
    return ["--exporter", "otlp", "--otlp-exporter-endpoint", collector, "--otlp-exporter-protocol", protocol]


def free_ports(count: int) -> list[int]:
    """Ports of 127.0.0.1 that nothing listens on."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()
