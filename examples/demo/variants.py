"""Runs one variant of the model in a process of its own and follows it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from children import dies_with_parent

if TYPE_CHECKING:
    from rich.console import Console

HERE = Path(__file__).parent
REFUSED = 3
_LIMIT_SECONDS = 1200


class VariantError(Exception):
    """A variant failed; the message says what happened and where the log is."""


@dataclass(frozen=True)
class Variant:
    """One build of the model.

    Attributes:
        arm: ``baseline`` or ``candidate``.
        label: its number format, for people.
        model: its folder.
    """

    arm: str
    label: str
    model: Path


@dataclass(frozen=True)
class Place:
    """Where a run keeps its files.

    Attributes:
        folder: everything below is in here.
        endpoint: where spans are sent.
        per_route: how many prompts of each route are used; all when None.
    """

    folder: Path
    endpoint: str
    per_route: int | None

    @property
    def store(self) -> Path:
        """The span store."""
        return self.folder / "store"

    def answers(self, arm: str) -> Path:
        """The answers of one arm."""
        return self.folder / "answers" / f"{arm}.jsonl"


def run(variant: Variant, place: Place, console: Console) -> str | None:
    """Serve all prompts on a variant.

    Returns:
        None when it served them, or the engine's reason when this machine cannot run it.

    Raises:
        VariantError: it failed in another way.
    """
    log_path = place.folder / "logs" / f"{variant.arm}-{variant.model.name}.log"
    title = f"[bold]{variant.arm}[/bold] {variant.label}"
    console.print(f"{title}: starting vLLM (.models/{variant.model.name})")
    started = time.monotonic()
    process = _start(variant, place)
    limit = threading.Timer(_LIMIT_SECONDS, process.kill)
    limit.daemon = True
    limit.start()
    try:
        with console.status(f"{title} is at work"):
            reason = _follow(process, log_path, console)
        status = process.wait()
    finally:
        limit.cancel()
        _end(process)
    if status == REFUSED and reason:
        return reason
    if status != 0:
        raise VariantError(_explain(variant, status, log_path))
    console.print(f"  served in {time.monotonic() - started:.0f} s, start included")
    return None


def _start(variant: Variant, place: Place) -> subprocess.Popen[str]:
    command = [sys.executable, str(HERE / "serve_variant.py"), "--model", str(variant.model)]
    command += ["--store", str(place.store), "--answers", str(place.answers(variant.arm))]
    command += ["--per-route", str(place.per_route)] if place.per_route else []
    return subprocess.Popen(
        command,
        env=_environment(place),
        text=True,
        errors="replace",
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        preexec_fn=dies_with_parent,  # noqa: PLW1509 - no other thread runs while this starts
    )


def _environment(place: Place) -> dict[str, str]:
    """The user's environment, with what the demo settles itself."""
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("OTEL_EXPORTER_OTLP_")}
    # On a busy machine, threads that spin while they wait for each other make vLLM many times slower.
    inherited.setdefault("OMP_WAIT_POLICY", "passive")
    return inherited | {
        "OTEL_EXPORTER_OTLP_ENDPOINT": place.endpoint,
        "OTEL_SERVICE_NAME": "traceai-vllm-demo",
        "HF_HUB_OFFLINE": "1",
        "VLLM_NO_USAGE_STATS": "1",
        "VLLM_CPU_KVCACHE_SPACE": "1",
        # The engine in this process starts in seconds; in one of its own it takes most of a minute on two cores.
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    }


def _follow(process: subprocess.Popen[str], log_path: Path, console: Console) -> str:
    """Write the log, show the progress; return the engine's reason if it refuses."""
    assert process.stdout is not None
    reason = ""
    with log_path.open("w", encoding="utf-8") as log:
        for line in process.stdout:
            log.write(line)
            log.flush()
            if line.startswith("@demo "):
                event = json.loads(line[len("@demo ") :])
                reason = event.get("reason", reason)
                _show(event, console)
    return reason


def _show(event: dict[str, Any], console: Console) -> None:
    if event["event"] == "ready":
        console.print(f"  ready after {event['seconds']:.0f} s")
    elif event["event"] == "route":
        console.print(f"  {event['route']:<16} {event['requests']:>3} requests  {event['seconds']:6.1f} s")


def _end(process: subprocess.Popen[str]) -> None:
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _explain(variant: Variant, status: int, log_path: Path) -> str:
    lines = log_path.read_text(encoding="utf-8", errors="replace").splitlines()
    tail = "\n".join(f"    {line}" for line in lines[-15:])
    ended = f"was ended by signal {-status}" if status < 0 else f"ended with status {status}"
    return f"the {variant.arm} ({variant.label}) {ended}; the end of its log, {log_path}:\n{tail}"
