"""Part ``serve``: real ``vllm serve`` processes, each with its own instrumentation, loaded in turns (targets A1, A5).

All servers run side by side and only one of them has work at a time; an idle one costs nothing. CPU is that of the API
server's process, where all of our work is done; the engine core is a process of its own. What is exported really goes
over OTLP, to a process for each server that counts it and forgets it, and a measurement ends when all of it is there.
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
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp
import psutil

from benchmarks.engine.rounds import Arm, run_rounds
from benchmarks.engine.setting import REPOSITORY, one_layer_args

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

IN_FLIGHT = 64
WARM_REQUESTS = 16
TOKENS = 16
_START_TIMEOUT_S, _EXPORT_TIMEOUT_S = 300, 30
_EXPORT_DELAY_MS = 200
_KEEP_ALIVE_S = 2
_CONTENT = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"
_OURS = {"TRACEAI_VLLM_ENABLED": "1"}
_NO_METRICS = {"OTEL_METRICS_EXPORTER": "none"}


@dataclass(frozen=True, slots=True)
class Setup:
    """How the server of an arm is started.

    Attributes:
        environment: its variables, beside those that all servers have.
        flags: its command-line flags; ``{endpoint}`` is where its spans go.
        spans: how many spans each request must leave.
        program: what is started, with vLLM's arguments.
    """

    environment: dict[str, str]
    flags: tuple[str, ...] = ()
    spans: int = 0
    program: tuple[str, ...] = (str(Path(sys.executable).parent / "vllm"),)


# With metrics is what a user gets who sets one variable; the other arms have spans alone, as vLLM's own tracing.
_SETUPS = {
    "bare": Setup({}),
    "native": Setup({}, ("--otlp-traces-endpoint", "{endpoint}"), spans=1),
    "http_span": Setup({}, spans=1, program=(sys.executable, "-m", "benchmarks.engine.http_span")),
    "ours": Setup({**_OURS, **_NO_METRICS}, spans=2),
    "ours_metrics": Setup(_OURS, spans=2),
    "ours_content": Setup({**_OURS, **_NO_METRICS, _CONTENT: "SPAN_ONLY"}, spans=2),
}


@dataclass(frozen=True, slots=True)
class Load:
    """What clients ask.

    Attributes:
        prompt: builds the text of a request from its number.
        requests: how many are asked in one measurement.
    """

    prompt: Callable[[int], str]
    requests: int


_SHORT = Load(lambda number: f"{number}. " + "Which plan covers dental claims, and from which day on? " * 4, 256)
_SENTENCE = (
    "The waiting period of policy {0} is 30 days; claims above 1,200 euros (section 4.2) need a receipt, "
    "and whoever is insured since 2019-05-01 does not have to wait. "
)
_LONG = Load((_SENTENCE * 17).format, 64)  # 936 to 953 tokens


class Receiver:
    """The process that takes a server's spans."""

    def __init__(self) -> None:
        command = [sys.executable, "-m", "benchmarks.engine.receiver"]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.endpoint = f"http://127.0.0.1:{self._answer()}"

    def count(self) -> int:
        """Return how many spans have come so far."""
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        return self._answer()

    def close(self) -> None:
        """End the process."""
        self._process.terminate()
        self._process.wait()

    def _answer(self) -> int:
        assert self._process.stdout is not None
        return int(self._process.stdout.readline())


class Server:
    """One ``vllm serve`` of the one-layer model, and the receiver of its spans.

    Args:
        name: the arm.
        directory: where its log goes.
        session: what its clients ask with.
    """

    def __init__(self, name: str, directory: Path, session: aiohttp.ClientSession) -> None:
        self.setup = _SETUPS[name]
        self._session = session
        self._expected = 0
        self.receiver = Receiver()
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self._url = f"http://127.0.0.1:{port}"
        self._log = directory / f"{name}.log"
        command = [*self.setup.program, "serve", *_arguments(), "--host", "127.0.0.1"]
        command += ["--port", str(port), *(flag.format(endpoint=self.receiver.endpoint) for flag in self.setup.flags)]
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("OTEL_", "TRACEAI_VLLM_"))}
        with self._log.open("wb") as output:
            self._process = subprocess.Popen(
                command,
                cwd=REPOSITORY,
                env={
                    **kept,
                    "VLLM_ENABLE_V1_MULTIPROCESSING": "1",
                    "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc",
                    "OTEL_EXPORTER_OTLP_TRACES_INSECURE": "true",
                    "OTEL_EXPORTER_OTLP_ENDPOINT": self.receiver.endpoint,
                    "OTEL_LOGS_EXPORTER": "none",
                    # What is left of a measurement's spans is exported soon after it, and counted with it.
                    "OTEL_BSP_SCHEDULE_DELAY": str(_EXPORT_DELAY_MS),
                    **self.setup.environment,
                },
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def close(self) -> None:
        """End the server, its engine and its receiver."""
        processes = [self._process.pid, *(child.pid for child in self._children())]
        for pid in processes:
            with contextlib.suppress(psutil.Error):
                psutil.Process(pid).terminate()
        psutil.wait_procs([psutil.Process(pid) for pid in processes if psutil.pid_exists(pid)], timeout=30)
        self.receiver.close()

    def _children(self) -> list[psutil.Process]:
        try:
            return psutil.Process(self._process.pid).children(recursive=True)
        except psutil.Error:
            return []

    def cpu_s(self) -> float:
        """Return the CPU that the API server's process has used, in seconds.

        To the nanosecond by thread where Linux says it: the process's own times have steps of 10 ms.
        """
        tasks = Path(f"/proc/{self._process.pid}/task")
        try:
            return sum(int(task.joinpath("schedstat").read_text().split()[0]) for task in tasks.iterdir()) / 1e9
        except OSError:
            times = psutil.Process(self._process.pid).cpu_times()
            return times.user + times.system

    async def ready(self) -> None:
        """Wait for the first health check that is answered."""
        deadline = time.monotonic() + _START_TIMEOUT_S
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                raise RuntimeError(f"the server ended:\n{self._log.read_text(errors='replace')[-3000:]}")
            with contextlib.suppress(aiohttp.ClientError, asyncio.TimeoutError):
                async with self._session.get(f"{self._url}/health") as response:
                    if response.status == 200:
                        return
            await asyncio.sleep(0.5)
        raise RuntimeError(f"the server did not start in {_START_TIMEOUT_S} s")

    async def serve(self, load: Load, requests: int) -> int:
        """Keep ``IN_FLIGHT`` chat requests running until all are answered; return how many they were."""
        waiting = iter(range(requests))

        async def client() -> None:
            for number in waiting:
                body = {
                    "model": "one-layer",
                    "messages": [{"role": "user", "content": load.prompt(number)}],
                    "max_tokens": TOKENS,
                    "ignore_eos": True,
                    "temperature": 0,
                }
                async with self._session.post(f"{self._url}/v1/chat/completions", json=body) as response:
                    answer = await response.json()
                    if response.status != 200 or answer["usage"]["completion_tokens"] != TOKENS:
                        raise RuntimeError(f"not the answer that was asked for: {answer}")

        await asyncio.gather(*(client() for _ in range(min(IN_FLIGHT, requests))))
        self._expected += requests * self.setup.spans
        return requests

    def begin(self) -> None:
        """Begin to count, after the spans that vLLM's own tracing makes of the start."""
        self._expected = self.receiver.count()

    def wait_for_spans(self) -> None:
        """Wait until the receiver has every span of what was served so far.

        Servers without spans are waited for as well, so that all have idled for as long.
        """
        time.sleep(1.25 * _EXPORT_DELAY_MS / 1e3)
        deadline = time.monotonic() + _EXPORT_TIMEOUT_S
        while self.receiver.count() < self._expected:
            if time.monotonic() > deadline:
                raise RuntimeError(f"{self.receiver.count()} spans arrived instead of {self._expected}")
            time.sleep(0.02)


def run(rounds: int) -> dict[str, Any]:
    """Measure, and return the samples."""
    loop = asyncio.new_event_loop()
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        session = loop.run_until_complete(_session())
        stack.callback(lambda: loop.run_until_complete(session.close()))
        servers: dict[str, Server] = {}
        for name in _SETUPS:  # one after the other: side by side on a few cores, none of them would start in time
            servers[name] = Server(name, directory, session)
            stack.callback(servers[name].close)
            loop.run_until_complete(servers[name].ready())
        for server in servers.values():
            server.begin()
        short = _arms(servers, ("bare", "ours", "ours_metrics", "ours_content", "native", "http_span"), _SHORT, loop)
        long = _arms(servers, ("bare", "ours", "ours_content", "native"), _LONG, loop)
        groups = {
            "serve": run_rounds("vllm serve, 64 in flight", short, rounds),
            "serve_long": run_rounds("vllm serve, prompts of 1,000 tokens", long, rounds),
        }
    return {"facts": {"long_prompt_characters": len(_LONG.prompt(1))}, "groups": groups}


def _arms(servers: dict[str, Server], names: Sequence[str], load: Load, loop: asyncio.AbstractEventLoop) -> list[Arm]:
    def arm(name: str, server: Server) -> Arm:
        def work(requests: int) -> int:
            return loop.run_until_complete(server.serve(load, requests))

        return Arm(
            name,
            partial(work, load.requests),
            partial(work, WARM_REQUESTS),
            flush=server.wait_for_spans,
            spans=server.receiver.count,
            spans_per_request=server.setup.spans,
            cpu=server.cpu_s,
        )

    arms = [arm(name, servers[name]) for name in names]
    arms.insert(1, arm("bare_again", servers["bare"]))
    return arms


async def _session() -> aiohttp.ClientSession:
    # The server lets go of an idle connection after 5 s: a request that is on its way then is lost.
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=_KEEP_ALIVE_S),
        timeout=aiohttp.ClientTimeout(total=_START_TIMEOUT_S),
    )


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
