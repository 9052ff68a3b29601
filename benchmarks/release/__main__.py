"""Measures how often the release decision is right, and writes ``benchmarks/release/RESULTS.md``.

python -m benchmarks.release                # about half an hour, most of it for D5; 2 GB of disk for C
python -m benchmarks.release --only D1 D2   # some parts; what is there of the others stays
python -m benchmarks.release --quick        # two minutes, a twentieth of the repetitions; writes nothing
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
from dataclasses import asdict
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from benchmarks.release import actions, looks, power, scale, sessions, slices
from benchmarks.release.rows import Row

PARTS = {
    "D1": looks.run,
    "D2": power.losses,
    "D3": slices.run,
    "D4": sessions.run,
    "D5": actions.run,
    "D6": power.outage,
    "C": scale.run,
}
KEPT = Path(__file__).with_name("results.json")
RESULTS = Path(__file__).with_name("RESULTS.md")
_HEAD = """\
# How often the release decision is right

Written by `make bench-release`; [README.md](README.md) says what each part asks. Figures are from simulation, in
brackets their 95 % Monte-Carlo limits. A line that begins with a dash has no target: it is there to compare with.
"""


def main() -> int:
    arguments = _arguments()
    kept: dict[str, Any] = {}
    for number, name in enumerate(arguments.only):
        print(f"{name} ({number + 1} of {len(arguments.only)})", flush=True)
        part = _part(name, arguments)
        if KEPT.exists() and not arguments.quick:  # read only now: parts may run side by side
            kept = json.loads(KEPT.read_text())
        kept[name] = part
        if not arguments.quick:
            KEPT.write_text(json.dumps(kept, indent=1, sort_keys=True) + "\n")
            RESULTS.write_text(_text(kept))
    print(f"\n{_text(kept)}" + ("" if arguments.quick else f"\nwritten to {RESULTS}"))
    return 0 if all(row["met"] is not False for part in kept.values() for row in part["rows"]) else 1


def _part(name: str, arguments: argparse.Namespace) -> dict[str, Any]:
    # A generator for each part: the figures of a part do not depend on which others were run.
    random = np.random.default_rng([arguments.seed, int(name[1:] or 0)])
    begun = time.time()
    part = arguments.scale * (0.05 if arguments.quick else 1.0)
    rows = PARTS[name](random, part, partial(tqdm, desc=name, disable=None, leave=False))
    versions = [f"{package} {metadata.version(package)}" for package in ("numpy", "scipy", "statsmodels")]
    facts = [
        time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        f"seed {arguments.seed}",
        *([f"{part:g} of the full size"] if part != 1 else []),
        *versions,
        f"Python {platform.python_version()}",
        f"{(time.time() - begun) / 60:.1f} minutes at a load of {os.getloadavg()[0]:.1f}",
    ]
    return {"rows": [asdict(row) for row in rows], "facts": ", ".join(facts)}


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.release", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="a twentieth of the repetitions; writes nothing")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS), metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--scale", type=float, default=1.0, help="of the full size (default: 1)")
    parser.add_argument("--seed", type=int, default=20261123, help="of the random numbers (default: 20261123)")
    return parser.parse_args()


def _text(kept: dict[str, Any]) -> str:
    lines = [_HEAD]
    for name in sorted(kept):
        lines += [f"## {name}", "", kept[name]["facts"] + ".", ""]
        lines += ["| what | target | found | met |", "|---|---|---|---|"]
        for row in (Row(**row) for row in kept[name]["rows"]):
            met = {None: "", True: "yes", False: "**no**"}[row.met]
            lines.append(f"| {row.what} | {row.asked} | {row.found} | {met} |")
        lines.append("")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
