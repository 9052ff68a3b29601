"""C1, C2 and C4: how long a comparison takes as spans grow in number, beside a query written by hand."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.release.rows import Row
from traceai_vllm.cli.main import COMMANDS
from traceai_vllm.release.simulator.spans import write_parquet
from traceai_vllm.release.simulator.traffic import Traffic

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    import numpy as np

SPANS = (100_000, 1_000_000, 10_000_000)
_MIB = 1024.0
_COMMANDS = tuple(command.name for command in COMMANDS)
_HELP_RUNS = 7


def run(random: np.random.Generator, scale: float, progress: Callable[[Iterable[int]], Iterable[int]]) -> list[Row]:
    """Return the lines of C1, C2 and C4; ``scale`` 1 is up to ten million spans."""
    sizes = [round(spans * scale) for spans in SPANS]
    traffic = Traffic(slices={f"slice-{number:02}": 1 / 60 for number in range(60)}, seed=int(random.integers(2**31)))
    found: list[dict[str, Any]] = []
    for number in progress(range(len(sizes))):
        with tempfile.TemporaryDirectory() as folder:
            write_parquet(traffic, Path(folder), sizes[number] // 2)
            found.append({what: _in_a_process(what, folder) for what in ("floor", "compare", "again")})
            write_parquet(traffic, Path(folder), sizes[number] // 200, first=10_000)
            found[-1]["more"] = _in_a_process("compare", folder)
    return _rows(sizes, found)


def _in_a_process(what: str, folder: str) -> dict[str, Any]:
    """Run one thing in a process of its own: its time from start to end, and the most memory it had."""
    name = "compare" if what == "again" else what
    command = [sys.executable, "-m", "benchmarks.release.one_comparison", name, folder]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return dict(json.loads(done.stdout.splitlines()[-1]))


def _rows(sizes: list[int], found: list[dict[str, Any]]) -> list[Row]:
    whole, seconds = found[-1]["compare"], [one["compare"]["seconds"] for one in found]
    ratio = whole["seconds"] / found[-1]["floor"]["seconds"]
    memory = whole["memory_kib"] / _MIB / _MIB
    each = [1e6 * taken / spans for taken, spans in zip(seconds, sizes, strict=True)]
    share = found[-1]["more"]["seconds"] / whole["seconds"]
    same = all(one["compare"]["decision"] == one["again"]["decision"] for one in found)
    slowest, milliseconds = max(((name, _help(name)) for name in ("", *_COMMANDS)), key=lambda one: one[1])
    what = f"{sizes[-1]:,} spans from Parquet, 60 slices: "
    return [
        Row("C1", what + "seconds", "≤ 30", f"{whole['seconds']:.1f}", whole["seconds"] <= 30),
        Row("C1", what + "GiB", "≤ 4", f"{memory:.2f}", memory <= 4),
        Row("C1", what + "times a query written by hand", "≤ 2.5", f"{ratio:.2f}", ratio <= 2.5),
        Row(
            "C2",
            "µs a span, " + ", ".join(f"{size:,}" for size in sizes),
            "falling",
            ", ".join(f"{time:.1f}" for time in each),
            each == sorted(each, reverse=True),
        ),
        Row("C2", "the next run after 1 % more, as a share of a whole one", "≤ 0.05", f"{share:.2f}", share <= 0.05),
        Row("C4", "the decision made again is the same to the byte", "yes", "yes" if same else "no", same),
        Row(
            "C4",
            f"--help in milliseconds, the slowest of {len(_COMMANDS) + 1} commands ({slowest or 'no command'})",
            "≤ 150",
            f"{milliseconds:.0f}",
            milliseconds <= 150,
        ),
    ]


def _help(command: str) -> float:
    """The median over some runs, each a process of its own, in milliseconds."""
    line = [sys.executable, "-m", "traceai_vllm.cli", *filter(None, [command]), "--help"]
    taken = []
    for _ in range(_HELP_RUNS):
        begun = time.perf_counter()
        subprocess.run(line, stdout=subprocess.DEVNULL, check=True)
        taken.append(1000 * (time.perf_counter() - begun))
    return statistics.median(taken)
