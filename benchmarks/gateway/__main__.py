"""``python -m benchmarks.gateway``: all arms in turns in one run; figures and ratios with their spread."""

from __future__ import annotations

import argparse
import json
import os
import platform
import tempfile
from datetime import datetime, timezone
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from tqdm import tqdm

from benchmarks.gateway import arms, litellm_environment, load, promises, report
from benchmarks.gateway.processes import one_core_for

if TYPE_CHECKING:
    from benchmarks.gateway.report import Figures

RESULTS = Path(__file__).with_name("RESULTS.md")
SAMPLES = Path(__file__).with_name("results.json")
_TOKENS = 20
_GAP_MS = 2.0
_PER_SECOND = 100.0


def main() -> None:
    """Measure, print the page, and write ``results.json`` and ``RESULTS.md``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few and short rounds; writes nothing")
    parser.add_argument("--without-litellm", action="store_true", help="do not install and measure LiteLLM's proxy")
    parser.add_argument("--rounds", type=int)
    given = parser.parse_args()
    rounds = given.rounds or (3 if given.quick else 10)
    litellm = not given.without_litellm and litellm_environment.prepare()
    load_before = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as directory:
        with arms.running(Path(directory), _TOKENS, _GAP_MS, litellm=litellm) as running:
            figures = _in_turns(running, rounds, 0.25 if given.quick else 1.0)
        with tqdm(total=5, unit="promise") as progress:

            def begins(name: str) -> None:
                progress.set_description(name)
                progress.update()

            kept = promises.rows(Path(directory), promises.QUICK if given.quick else promises.Amounts(), begins)
    about = {
        "date": datetime.now(timezone.utc).isoformat(timespec="minutes"),
        "python": platform.python_version(),
        "cores": os.cpu_count(),
        "load average before": round(load_before, 2),
        "nginx": arms.nginx_version(),
        "LiteLLM": litellm_environment.VERSION if litellm else "left out",
        "rounds": rounds,
    }
    text = report.page(about, figures, kept)
    print(text)
    if not given.quick:
        RESULTS.write_text(text)
        SAMPLES.write_text(json.dumps({"about": about, "figures": figures}, indent=1) + "\n")


def _in_turns(running: arms.Running, rounds: int, scale: float) -> Figures:
    figures: Figures = {arm.name: {} for arm in running.arms}
    two_cores = len(os.sched_getaffinity(0)) > 1
    for number in tqdm(range(rounds), unit="round"):
        turn = running.arms[number % len(running.arms) :] + running.arms[: number % len(running.arms)]
        for arm in turn:
            _round(arm, figures[arm.name], scale)
        if two_cores:
            with one_core_for(running.candidate, running.others):
                for arm in turn:
                    if arm.name in report.PINNED:
                        load.sequential(arm.port, 5)  # warm, untimed
                        _users(arm, figures[arm.name], scale, "alone_")
    return figures


def _round(arm: arms.Arm, figures: dict[str, list[float]], scale: float) -> None:
    slow = arm.name.startswith(report.LITELLM)
    load.sequential(arm.port, 5)  # warm, untimed
    _users(arm, figures, scale, "")
    streamed = load.streams(arm.port, int((4 if slow else 16) * scale) + 1)
    gaps = sorted(gap for stream in streamed for gap in stream.gaps)
    _note(figures, "first_event_ms", median(stream.first for stream in streamed) * 1000)
    _note(figures, "gap_p50_ms", median(gaps) * 1000)
    _note(figures, "gap_p99_ms", gaps[int(len(gaps) * 0.99)] * 1000)
    _note(figures, "per_second", load.saturated(arm.port, 16, 0.8 * scale))
    _note(figures, "memory_mib", arm.memory_mib())


def _users(arm: arms.Arm, figures: dict[str, list[float]], scale: float, kind: str) -> None:
    """One user whose requests follow each answer at once, then one who sends them at a steady pace."""
    slow = arm.name.startswith(report.LITELLM)
    count = int((40 if slow else 400) * scale)
    before = arm.cpu_s()
    times = sorted(load.sequential(arm.port, count))
    _note(figures, f"{kind}cpu_ms", (arm.cpu_s() - before) / count * 1000)
    _note(figures, f"{kind}p50_ms", median(times) * 1000)
    _note(figures, f"{kind}p99_ms", times[int(len(times) * 0.99)] * 1000)
    per_second = 10.0 if slow else _PER_SECOND
    paced = sorted(load.sequential(arm.port, int(1.5 * per_second * scale), per_second))
    _note(figures, f"{kind}paced_p50_ms", median(paced) * 1000)
    _note(figures, f"{kind}paced_p99_ms", paced[int(len(paced) * 0.99)] * 1000)


def _note(figures: dict[str, list[float]], name: str, value: float) -> None:
    figures.setdefault(name, []).append(value)


if __name__ == "__main__":
    main()
