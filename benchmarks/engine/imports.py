"""Part ``imports``: what ``import traceai_vllm; instrument()`` takes over OpenTelemetry's own imports (target A6).

With bytecode for both, as ``pip install`` leaves it: without it (a fresh checkout, ``PYTHONDONTWRITEBYTECODE``) most of
our time would be Python's compiler's, and none of OpenTelemetry's.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from functools import partial
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.engine.rounds import Arm, Samples, run_rounds

_OPENTELEMETRY = """
import opentelemetry.sdk.trace, opentelemetry.sdk.metrics, opentelemetry.instrumentation.instrumentor, wrapt
provider = opentelemetry.sdk.trace.TracerProvider()
"""
_OURS = """
import traceai_vllm
traceai_vllm.instrument(tracer_provider=provider)
"""
_PROGRAM = """
import sys, time
start = time.perf_counter()
{body}
seconds = time.perf_counter() - start
import json
print(json.dumps({{"seconds": seconds, "heavy": sorted({{"torch", "vllm"}} & sys.modules.keys())}}))
"""


class Program:
    """A Python program in a fresh process that says how long its body took.

    Args:
        body: what is timed.
        bytecode: the directory where Python keeps the bytecode of what it imports.
    """

    def __init__(self, body: str, bytecode: str) -> None:
        self._command = [sys.executable, "-c", _PROGRAM.format(body=body)]
        self._environment = {**os.environ, "PYTHONPYCACHEPREFIX": bytecode}
        self._environment.pop("PYTHONDONTWRITEBYTECODE", None)
        self.seconds: list[float] = []
        self.heavy: set[str] = set()

    def run(self) -> int:
        """Run it once; counts as one request."""
        done = subprocess.run(self._command, check=True, capture_output=True, text=True, env=self._environment)
        result = json.loads(done.stdout)
        self.seconds.append(result["seconds"])
        self.heavy.update(result["heavy"])
        return 1


def run(rounds: int) -> dict[str, Any]:
    """Measure, and return the samples: seconds inside the fresh process."""
    nothing = partial(int, 0)
    with TemporaryDirectory() as bytecode:
        bodies = {"opentelemetry": _OPENTELEMETRY, "ours": _OPENTELEMETRY + _OURS}
        programs = {name: Program(body, bytecode) for name, body in bodies.items()}
        # The first of its rounds, which does not count, writes the bytecode.
        run_rounds("imports", [Arm(name, program.run, nothing) for name, program in programs.items()], rounds)
    samples = {name: Samples(program.seconds[-rounds:]) for name, program in programs.items()}
    return {
        "facts": {"heavy_modules": sorted(programs["ours"].heavy)},
        "groups": {"imports": samples},
    }
