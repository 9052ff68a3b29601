"""Runs the levels, shows a line for each version, and writes ``docs/compatibility.md``: ``make compat`` does it.

    python -m compat                                    # source level, every version
    python -m compat --level engine --versions 0.22,0.32
    python -m compat --level all

The exit status is 0 when everything that ran has passed.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from compat import engines, report, versions
from compat.wheels import WheelError, sources

ROOT = Path(__file__).resolve().parents[1]
CACHE = ROOT / versions.ROOT_NAME
RESULTS = ROOT / "docs" / "compatibility.json"
PAGE = ROOT / "docs" / "compatibility.md"
_SOURCE_TIMEOUT_S = 300

Result = dict[str, Any]


def main() -> int:
    """Run what is asked for; return the process exit status."""
    options = _options()
    levels = ("source", "engine") if options.level == "all" else (options.level,)
    passed = True
    for level in levels:
        try:
            chosen = versions.select(versions.SOURCE if level == "source" else versions.ENGINE, options.versions)
        except versions.UnknownVersion as error:
            print(f"{level} level: {error}", file=sys.stderr)
            return 2
        results = _source(chosen, options.jobs) if level == "source" else _engine(chosen, options)
        passed &= all(report.passed(result) for result in results.values())
        if not options.dry_run and level == "source":
            report.write(RESULTS, PAGE, level, results)
    print("all passed" if passed else "NOT all passed")
    return 0 if passed else 1


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--level", choices=("source", "engine", "all"), default="source", help="what to run")
    parser.add_argument("--versions", default="", help="versions or minor versions, with commas; all when not given")
    parser.add_argument("--jobs", type=int, default=2, help="how many versions at a time, at source level")
    parser.add_argument("--keep", action="store_true", help="keep the environments of engines (6 GB each)")
    parser.add_argument("--dry-run", action="store_true", help="leave docs/compatibility.* as they are")
    return parser.parse_args()


def _source(chosen: tuple[versions.Release, ...], jobs: int) -> dict[str, Result]:
    results: dict[str, Result] = {}
    with ThreadPoolExecutor(jobs) as pool:
        for number, (release, result) in enumerate(zip(chosen, pool.map(source_result, chosen), strict=True), start=1):
            results[release.version] = result
            print(f"{number:3}/{len(chosen)}  {report.line('source', release.version, result)}", flush=True)
    return results


def source_result(release: versions.Release) -> Result:
    """Run a version's sources in a process of its own, and return what it says."""
    started = time.monotonic()
    try:
        folder = sources(release, CACHE / "sources")
    except WheelError as error:
        return {**report.stamp(release), "crashed": str(error)}
    command = [sys.executable, "-m", "compat.source_run", str(folder)]
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=_SOURCE_TIMEOUT_S)
        result = json.loads(done.stdout.splitlines()[-1])
    except subprocess.TimeoutExpired:
        result = {"crashed": f"not done after {_SOURCE_TIMEOUT_S} s"}
    except (IndexError, ValueError):
        result = {"crashed": done.stderr[-2000:]}
    return {**report.stamp(release), **result, "seconds": round(time.monotonic() - started, 1)}


def _engine(chosen: tuple[versions.Release, ...], options: argparse.Namespace) -> dict[str, Result]:
    results: dict[str, Result] = {}
    for number, release in enumerate(chosen, start=1):
        print(f"{number:3}/{len(chosen)}  vLLM {release.version}, torch {release.torch}", flush=True)
        outcome = engines.result(release, CACHE, keep=options.keep)
        results[release.version] = {**report.stamp(release), **outcome}
        if not options.dry_run:  # one by one: it takes long, and may be interrupted
            report.write(RESULTS, PAGE, "engine", results)
        print(
            f"{number:3}/{len(chosen)}  {report.line('engine', release.version, results[release.version])}", flush=True
        )
    return results


if __name__ == "__main__":
    sys.exit(main())
