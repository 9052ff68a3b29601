"""Runs one part in a process of its own and writes its raw samples: ``python -m benchmarks.engine.part NAME ...``."""

from __future__ import annotations

import argparse
import importlib
import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.engine import machine
from benchmarks.engine.setting import prepare_environment


@dataclass(frozen=True, slots=True)
class Part:
    """A part of the benchmark.

    Attributes:
        module: the module of this package, and the function in it.
        rounds: how many rounds, in full and with ``--quick``.
        engine_in_process: whether vLLM's engine core runs in the measured process.
    """

    module: str
    rounds: int
    quick_rounds: int
    function: str = "run"
    engine_in_process: bool = True


PARTS = {
    "imports": Part("imports", 40, 8),
    "content": Part("content", 60, 12),
    "micro": Part("micro", 100, 20),
    "frontend": Part("frontend", 120, 12),
    "offline": Part("offline", 50, 5),
    "small_vocabulary": Part("offline", 50, 8, "run_small_vocabulary"),
    "real_model": Part("offline", 14, 2, "run_real_model"),
    "concurrent": Part("concurrent", 24, 3, engine_in_process=False),
    "evaluators": Part("evaluators", 10, 3),
    "serve": Part("serve", 12, 2, engine_in_process=False),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", choices=PARTS)
    parser.add_argument("--rounds", type=int, required=True)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    part = PARTS[arguments.name]
    prepare_environment(engine_in_process=part.engine_in_process)
    begun, moment = time.time(), machine.moment()
    module = importlib.import_module(f"benchmarks.engine.{part.module}")
    result = getattr(module, part.function)(arguments.rounds)
    groups = {
        group: {arm: asdict(samples) for arm, samples in arms.items()} for group, arms in result["groups"].items()
    }
    whole = {
        "part": arguments.name,
        **moment,
        "rounds": arguments.rounds,
        "took_s": time.time() - begun,
        "facts": result["facts"],
        "groups": groups,
    }
    arguments.out.write_text(json.dumps(whole, indent=1) + "\n")


if __name__ == "__main__":
    main()
