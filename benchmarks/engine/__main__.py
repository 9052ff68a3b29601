"""Measures what the engine instrumentation costs and writes ``benchmarks/RESULTS.md``.

python -m benchmarks.engine            # about 15 minutes on a quiet machine with 2 cores
python -m benchmarks.engine --quick    # about 3 minutes, to a temporary directory
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.engine import machine, report
from benchmarks.engine.part import PARTS
from benchmarks.engine.setting import MODEL_THREADS, REPOSITORY

_TIMEOUT_S = 1_800


def main() -> int:
    arguments = _arguments()
    if arguments.model_threads is not None:
        os.environ[MODEL_THREADS] = str(arguments.model_threads)
    whole_run = set(arguments.only) == set(PARTS) and not arguments.quick
    out = REPOSITORY / "benchmarks" if whole_run else Path(tempfile.mkdtemp(prefix="traceai-bench-"))
    (out / "results").mkdir(exist_ok=True)
    begun, facts = time.time(), machine.facts()
    parts: dict[str, Any] = {}
    for name in PARTS:
        if name in arguments.only:
            result = _run_part(name, arguments.quick, out / "results")
            if result is not None:
                parts[name] = result
    facts["load average after"] = machine.load()
    facts["command"] = f"`python -m benchmarks.engine {' '.join(sys.argv[1:])}`".replace(" `", "`")
    facts["took"] = f"{(time.time() - begun) / 60:.1f} minutes"
    (out / "results" / "engine-run.json").write_text(json.dumps(facts, indent=1) + "\n")
    section = report.render(parts, facts)
    report.write(section, out / "RESULTS.md")
    print(f"\n{section}\nwritten to {out / 'RESULTS.md'} and {out / 'results'}")
    return 0 if len(parts) == len(arguments.only) else 1


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.engine", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer rounds; does not touch benchmarks/RESULTS.md")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS), metavar="PART", help=", ".join(PARTS))
    parser.add_argument(
        "--model-threads", type=int, metavar="N", help="threads of the model; vLLM's choice if not given"
    )
    return parser.parse_args()


def _run_part(name: str, quick: bool, results: Path) -> Any:
    part, out, log = PARTS[name], results / f"engine-{name}.json", results / f"engine-{name}.log"
    rounds = part.quick_rounds if quick else part.rounds
    print(f"{time.strftime('%H:%M:%S')} {name}: {rounds} rounds", flush=True)
    command = [sys.executable, "-m", "benchmarks.engine.part", name, "--rounds", str(rounds), "--out", str(out)]
    with log.open("w") as errors:
        done = subprocess.run(command, cwd=REPOSITORY, stderr=errors, timeout=_TIMEOUT_S, check=False)
    if done.returncode:
        tail = "\n".join(log.read_text().splitlines()[-15:])
        print(f"{name} failed:\n{tail}", file=sys.stderr, flush=True)
        return None
    log.unlink()
    return json.loads(out.read_text())


if __name__ == "__main__":
    sys.exit(main())
