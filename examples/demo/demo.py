"""The demo: real vLLM, twice, behind the gateway: from a user's request to a release decision that is obeyed.

    make demo

A baseline and a quantized candidate are served by `vllm serve`. Users send prompts of six routes to the gateway, which
answers from the baseline and mirrors to the candidate; both answers are scored, users give feedback, a policy decides,
and the gateway obeys. Exit status 0 means that all of this happened, not that the candidate was good.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import prompt_files
from children import exit_on_terminate
from processes import DemoError, Variant, gateway, refusal, vllm_serve
from receiver import Receiver, ReceiverError
from refusals import Refusals
from rich.console import Console
from settings import ANSWER_SECONDS, Place, write_config
from summary import Findings
from traffic import give_feedback, send_all

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).resolve().parents[2]
MODELS = ROOT / ".models"
POLICY = Path(__file__).parent / "policy.yaml"
NAME = "smollm2-135m-instruct"
BASELINE = Variant("baseline", "bf16", "bf16", MODELS / NAME)
# In order of preference: the first that this machine can run is the candidate.
CANDIDATES = (
    Variant("candidate", "int4", "int4 weights (w4a16)", MODELS / f"{NAME}-w4a16"),
    Variant("candidate", "int8", "int8 weights and activations (w8a8)", MODELS / f"{NAME}-w8a8"),
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
        return show(Place(options.out.absolute()), options.per_route, console)
    except (ReceiverError, DemoError) as error:
        console.print(f"\nthe demo stopped: {error}", style="red", markup=False)
    except KeyboardInterrupt:
        console.print("\ninterrupted", style="red")
    return 1


def show(place: Place, per_route: int | None, console: Console) -> int:
    """Serve, mirror, decide; then print what the spans say."""
    started = time.monotonic()
    if missing := [model.name for model in (BASELINE.model, *(c.model for c in CANDIDATES)) if not model.is_dir()]:
        raise DemoError(f"there is no .models/{missing[0]} yet; run: make setup")
    clear(place)
    routes = prompt_files.load(per_route)
    with Receiver(place.folder / "receiver.log") as receiver:
        with ExitStack() as running:
            step(console, "1", "two servers: vllm serve, with TRACEAI_VLLM_ENABLED=1 and nothing else changed")
            baseline = running.enter_context(vllm_serve(BASELINE, place.folder, receiver.endpoint))
            candidate = choose(place, console)
            other = running.enter_context(vllm_serve(candidate, place.folder, receiver.endpoint))
            for server in (baseline, other):
                server.wait_until_ready(console)

            step(console, "2", "the gateway: users are answered by the baseline, the candidate gets a copy")
            servers = {"baseline": (BASELINE, baseline), "candidate": (candidate, other)}
            config, url, admin = write_config(place, servers, routes)
            running.enter_context(gateway(config, url, admin, place.folder, receiver.endpoint)).wait_until_ready(
                console
            )
            answers = send_all(url, routes, console)
            books = wait_for_books(admin, len(answers), console)
            wrong = give_feedback(url, answers)
            console.print(f"  feedback: thumbs down for {wrong} of {len(answers)} answers")

            step(console, "3", "the decision: traceai-vllm gate, by the policy in examples/demo/policy.yaml")
            wait_for_scores(place, len(answers), console)
            verdict = decide(place, console)
            obeyed = wait_until_obeyed(admin, console)
        findings = Findings(place, answers, books)
        received = receiver.wait_for(len(findings.stored))
    for table in findings.tables():
        console.print("", table)
    problems = findings.problems(received) + ([] if obeyed else ["the gateway did not obey the decision"])
    for problem in problems:
        console.print(f"✗ {problem}", style="red", markup=False)
    if not problems:
        console.print(f"\n[green]✓[/green] the receiver and the stores have the same {len(findings.stored)} spans")
    where_next(place.folder, console)
    console.print(f"\n{verdict}", markup=False)
    console.print(f"\ndone in {time.monotonic() - started:.0f} s")
    return 1 if problems else 0


def step(console: Console, number: str, what: str) -> None:
    """Say what comes now."""
    console.print(f"\n[bold]{number}.[/bold] {what}")


def clear(place: Place) -> None:
    """Make the output folder and drop what an earlier run left in it."""
    for folder in (place.store, place.engines, place.folder / "logs"):
        shutil.rmtree(folder, ignore_errors=True)
    for file in (place.decision, place.report, place.folder / "books"):
        file.unlink(missing_ok=True)
    (place.folder / "logs").mkdir(parents=True)


def choose(place: Place, console: Console) -> Variant:
    """Return the first candidate that this machine can run; say why not the ones before it."""
    known = Refusals(MODELS / "refused-here.json")
    for candidate in CANDIDATES[:-1]:
        before = known.reason(candidate)
        if before is None:
            console.print(f"  can this machine run {candidate.label}? generating one token")
        reason = before or refusal(candidate, place.folder)
        if reason is None:
            return candidate
        known.add(candidate, reason)
        when = f" (found earlier; delete .models/{known.path.name} to try again)" if before else ""
        console.print(f"  this machine cannot run {candidate.label}; vLLM says: {reason}{when}", markup=False)
    known.save()
    return CANDIDATES[-1]


def wait_for_books(admin: str, requests: int, console: Console) -> list[dict[str, int]]:
    """Wait until the mirror is done; return the gateway's books, which say what became of every sampled request."""

    def settled() -> bool:
        books = httpx.get(f"{admin}/books").json()  # of the repeats for the noise floor too
        sampled = sum(book["sampled"] for book in books if book["target"] == "candidate")
        return sampled >= requests and not any(book["in_flight"] for book in books)

    if not wait(settled):
        raise DemoError(f"the mirror was not done after {ANSWER_SECONDS} s; the logs are in .demo/logs")
    books: list[dict[str, int]] = httpx.get(f"{admin}/books").json()
    mirrored = [book for book in books if book["target"] == "candidate"]
    sampled, paired = (sum(book[column] for book in mirrored) for column in ("sampled", "paired"))
    console.print(f"  books: {sampled} requests sampled, {paired} answered by both")
    return books


def wait_for_scores(place: Place, requests: int, console: Console) -> None:
    """Evaluators run off the users' path, so their scores come a little later."""
    from summary import arms_stored

    with console.status("waiting for the last scores"):
        if not wait(lambda: arms_stored(place.store) >= 2 * requests):
            raise DemoError("scores are missing: fewer spans than answers in the store; see .demo/logs/gateway.log")


def decide(place: Place, console: Console) -> str:
    """Run the commands that compare, decide and report; return the verdict."""
    store, policy = str(place.store), str(POLICY)
    console.print(command("compare", store, "--policy", policy), markup=False)
    command("report", store, "--policy", policy, "--output", str(place.report))
    return command("gate", store, "--policy", policy, "--decision", str(place.decision))


def command(name: str, *arguments: str) -> str:
    """Run ``traceai-vllm``; return what it prints. Only exit status 2 is a failure: others are decisions."""
    done = subprocess.run(
        [sys.executable, "-m", "traceai_vllm.cli", name, *arguments],
        env={**os.environ, "COLUMNS": "140"},  # the tables' own width: a pipe has none
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode in (1, 2):
        raise DemoError(f"traceai-vllm {name} failed: {done.stderr.strip()[-2000:]}")
    return done.stdout.rstrip()


def wait_until_obeyed(admin: str, console: Console) -> bool:
    """Wait until the gateway has read the decision; say how it serves each route now."""
    started = time.monotonic()
    if not wait(lambda: httpx.get(f"{admin}/status").json()["decision"] is not None, seconds=10):
        return False
    modes = httpx.get(f"{admin}/status").json()["routes"]
    console.print(
        f"  obeyed within {time.monotonic() - started:.1f} s: " + ", ".join(f"{r}: {m}" for r, m in modes.items())
    )
    return True


def wait(condition: Callable[[], bool], seconds: float = ANSWER_SECONDS) -> bool:
    """Wait until a condition holds; return whether it did in time."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.2)
    return False


def where_next(folder: Path, console: Console) -> None:
    """Where to look, and how to go on."""
    shown, tool, policy = (
        path.relative_to(ROOT) if path.is_relative_to(ROOT) else path
        for path in (folder, Path(sys.executable).with_name("traceai-vllm"), POLICY)
    )
    for line in (
        "",
        "Where to look next",
        f"  {shown}/report.html    go or no-go, where, and why: open it in a browser",
        f"  {shown}/gateway.yaml   what the gateway was told; decision.json beside it is what it obeys",
        f"  {shown}/store          spans of both arms with their scores, as tables:",
        f"                       {tool} compare {shown}/store --policy {policy}",
        f"  {shown}/engines        the engines' spans: traceai_vllm.store.connect('{shown}/engines') opens them",
        f"  {shown}/receiver.log   the same spans as the receiver got them; vLLM's own logs are in {shown}/logs",
        "  docs/quickstart.md   the same in your own service, in two lines",
        "To see them in your collector or Jaeger: OTEL_EXPORTER_OTLP_ENDPOINT=http://localhost:4318 make demo",
    ):
        console.print(line, markup=False)


if __name__ == "__main__":
    sys.exit(main())
