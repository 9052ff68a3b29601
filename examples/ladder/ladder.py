"""The ladder: the same model in bf16 again, int8, int4, int3 and int2, each compared with bf16 on real vLLM.

    make ladder

Both ends are known: bf16 against itself has lost nothing, int2 has lost its wits. The decision has to be right there;
in between it shows where the losses begin. A report of each rung goes to .ladder/.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import page
from rich.console import Console

from results import LadderError, table

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
MODELS = ROOT / ".models"
NAME = "smollm2-135m-instruct"
POLICY = HERE / "policy.yaml"
REFUSED = 3
EXIT_FAILED = (1, 2)
# The decision is known beforehand at these rungs: not one of these.
IMPOSSIBLE = {"bf16": ("fallback", "restrict_route"), "int2": ("promote", "keep_mirroring", "restrict_route")}


@dataclass(frozen=True)
class Rung:
    """One build of the model.

    Attributes:
        name: its number format.
        model: its folder in ``.models``.
        served: how vLLM runs it, for people.
        weights: number format of the weights as vLLM has them; None: what the engine says.
        otherwise: the rung to take where this machine cannot run it.
    """

    name: str
    model: str
    served: str
    weights: str | None = None
    otherwise: Rung | None = None


@dataclass(frozen=True)
class Run:
    """One climb.

    Attributes:
        out: where its files go.
        limit: at most so many prompts of each route; None: all.
        again: decide again from the answers of an earlier run.
        console: where it says what it does.
    """

    out: Path
    limit: int | None
    again: bool
    console: Console


def rounded(bits: int) -> Rung:
    """Weights rounded to so many bits."""
    return Rung(f"int{bits}", f"{NAME}-int{bits}-rounded", f"weights rounded to int{bits}, served in bf16", "bf16")


RUNGS = (
    Rung("bf16", NAME, "bf16, the baseline once more in another order", "bf16"),
    Rung("int8", f"{NAME}-w8a8", "int8 weights and activations (w8a8)"),
    Rung("int4", f"{NAME}-w4a16", "int4 weights (w4a16)", otherwise=rounded(4)),
    rounded(3),
    rounded(2),
)


def main() -> int:
    """Climb; return the exit status: 0 when the decision is right at both ends."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--limit", type=int, help="at most so many prompts of each route (default: all, 251 in all)")
    parser.add_argument("--out", type=Path, default=ROOT / ".ladder", help="where the files go (default: .ladder)")
    parser.add_argument("--again", action="store_true", help="decide again from the answers that are there: no engines")
    parser.add_argument("--docs", action="store_true", help="also write docs/ladder.md and its pictures (Chromium)")
    options = parser.parse_args()
    console = Console(highlight=False)
    try:
        results = climb(Run(options.out.absolute(), options.limit, options.again, console))
        if options.docs:
            page.write(results, ROOT / "docs")
    except LadderError as error:
        console.print(f"\nthe ladder stopped: {error}", style="red", markup=False)
        return 1
    except KeyboardInterrupt:
        console.print("\ninterrupted", style="red")
        return 1
    console.print("", table(results))
    wrong = [result["rung"] for result in results if result["action"] in IMPOSSIBLE.get(result["rung"], ())]
    for rung in wrong:
        console.print(f"✗ the decision on {rung} is wrong", style="red")
    return 1 if wrong else 0


def climb(run: Run) -> list[dict[str, Any]]:
    """Let the baseline and each rung answer, and decide on each; return what came of it."""
    if run.again:
        return [decide(run, rung, place) for rung, place in answered(run)]
    shutil.rmtree(run.out, ignore_errors=True)
    run.out.mkdir(parents=True)
    baseline = run.out / "baseline"
    ask(run, Rung("baseline", NAME, "bf16", "bf16"), "baseline", baseline, order=0)
    results = []
    for order, rung in enumerate(RUNGS, 1):
        place = run.out / rung.name
        served = ask(run, rung, "candidate", place / "store", order=order)
        shutil.copytree(baseline, place / "store", dirs_exist_ok=True)
        results.append(decide(run, served, place))
    return results


def answered(run: Run) -> list[tuple[Rung, Path]]:
    """The rungs whose answers are there from an earlier run, and where."""
    found = []
    for rung in RUNGS:
        place = run.out / rung.name
        if not (place / "model.txt").is_file():
            raise LadderError(f"there are no answers of {rung.name} in {run.out}; run it without --again")
        model = (place / "model.txt").read_text().strip()
        found.append((rung if rung.model == model or rung.otherwise is None else rung.otherwise, place))
    return found


def ask(run: Run, rung: Rung, arm: str, store: Path, *, order: int) -> Rung:
    """Let a variant answer all prompts; return the rung that did, which is another where vLLM refuses this one here."""
    folder = MODELS / rung.model
    if not folder.is_dir():
        raise LadderError(f"there is no .models/{rung.model}; run: make ladder")
    store.parent.mkdir(exist_ok=True)
    log = run.out / f"{rung.model}-{arm}.log"
    variant = f"{NAME}-again" if order and rung.model == NAME else rung.model
    command = [sys.executable, str(HERE / "answer.py"), str(folder), "--arm", arm, "--store", str(store)]
    command += ["--variant", variant, "--order", str(order)]
    command += ["--format", rung.weights] if rung.weights else []
    command += [] if run.limit is None else ["--limit", str(run.limit)]
    started = time.monotonic()
    with run.console.status(f"{rung.name}: {rung.served}"), log.open("wb") as output:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, check=False, env=environment()
        )
    if done.returncode == REFUSED and rung.otherwise is not None:
        shutil.rmtree(store, ignore_errors=True)  # the errors that it answered with
        reason = log.read_text(errors="replace").splitlines()[-1]
        run.console.print(f"  this machine cannot run {rung.served}; vLLM says: {reason}", markup=False)
        return ask(run, rung.otherwise, arm, store, order=order)
    if done.returncode:
        raise LadderError(f"{rung.served} did not answer (status {done.returncode}); the log is {log}")
    (store.parent / "model.txt").write_text(rung.model + "\n")
    run.console.print(f"  {rung.name:<9} {rung.served}: answered in {time.monotonic() - started:.0f} s")
    return rung


def environment() -> dict[str, str]:
    """The user's environment; threads that spin while they wait slow vLLM down on a busy machine."""
    return {"OMP_WAIT_POLICY": "passive", **os.environ}


def decide(run: Run, rung: Rung, place: Path) -> dict[str, Any]:
    """Compare the two answers to each prompt, decide, and write the report."""
    store, policy = str(place / "store"), ["--policy", str(POLICY)]
    with run.console.status(f"{rung.name}: paired checks, decision, report"):
        command("evaluate", store, "--paired")
        decision = json.loads(command("gate", store, *policy, "--format", "json"))
        command("report", store, *policy, "--output", str(place / "report.html"))
    (place / "decision.json").write_text(json.dumps(decision, indent=2) + "\n")
    run.console.print(f"            {decision['verdict']}", markup=False)
    cells = {cell["measure"]: cell for cell in decision["cells"] if not cell["scope"]}
    return {
        "rung": rung.name,
        "served": rung.served,
        "action": decision["decision"]["action"],
        "verdict": decision["verdict"],
        "pairs": decision["books"]["clean_pairs"],
        "cells": cells,
        "report": str(place / "report.html"),
    }


def command(name: str, *arguments: str) -> str:
    """Run ``traceai-vllm``; return what it prints."""
    done = subprocess.run(
        [sys.executable, "-m", "traceai_vllm.cli", name, *arguments], capture_output=True, text=True, check=False
    )
    if done.returncode in EXIT_FAILED:
        raise LadderError(f"traceai-vllm {name} failed: {(done.stderr or done.stdout).strip()[-2000:]}")
    return done.stdout


if __name__ == "__main__":
    sys.exit(main())
