"""Run all tests: the unit tests in one process, each file of integration tests in a process of its own.

    python scripts/run_tests.py [--jobs 2]

vLLM keeps global state for an engine in the process: when one is dropped, it takes that of the others with it. So files
that load engines of their own must not share a process. Two processes run side by side, because starting vLLM keeps one
core busy and leaves the other idle. The exit status is 0 when every process's is.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
# What takes longest goes first, so that no core is left with it at the end.
LONGEST_FIRST = ("test_fault_harness", "test_export", "test_gateway_vllm", "test_serve_endpoints", "test_async")


class Outcome(NamedTuple):
    """How a group of tests ended."""

    name: str
    code: int
    seconds: float
    output: str


def main() -> int:
    """Run all groups of tests; return 1 if any of them failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=2, help="processes of tests that run at a time (default: 2)")
    jobs = parser.parse_args().jobs
    files = sorted((ROOT / "tests" / "integration").glob("test_*.py"), key=_place)
    with ThreadPoolExecutor(jobs) as pool:
        running = [pool.submit(_run, group) for group in (ROOT / "tests" / "unit", *files)]
        outcomes = [_show(future.result()) for future in as_completed(running)]
    failed = [outcome.name for outcome in outcomes if outcome.code != 0]
    print(f"\n{len(outcomes) - len(failed)} passed, {len(failed)} failed" + "".join(f"\n  {name}" for name in failed))
    return 1 if failed else 0


def _place(file: Path) -> tuple[int, str]:
    known = file.stem in LONGEST_FIRST
    return (LONGEST_FIRST.index(file.stem) if known else len(LONGEST_FIRST), file.name)


def _run(group: Path) -> Outcome:
    name = str(group.relative_to(ROOT))
    print(f"... {name}", flush=True)
    started = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-rs", str(group)],
        cwd=ROOT,
        check=False,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )
    return Outcome(name, done.returncode, time.monotonic() - started, done.stdout)


def _show(outcome: Outcome) -> Outcome:
    verdict = "ok" if outcome.code == 0 else "FAILED"
    print(f"\n{outcome.output.rstrip()}\n--- {outcome.name}: {verdict} after {outcome.seconds:.0f} s", flush=True)
    return outcome


if __name__ == "__main__":
    sys.exit(main())
