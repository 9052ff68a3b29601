"""Processes of the benchmark: started, waited for, pinned to cores, and ended."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

ROOT = Path(__file__).resolve().parents[2]
_READY_S = 180.0  # LiteLLM takes long where there is other work


@contextlib.contextmanager
def process(command: list[str], port: int, environment: dict[str, str] | None = None) -> Iterator[psutil.Process]:
    """Run a program that listens on a port, from when it does until it is no longer needed."""
    started = psutil.Popen(
        command,
        cwd=ROOT,
        env={**os.environ, **(environment or {})},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        _wait_for(port, started)
        yield started
    finally:
        for child in (*started.children(recursive=True), started):
            with contextlib.suppress(psutil.NoSuchProcess):
                child.terminate()
        psutil.wait_procs([started], timeout=10)
        if started.is_running():
            started.kill()


def stub(port: int, *given: str) -> contextlib.AbstractContextManager[psutil.Process]:
    """Run the stub upstream on a port, with further arguments."""
    return process([sys.executable, "-m", "tests.support.stub_upstream", "--port", str(port), *given], port)


def gateway(path: Path, port: int, environment: dict[str, str]) -> contextlib.AbstractContextManager[psutil.Process]:
    """Run the gateway with a configuration file that says this port."""
    command = [sys.executable, "-m", "traceai_vllm.cli", "gateway", "--config", str(path)]
    silent = {"OTEL_METRICS_EXPORTER": "none", "OTEL_LOGS_EXPORTER": "none"}
    return process(command, port, {**silent, **environment})


def free_port() -> int:
    """Return a port of 127.0.0.1 that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def one_core_for(alone: psutil.Process, others: Iterable[psutil.Process]) -> Iterator[None]:
    """Give a process a core of its own; the others and this one share the rest."""
    every = os.sched_getaffinity(0)
    last = {max(every)}
    try:
        _pin(alone, last)
        for one in (psutil.Process(), *others):
            _pin(one, every - last)
        yield
    finally:
        for one in (psutil.Process(), alone, *others):
            _pin(one, every)


def _pin(pinned: psutil.Process, cores: set[int]) -> None:
    workers = [] if pinned.pid == os.getpid() else pinned.children(recursive=True)
    for one in (pinned, *workers):
        for thread in one.threads():
            with contextlib.suppress(ProcessLookupError):  # it has ended
                os.sched_setaffinity(thread.id, cores)


def _wait_for(port: int, started: psutil.Popen) -> None:
    end = time.monotonic() + _READY_S
    while time.monotonic() < end:
        assert started.poll() is None, f"{started.args} ended with {started.returncode}"
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.05)
    raise TimeoutError(f"{started.args} does not listen on {port}")
