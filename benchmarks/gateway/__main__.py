"""``python -m benchmarks.gateway [--quick] [--litellm]``: arms in turns in one run; figures and ratios with spread."""

from __future__ import annotations

import argparse
import json
import os
import platform
import tempfile
from datetime import datetime, timezone
from pathlib import Path
from statistics import median, quantiles
from typing import TYPE_CHECKING, Any

from benchmarks.gateway import arms, load

if TYPE_CHECKING:
    from collections.abc import Callable

    Figures = dict[str, dict[str, list[float]]]

RESULTS = Path(__file__).with_name("results.json")
_TOKENS = 20
_GAP_MS = 2.0


def main() -> None:
    """Measure, print a table, and write ``results.json``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few and short rounds")
    parser.add_argument("--litellm", action="store_true", help="also LiteLLM's proxy, from .venv-litellm")
    parser.add_argument("--rounds", type=int)
    given = parser.parse_args()
    rounds = given.rounds or (5 if given.quick else 15)
    with (
        tempfile.TemporaryDirectory() as directory,
        arms.running(Path(directory), _TOKENS, _GAP_MS, litellm=given.litellm) as running,
    ):
        figures: Figures = {arm.name: {} for arm in running}
        for number in range(rounds):
            turn = running[number % len(running) :] + running[: number % len(running)]
            for arm in turn:
                _round(arm, figures[arm.name], 0.25 if given.quick else 1.0)
    _report(figures)
    _write(figures, given.quick, rounds)


def _round(arm: arms.Arm, figures: dict[str, list[float]], scale: float) -> None:
    def note(name: str, value: float) -> None:
        figures.setdefault(name, []).append(value)

    slow = arm.name == "LiteLLM"
    load.sequential(arm.port, 5)  # warm, untimed
    count = int((40 if slow else 400) * scale)
    before = arm.cpu_s()
    times = sorted(load.sequential(arm.port, count))
    note("cpu_ms", (arm.cpu_s() - before) / count * 1000)
    note("p50_ms", median(times) * 1000)
    note("p99_ms", times[int(len(times) * 0.99)] * 1000)
    streamed = load.streams(arm.port, int((4 if slow else 12) * scale) + 1)
    note("first_event_ms", median(stream.first for stream in streamed) * 1000)
    gaps = sorted(gap for stream in streamed for gap in stream.gaps)
    note("gap_p50_ms", median(gaps) * 1000)
    note("gap_p99_ms", gaps[int(len(gaps) * 0.99)] * 1000)
    note("per_second", load.saturated(arm.port, 16, 1.0 * scale))
    note("memory_mib", arm.memory_mib())


def _report(figures: Figures) -> None:
    names = list(next(iter(figures.values())))
    print("| arm | " + " | ".join(names) + " |")
    print("|---" * (len(names) + 1) + "|")
    for arm, measured in figures.items():
        print(f"| {arm} | " + " | ".join(_cell(measured[name]) for name in names) + " |")
    print()
    for line in _comparisons(figures):
        print(line)


def _comparisons(figures: Figures) -> list[str]:
    """Return what the targets ask for; each figure is taken within rounds, so that a slow minute hits both sides."""
    off, tenth, whole = "ours, mirror off", "ours, mirror 10 %", "ours, mirror 100 %"
    made = []

    def compare(label: str, one: str, other: str, name: str, how: Callable[[float, float], float]) -> None:
        if one in figures and other in figures:
            values = [how(a, b) for a, b in zip(figures[one][name], figures[other][name], strict=True)]
            made.append(f"{label}: {_cell(values)}")

    def minus(a: float, b: float) -> float:
        return a - b

    def over(a: float, b: float) -> float:
        return a / b

    compare("B1 added p50, ms (<= 0.8)", tenth, "direct", "p50_ms", minus)
    compare("B1 added p99, ms (<= 3)", tenth, "direct", "p99_ms", minus)
    compare("B1 first event of a stream, added ms", tenth, "direct", "first_event_ms", minus)
    compare("B1 gap between events p99, added ms (<= 1)", tenth, "direct", "gap_p99_ms", minus)
    compare("B2 requests/s over LiteLLM (>= 10)", off, "LiteLLM", "per_second", over)
    compare("B2 memory over LiteLLM (<= 0.4)", off, "LiteLLM", "memory_mib", over)
    compare("B3 p50, mirror 100 % over off (<= 1.05)", whole, off, "p50_ms", over)
    compare("B3 p99, mirror 100 % over off (<= 1.05)", whole, off, "p99_ms", over)
    compare("B3 p50, nginx mirror over nginx", "nginx, mirror", "nginx", "p50_ms", over)
    compare("nginx added p50, ms", "nginx", "direct", "p50_ms", minus)
    compare("LiteLLM added p50, ms", "LiteLLM", "direct", "p50_ms", minus)
    return made


def _cell(values: list[float]) -> str:
    low, _, high = quantiles(values, n=4)
    return f"{_short(median(values))} [{_short(low)}-{_short(high)}]"


def _short(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.2f}"


def _write(figures: Figures, quick: bool, rounds: int) -> None:
    about: dict[str, Any] = {
        "date": datetime.now(timezone.utc).isoformat(timespec="minutes"),
        "python": platform.python_version(),
        "cores": os.cpu_count(),
        "quick": quick,
        "rounds": rounds,
    }
    RESULTS.write_text(json.dumps({"about": about, "comparisons": _comparisons(figures), "figures": figures}, indent=1))


if __name__ == "__main__":
    main()
