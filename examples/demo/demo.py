"""The demo: real vLLM serves the same prompts on two variants of a model, and every request is a span.

    make demo

A receiver takes the spans over OTLP, the local store keeps them too, and the table at the end is a query on the store.
Exit status 0 means that every prompt was served on both variants and every span arrived in both places.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import time
from pathlib import Path

import prompt_files
from children import exit_on_terminate
from receiver import Receiver, ReceiverError
from refusals import Refusals
from rich.console import Console
from summary import Findings
from variants import Place, Variant, VariantError, run

ROOT = Path(__file__).resolve().parents[2]
MODELS = ROOT / ".models"
NAME = "smollm2-135m-instruct"
BASELINE = Variant("baseline", "bf16", MODELS / NAME)
# In order of preference: the first that this machine can run is the candidate.
CANDIDATES = (
    Variant("candidate", "int4 weights (w4a16)", MODELS / f"{NAME}-w4a16"),
    Variant("candidate", "int8 weights and activations (w8a8)", MODELS / f"{NAME}-w8a8"),
)


def main() -> int:
    """Run the demo; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--per-route", type=int, help="prompts per route (default: all, about ten)")
    parser.add_argument("--out", type=Path, default=ROOT / ".demo", help="where the files go (default: .demo)")
    options = parser.parse_args()
    exit_on_terminate()
    console = Console(highlight=False, soft_wrap=not sys.stdout.isatty(), width=None if sys.stdout.isatty() else 150)
    try:
        return show(options.out.absolute(), options.per_route, console)
    except (ReceiverError, VariantError) as error:
        console.print(f"\nthe demo stopped: {error}", style="red", markup=False)
    except KeyboardInterrupt:
        console.print("\ninterrupted", style="red")
    return 1


def show(out: Path, per_route: int | None, console: Console) -> int:
    """Serve both variants, then print what the spans and the answers say."""
    started = time.monotonic()
    if missing := [model.name for model in (BASELINE.model, *(c.model for c in CANDIDATES)) if not model.is_dir()]:
        raise VariantError(f"there is no .models/{missing[0]} yet; run: make setup")
    clear(out)
    prompts = sum(map(len, prompt_files.load(per_route).values()))
    with Receiver(out / "receiver.log") as receiver:
        console.print(f"receiver: OTLP at {receiver.endpoint}; {prompts} prompts for each variant")
        place = Place(out, receiver.endpoint, per_route)
        serve_baseline(place, console)
        serve_candidate(place, console)
        findings = Findings(place.store, {arm: place.answers(arm) for arm in ("baseline", "candidate")})
        received = receiver.wait_for(len(findings.stored))
    for table in (*findings.span_tables(), findings.score_table(), findings.answer_table()):
        console.print("", table)
    console.print("The requests of a route are sent as one batch: each waits for the others, on both variants alike.")
    problems = findings.problems(received, prompts)
    for problem in problems:
        console.print(f"✗ {problem}", style="red", markup=False)
    if not problems:
        console.print(f"\n[green]✓[/green] the receiver and the store have the same {len(received)} spans")
    where_next(out, console)
    console.print(f"\ndone in {time.monotonic() - started:.0f} s")
    return 1 if problems else 0


def clear(out: Path) -> None:
    """Make the output folder and drop what an earlier run left in it."""
    for name in ("store", "answers", "logs"):
        shutil.rmtree(out / name, ignore_errors=True)
    for name in ("answers", "logs"):
        (out / name).mkdir(parents=True)


def serve_baseline(place: Place, console: Console) -> None:
    """Serve the baseline; there is no demo without it."""
    if reason := run(BASELINE, place, console):
        raise VariantError(f"vLLM cannot run the baseline here: {reason}; its log is in {place.folder / 'logs'}")


def serve_candidate(place: Place, console: Console) -> None:
    """Serve the first candidate that this machine can run, and say why not the ones before it."""
    known = Refusals(MODELS / "refused-here.json")
    reason = ""
    for candidate in CANDIDATES:
        before = known.reason(candidate)
        reason = before or run(candidate, place, console) or ""
        if not reason:
            known.save()
            return
        known.add(candidate, reason)
        when = f" (found earlier; delete .models/{known.path.name} to try again)" if before else ""
        console.print(f"  this machine cannot run {candidate.label}; vLLM says: {reason}{when}", markup=False)
    raise VariantError(f"vLLM can run none of the candidates here: {reason}; the logs are in {place.folder / 'logs'}")


def where_next(out: Path, console: Console) -> None:
    """Where to look, and how to go on."""
    shown = out.relative_to(ROOT) if out.is_relative_to(ROOT) else out
    for line in (
        "",
        "Where to look next",
        f"  {shown}/store         the spans: traceai_vllm.store.connect('{shown}/store') opens them in DuckDB",
        f"  {shown}/receiver.log  the same spans as the receiver got them, every attribute with its type",
        f"  {shown}/answers       both answers to every prompt; vLLM's own logs are in {shown}/logs",
        "  docs/quickstart.md  the same in your own service, in two lines",
        "To see them in your collector or Jaeger: OTEL_EXPORTER_OTLP_ENDPOINT=http://localhost:4318 make demo",
    ):
        console.print(line, markup=False)


if __name__ == "__main__":
    sys.exit(main())
