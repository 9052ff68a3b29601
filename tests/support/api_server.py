"""A real `vllm serve` (or an application of one's own) in processes of its own, and the receiver of what it exports.

with ApiServer.vllm(model, TRACEAI_VLLM_ENABLED="1") as server:
    spans = server.receiver.spans(at_least=1)
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.support.otlp_receiver import OtlpReceiver

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
        clean = {name: value for name, value in os.environ.items() if not name.startswith(("OTEL_", "TRACEAI_"))}
        with OtlpReceiver() as receiver, tempfile.TemporaryDirectory() as directory:
            log = Path(directory) / "server.log"
            with log.open("wb") as output:
                process = subprocess.Popen(
                    [*command, "--host", "127.0.0.1", "--port", str(port)],
                    env={
                        **clean,
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
