"""The processes of the demo: two `vllm serve`, the gateway, and probes of what this machine can run."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
from children import dies_with_parent
from probe import REFUSED
from receiver import free_ports

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import Console

HERE = Path(__file__).parent
BIN = Path(sys.executable).parent
_START_SECONDS = 600
_TELL_EVERY_SECONDS = 15
# A model this small would fill its answers with the spaces that JSON allows.
_STRUCTURED = '{"backend": "xgrammar", "disable_any_whitespace": true}'
_VLLM = {
    "HF_HUB_OFFLINE": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "TRACEAI_VLLM_ENABLED": "1",  # all that it takes: spans of ours, from a server that nobody changed
}


class DemoError(Exception):
    """The demo cannot go on; the message says what happened and where the log is."""


@dataclass(frozen=True)
class Variant:
    """One build of the model.

    Attributes:
        arm: ``baseline`` or ``candidate``.
        number_format: of its weights.
        label: the same, for people.
        model: its folder.
    """

    arm: str
    number_format: str
    label: str
    model: Path


@dataclass(frozen=True)
class Server:
    """A process that answers HTTP.

    Attributes:
        name: for people.
        url: where it answers.
        health: what it answers as soon as it can.
        process: the process.
        log: what it writes.
    """

    name: str
    url: str
    health: str
    process: subprocess.Popen[bytes]
    log: Path

    def wait_until_ready(self, console: Console) -> None:
        """Return when it answers.

        Raises:
            DemoError: it ended instead, or did not answer in time.
        """
        started = told = time.monotonic()
        while time.monotonic() < started + _START_SECONDS:
            if self.process.poll() is not None:
                raise DemoError(f"{self.name} ended while it started; the end of {self.log}:\n{tail(self.log)}")
            with suppress(httpx.HTTPError):
                if httpx.get(self.health, timeout=2).is_success:
                    console.print(f"  {self.name} is ready after {time.monotonic() - started:.0f} s")
                    return
            if time.monotonic() > told + _TELL_EVERY_SECONDS:
                told = time.monotonic()
                console.print(f"  {self.name} is starting, {told - started:.0f} s so far")
            time.sleep(0.3)
        raise DemoError(f"{self.name} was not ready after {_START_SECONDS} s; its log is {self.log}")


@contextmanager
def vllm_serve(variant: Variant, folder: Path, endpoint: str) -> Iterator[Server]:
    """Run `vllm serve` on a variant, with the engine's spans sent to ``endpoint`` and kept in ``folder``."""
    (port,) = free_ports(1)
    command = [
        str(BIN / "vllm"), "serve", str(variant.model), "--served-model-name", variant.model.name,
        "--host", "127.0.0.1", "--port", str(port), "--enforce-eager", "--max-model-len", "1024", "--seed", "0",
        "--structured-outputs-config", _STRUCTURED, "--enable-auto-tool-choice", "--tool-call-parser", "hermes",
        *_gpu_share(),
    ]  # fmt: skip
    environment = {
        **_environment(endpoint),
        **_VLLM,
        "OTEL_SERVICE_NAME": f"vllm-{variant.arm}",
        "TRACEAI_VLLM_STORE": str(folder / "engines"),
    }
    log = folder / "logs" / f"{variant.arm}-{variant.model.name}.log"
    url = f"http://127.0.0.1:{port}"
    with _running(command, environment, log) as process:
        yield Server(f"{variant.arm}, {variant.label}", url, f"{url}/health", process, log)


@contextmanager
def gateway(config: Path, url: str, admin: str, folder: Path, endpoint: str) -> Iterator[Server]:
    """Run the gateway."""
    command = [sys.executable, "-m", "traceai_vllm.cli", "gateway", "--config", str(config)]
    log = folder / "logs" / "gateway.log"
    with _running(command, _environment(endpoint), log) as process:
        yield Server("gateway", url, f"{admin}/healthz", process, log)


def refusal(variant: Variant, folder: Path) -> str | None:
    """Return vLLM's reason why this machine cannot run a variant; None when it can."""
    log = folder / "logs" / f"probe-{variant.model.name}.log"
    # The engine in this process starts in seconds; in one of its own it takes most of a minute on two cores.
    environment = {**_environment(""), **_VLLM, "TRACEAI_VLLM_ENABLED": "0", "VLLM_ENABLE_V1_MULTIPROCESSING": "0"}
    with _running([sys.executable, str(HERE / "probe.py"), str(variant.model)], environment, log) as process:
        status = process.wait(_START_SECONDS)
    if status == 0:
        return None
    if status != REFUSED:
        raise DemoError(f"{variant.label} could not be tried (status {status}); the end of {log}:\n{tail(log)}")
    return log.read_text(encoding="utf-8", errors="replace").splitlines()[-1]


def tail(log: Path) -> str:
    """Return the last lines of a log."""
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    return "\n".join(f"    {line}" for line in lines[-12:])


@contextmanager
def _running(command: list[str], environment: dict[str, str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            preexec_fn=dies_with_parent,  # noqa: PLW1509 - no other thread runs while this starts
        )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(45)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _environment(endpoint: str) -> dict[str, str]:
    """The user's environment, with what the demo settles itself."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("OTEL_EXPORTER_OTLP_", "TRACEAI_", "VLLM_"))}
    # On a busy machine, threads that spin while they wait for each other make vLLM many times slower.
    kept.setdefault("OMP_WAIT_POLICY", "passive")
    return {**kept, "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint} if endpoint else kept


def _gpu_share() -> list[str]:
    """Two servers share the machine, and its GPU where there is one."""
    return ["--gpu-memory-utilization", "0.3"] if Path("/proc/driver/nvidia/gpus").exists() else []
