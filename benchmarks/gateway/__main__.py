"""``python -m benchmarks.gateway``: all arms in turns in one run; figures and ratios with their spread."""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import sys
import tempfile
from datetime import datetime, timezone
from pathlib import Path
from statistics import median, quantiles
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from benchmarks.gateway import arms, litellm_environment, load

if TYPE_CHECKING:
    from collections.abc import Callable

    Figures = dict[str, dict[str, list[float]]]

RESULTS = Path(__file__).with_name("RESULTS.md")
SAMPLES = Path(__file__).with_name("results.json")
_TOKENS = 20
_GAP_MS = 2.0
_PER_SECOND = 100.0


def main() -> None:
    """Measure, print a table, and write ``results.json`` and ``RESULTS.md``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few and short rounds")
    parser.add_argument("--without-litellm", action="store_true", help="do not install and measure LiteLLM's proxy")
    parser.add_argument("--rounds", type=int)
    given = parser.parse_args()
    rounds = given.rounds or (5 if given.quick else 15)
    litellm = not given.without_litellm and litellm_environment.prepare()
    if not shutil.which("nginx"):
        print("nginx is not installed here, and is left out (Debian: apt-get install nginx-light)", file=sys.stderr)
    load_before = os.getloadavg()[0]
    with (
        tempfile.TemporaryDirectory() as directory,
        arms.running(Path(directory), _TOKENS, _GAP_MS, litellm=litellm) as running,
    ):
        figures: Figures = {arm.name: {} for arm in running}
        progress = tqdm(total=rounds * len(running), unit="turn")
        for number in range(rounds):
            turn = running[number % len(running) :] + running[: number % len(running)]
            for arm in turn:
                progress.set_description(arm.name)
                _round(arm, figures[arm.name], 0.25 if given.quick else 1.0)
                progress.update()
        progress.close()
    about = {
        "date": datetime.now(timezone.utc).isoformat(timespec="minutes"),
        "python": platform.python_version(),
        "cores": os.cpu_count(),
        "load average before": round(load_before, 2),
        "quick": given.quick,
        "rounds": rounds,
    }
    text = report(about, figures)
    print(text)
    RESULTS.write_text(text)
    SAMPLES.write_text(json.dumps({"about": about, "figures": figures}, indent=1) + "\n")


def _round(arm: arms.Arm, figures: dict[str, list[float]], scale: float) -> None:
    def note(name: str, value: float) -> None:
        figures.setdefault(name, []).append(value)

    slow = arm.name.startswith("LiteLLM")
    load.sequential(arm.port, 5)  # warm, untimed
    count = int((40 if slow else 400) * scale)
    before = arm.cpu_s()
    times = sorted(load.sequential(arm.port, count))
    note("cpu_ms", (arm.cpu_s() - before) / count * 1000)
    note("p50_ms", median(times) * 1000)
    note("p99_ms", times[int(len(times) * 0.99)] * 1000)
    per_second = 10.0 if slow else _PER_SECOND
    paced = sorted(load.sequential(arm.port, int(2 * per_second * scale), per_second))
    note("paced_p50_ms", median(paced) * 1000)
    note("paced_p99_ms", paced[int(len(paced) * 0.99)] * 1000)
    streamed = load.streams(arm.port, int((4 if slow else 24) * scale) + 1)
    note("first_event_ms", median(stream.first for stream in streamed) * 1000)
    gaps = sorted(gap for stream in streamed for gap in stream.gaps)
    note("gap_p50_ms", median(gaps) * 1000)
    note("gap_p99_ms", gaps[int(len(gaps) * 0.99)] * 1000)
    note("per_second", load.saturated(arm.port, 16, 1.0 * scale))
    note("memory_mib", arm.memory_mib())


def report(about: dict[str, Any], figures: Figures) -> str:
    """Return the page: what was measured, what the targets ask for, and the figures of each arm."""
    names = list(next(iter(figures.values())))
    lines = ["# The gateway, beside no gateway, nginx and LiteLLM", ""]
    lines += ["Written by `make bench-gateway`. Medians over rounds, with quartiles; differences and ratios are taken"]
    lines += ["within a round. All processes share the machine's cores, the measuring one too. `paced_…` is at 100"]
    lines += ["requests/s (LiteLLM: 10); the others have the next request follow each answer at once.", ""]
    lines += [f"- {key}: {value}" for key, value in about.items()]
    lines += ["", "| target | measured |", "|---|---|"]
    lines += [f"| {label} | {cell} |" for label, cell in _comparisons(figures)]
    lines += ["", "| arm | " + " | ".join(names) + " |", "|---" * (len(names) + 1) + "|"]
    lines += [
        f"| {arm} | " + " | ".join(_cell(measured[name]) for name in names) + " |" for arm, measured in figures.items()
    ]
    return "\n".join(lines) + "\n"


def _comparisons(figures: Figures) -> list[tuple[str, str]]:
    """Return what the targets ask for; each figure is taken within rounds, so that a slow minute hits both sides."""
    off, tenth, whole = "ours, mirror off", "ours, mirror 10 %", "ours, mirror 100 %"
    made = []

    def compare(label: str, one: str, other: str, name: str, how: Callable[[float, float], float]) -> None:
        if one in figures and other in figures:
            values = [how(a, b) for a, b in zip(figures[one][name], figures[other][name], strict=True)]
            made.append((label, _cell(values)))

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
    compare("B3 p50 at 100 requests/s, mirror 100 % over off (<= 1.05)", whole, off, "paced_p50_ms", over)
    compare("B3 p99 at 100 requests/s, mirror 100 % over off (<= 1.05)", whole, off, "paced_p99_ms", over)
    hung = "ours, hung candidate"
    compare("B4 p99, hung candidate over mirror off (<= 1.05)", hung, off, "p99_ms", over)
    compare("B4 p99 at 100 requests/s, hung candidate over mirror off (<= 1.05)", hung, off, "paced_p99_ms", over)
    compare("B3 p50, nginx mirror over nginx", "nginx, mirror", "nginx", "p50_ms", over)
    compare("nginx added p50, ms", "nginx", "direct", "p50_ms", minus)
    compare("nginx with mirror added p50, ms", "nginx, mirror", "direct", "p50_ms", minus)
    compare("LiteLLM added p50, ms", "LiteLLM", "direct", "p50_ms", minus)
    compare("LiteLLM with silent_model added p50, ms", "LiteLLM, silent_model", "direct", "p50_ms", minus)
    return made


def _cell(values: list[float]) -> str:
    low, _, high = quantiles(values, n=4)
    return f"{_short(median(values))} [{_short(low)}-{_short(high)}]"


def _short(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.2f}"


if __name__ == "__main__":
    main()
