"""Measures how often the release decision is right, and writes ``benchmarks/release/RESULTS.md``.

python -m benchmarks.release            # about 10 minutes on one core
python -m benchmarks.release --quick    # a minute, a twentieth of the repetitions; prints only
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import time
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from tqdm import tqdm

from benchmarks.release import looks, power, sessions, slices

if TYPE_CHECKING:
    from benchmarks.release.rows import Row

PARTS = {"D1": looks.run, "D2": power.losses, "D3": slices.run, "D4": sessions.run, "D6": power.outage}
RESULTS = Path(__file__).with_name("RESULTS.md")
_HEAD = """\
# How often the release decision is right

Written by `make bench-release`. Figures are from simulation; in brackets their 95 % Monte-Carlo limits. A line that
begins with a dash has no target: it is there to compare with. All pairs are drawn from known truths, so that a verdict
can be right or wrong; what each line draws stands in the module of its part.
"""


def main() -> int:
    arguments = _arguments()
    begun = time.time()
    rows: list[Row] = []
    for number, name in enumerate(arguments.only):
        # A generator for each part: the figures of a part do not depend on which others were run.
        random = np.random.default_rng([arguments.seed, sorted(PARTS).index(name)])
        progress = partial(tqdm, desc=f"{name} ({number + 1} of {len(arguments.only)})", disable=None, leave=False)
        part_begun = time.time()
        rows += PARTS[name](random, 0.05 if arguments.quick else 1.0, progress)
        print(f"{name} took {time.time() - part_begun:.0f} s", flush=True)
    text = f"{_HEAD}\n{_facts(arguments, time.time() - begun)}\n{_table(rows)}"
    print(f"\n{text}")
    if not arguments.quick and set(arguments.only) == set(PARTS):
        RESULTS.write_text(text)
        print(f"written to {RESULTS}")
    return 0 if all(row.met is not False for row in rows) else 1


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.release", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="a twentieth of the repetitions; writes nothing")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS), metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--seed", type=int, default=20261123, help="of the random numbers (default: 20261123)")
    return parser.parse_args()


def _facts(arguments: argparse.Namespace, seconds: float) -> str:
    versions = ", ".join(
        f"{name} {metadata.version(name)}" for name in ("traceai-vllm", "numpy", "scipy", "statsmodels")
    )
    return (
        f"- date: {time.strftime('%Y-%m-%d %H:%M', time.gmtime())} UTC\n"
        f"- seed: {arguments.seed}\n"
        f"- {versions}, Python {platform.python_version()}\n"
        f"- took {seconds / 60:.1f} minutes; load average {os.getloadavg()[0]:.1f}\n"
    )


def _table(rows: list[Row]) -> str:
    lines = ["| | what | target | found | met |", "|---|---|---|---|---|"]
    for row in rows:
        met = {None: "", True: "yes", False: "**no**"}[row.met]
        lines.append(f"| {row.target} | {row.what} | {row.asked} | {row.found} | {met} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
