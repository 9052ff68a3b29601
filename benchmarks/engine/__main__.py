"""Measures what the engine instrumentation costs and writes ``benchmarks/RESULTS.md``.

python -m benchmarks.engine                # about 45 minutes on a quiet machine with 2 cores
python -m benchmarks.engine --only serve   # one part, in full; the others keep their last figures
python -m benchmarks.engine --quick        # about 5 minutes, to a temporary directory
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

from benchmarks.engine import machine, report
from benchmarks.engine.part import PARTS
from benchmarks.engine.setting import MODEL_THREADS, REPOSITORY

_TIMEOUT_S = 1_800


def main() -> int:
    arguments = _arguments()
    if arguments.model_threads is not None:
        os.environ[MODEL_THREADS] = str(arguments.model_threads)
    out = Path(tempfile.mkdtemp(prefix="traceai-bench-")) if arguments.quick else REPOSITORY / "benchmarks"
    results = out / "results"
    results.mkdir(exist_ok=True)
    done = [_run_part(name, arguments.quick, results) for name in PARTS if name in arguments.only]
    # What was not run this time keeps the figures of its last run.
    files = {name: results / f"engine-{name}.json" for name in PARTS}
    parts = {name: json.loads(file.read_text()) for name, file in files.items() if file.exists()}
    section = report.render(parts, machine.facts())
    report.write(section, out / "RESULTS.md")
    print(f"\n{section}\nwritten to {out / 'RESULTS.md'} and {results}")
    return 0 if all(done) else 1


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.engine", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer rounds; does not touch benchmarks/RESULTS.md")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS), metavar="PART", help=", ".join(PARTS))
    parser.add_argument(
        "--model-threads", type=int, metavar="N", help="threads of the model; vLLM's choice if not given"
    )
    return parser.parse_args()


def _run_part(name: str, quick: bool, results: Path) -> bool:
    part, out, log = PARTS[name], results / f"engine-{name}.json", results / f"engine-{name}.log"
    rounds = part.quick_rounds if quick else part.rounds
    print(f"{time.strftime('%H:%M:%S')} {name}: {rounds} rounds", flush=True)
    command = [sys.executable, "-m", "benchmarks.engine.part", name, "--rounds", str(rounds), "--out", str(out)]
    with log.open("w") as errors:
        ended = subprocess.run(command, cwd=REPOSITORY, stderr=errors, timeout=_TIMEOUT_S, check=False)
    if ended.returncode:
        tail = "\n".join(log.read_text().splitlines()[-15:])
        print(f"{name} failed:\n{tail}", file=sys.stderr, flush=True)
        return False
    log.unlink()
    return True


if __name__ == "__main__":
    sys.exit(main())
