"""Part ``serve``: real ``vllm serve`` processes, each with its own instrumentation, loaded in turns (targets A1, A5).

All servers run side by side and only one of them has work at a time; an idle one costs nothing. CPU is that of the API
server's process, where all of our work is done; the engine core is a process of its own. What is exported really goes
over OTLP, to a process that forgets it.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
import psutil

from benchmarks.engine.rounds import Arm, run_rounds
from benchmarks.engine.setting import REPOSITORY, one_layer_args

IN_FLIGHT = 64
REQUESTS = 256
TOKENS = 16
WARM_REQUESTS = 32
_START_TIMEOUT_S = 300
_PROMPT = "Which plan covers dental claims, and from which day on? " * 4
_CONTENT = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"

# Each arm's command-line flags and environment, given the receiver's address.
_ARMS: dict[str, tuple[tuple[str, ...], dict[str, str]]] = {
    "bare": ((), {}),
    "ours": ((), {"TRACEAI_VLLM_ENABLED": "1"}),
    "ours_content": ((), {"TRACEAI_VLLM_ENABLED": "1", _CONTENT: "SPAN_ONLY"}),
    "native": (("--otlp-traces-endpoint", "{endpoint}"), {}),
}


class Server:
    """One ``vllm serve`` of the one-layer model.

    Args:
        name: the arm.
        endpoint: where its spans go, OTLP over gRPC.
    """

    def __init__(self, name: str, endpoint: str, directory: Path) -> None:
        flags, environment = _ARMS[name]
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self._url = f"http://127.0.0.1:{port}"
        self._log = directory / f"{name}.log"
        command = [str(Path(sys.executable).parent / "vllm"), "serve", *_arguments(), "--host", "127.0.0.1"]
        command += ["--port", str(port), *(flag.format(endpoint=endpoint) for flag in flags)]
        with self._log.open("wb") as output:
            self._process = subprocess.Popen(
                command,
                cwd=REPOSITORY,
                env={
                    **os.environ,
                    "VLLM_ENABLE_V1_MULTIPROCESSING": "1",
                    "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc",
                    "OTEL_EXPORTER_OTLP_TRACES_INSECURE": "true",
                    "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint,
                    # The receiver takes spans alone; measurements are read by nobody in any arm.
                    "OTEL_METRICS_EXPORTER": "none",
                    "OTEL_LOGS_EXPORTER": "none",
                    **environment,
                },
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def close(self) -> None:
        """End the server and its engine."""
        processes = [self._process.pid, *(child.pid for child in self._children())]
        for pid in processes:
            with contextlib.suppress(psutil.Error):
                psutil.Process(pid).terminate()
        psutil.wait_procs([psutil.Process(pid) for pid in processes if psutil.pid_exists(pid)], timeout=30)

    def _children(self) -> list[psutil.Process]:
        try:
            return psutil.Process(self._process.pid).children(recursive=True)
        except psutil.Error:
            return []

    def cpu_s(self) -> float:
        """Return the CPU that the API server's process has used, in seconds."""
        times = psutil.Process(self._process.pid).cpu_times()
        return times.user + times.system

    async def ready(self, session: aiohttp.ClientSession) -> None:
        """Wait for the first health check that is answered."""
        deadline = time.monotonic() + _START_TIMEOUT_S
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                raise RuntimeError(f"the server ended:\n{self._log.read_text(errors='replace')[-3000:]}")
            with contextlib.suppress(aiohttp.ClientError, asyncio.TimeoutError):
                async with session.get(f"{self._url}/health") as response:
                    if response.status == 200:
                        return
            await asyncio.sleep(0.5)
        raise RuntimeError(f"the server did not start in {_START_TIMEOUT_S} s")

    async def serve(self, session: aiohttp.ClientSession, requests: int) -> int:
        """Keep ``IN_FLIGHT`` chat requests running until all are answered; return how many they were."""
        waiting = iter(range(requests))

        async def client() -> None:
            for number in waiting:
                body = {
                    "model": "one-layer",
                    "messages": [{"role": "user", "content": f"{number}. {_PROMPT}"}],
                    "max_tokens": TOKENS,
                    "ignore_eos": True,
                    "temperature": 0,
                }
                async with session.post(f"{self._url}/v1/chat/completions", json=body) as response:
                    answer = await response.json()
                    if answer["usage"]["completion_tokens"] != TOKENS:
                        raise RuntimeError(f"not the answer that was asked for: {answer}")

        await asyncio.gather(*(client() for _ in range(min(IN_FLIGHT, requests))))
        return requests


def run(rounds: int) -> dict[str, Any]:
    """Measure, and return the samples."""
    loop = asyncio.new_event_loop()
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        endpoint = _receiver(stack)
        session = loop.run_until_complete(_session())
        stack.callback(lambda: loop.run_until_complete(session.close()))
        servers = {}
        for name in _ARMS:  # one after the other: side by side on a few cores, none of them would start in time
            servers[name] = Server(name, endpoint, directory)
            stack.callback(servers[name].close)
            loop.run_until_complete(servers[name].ready(session))

        def arm(name: str, server: Server) -> Arm:
            def work(requests: int) -> int:
                return loop.run_until_complete(server.serve(session, requests))

            return Arm(name, partial(work, REQUESTS), partial(work, WARM_REQUESTS), cpu=server.cpu_s)

        arms = [arm(name, server) for name, server in servers.items()]
        arms.insert(1, arm("bare_again", servers["bare"]))
        return {"facts": {}, "groups": {"serve": run_rounds("vllm serve, 64 in flight", arms, rounds)}}


async def _session() -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0), timeout=aiohttp.ClientTimeout(total=_START_TIMEOUT_S)
    )


def _receiver(stack: ExitStack) -> str:
    receiver = stack.enter_context(
        subprocess.Popen(
            [sys.executable, "-m", "benchmarks.engine.receiver"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
    )
    assert receiver.stdout is not None
    return f"http://127.0.0.1:{receiver.stdout.readline().strip()}"


def _arguments() -> list[str]:
    given = one_layer_args()
    arguments = [str(given.pop("model")), "--served-model-name", "one-layer"]
    arguments += ["--hf-overrides", json.dumps(given.pop("hf_overrides"))]
    for name, value in given.items():
        flag = name.replace("_", "-")
        if isinstance(value, bool):
            arguments.append(f"--{flag}" if value else f"--no-{flag}")
        else:
            arguments += [f"--{flag}", str(value)]
    return arguments
