"""Whether this version of vLLM has the functions that are hooked.

vLLM is imported and instrumented in a process of its own: the import takes seconds, may print, and may end a process
whose libraries do not fit together.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from traceai_vllm.cli.findings import OK, PROBLEM, WARNING, Finding

if TYPE_CHECKING:
    from collections.abc import Iterator

_TIMEOUT_S = 180.0


def findings() -> Iterator[Finding]:
    """Import vLLM in another process, and say which hook points it has."""
    with tempfile.TemporaryDirectory() as directory:
        result = Path(directory) / "hooks.json"
        try:
            done = subprocess.run(
                [sys.executable, "-m", __name__, str(result)],
                capture_output=True,
                text=True,
                timeout=_TIMEOUT_S,
                check=False,
            )
        except subprocess.TimeoutExpired:
            yield Finding(
                "hooks",
                PROBLEM,
                f"importing vLLM took more than {_TIMEOUT_S:g} s.",
                "try `python -X importtime -c 'import vllm'`",
            )
            return
        found = json.loads(result.read_text()) if result.exists() else {}
        yield judged(found) if "matched" in found else _failed(done, found.get("vllm"))


def _failed(done: subprocess.CompletedProcess[str], version: str | None) -> Finding:
    last = (done.stderr.strip().splitlines() or ["no message"])[-1]
    message = f"vLLM cannot be imported: {last}"
    fix = "make `python -c 'import vllm'` work first; often torch is of another version than vLLM was built for"
    if version is not None:
        message = f"vLLM {version} cannot be instrumented: {last}"
        fix = "report it with the output of `traceai-vllm doctor --json`"
    return Finding("hooks", PROBLEM, message, fix, {"exit_code": done.returncode, "stderr": done.stderr[-4000:]})


def judged(found: dict[str, Any]) -> Finding:
    """Return the finding on what the other process saw: the keys that :func:`_look` writes."""
    matched, required = found["matched"], set(found["required"])
    there = [name for name, is_there in matched.items() if is_there]
    missing = sorted(required.difference(there))
    details = {"matched": sorted(there), "absent": sorted(set(matched).difference(there)), "vllm": found["vllm"]}
    if missing:
        return Finding(
            "hooks",
            PROBLEM,
            f"vLLM {found['vllm']} has no {', '.join(missing)}: some requests or their ends will not be seen.",
            "use a version of vLLM that docs/compatibility.md names, or report it with this output",
            details,
        )
    if found["lost"]:
        return Finding(
            "hooks",
            WARNING,
            f"vLLM {found['vllm']} has all hook points that requests pass, but "
            + "; ".join(f"no {name}: {lost}" for name, lost in sorted(found["lost"].items()))
            + ".",
            "nothing, if docs/compatibility.md says so of this version; else report it with this output",
            details,
        )
    return Finding(
        "hooks",
        OK,
        f"vLLM {found['vllm']} has all {len(required)} hook points that requests pass, and {len(there)} of "
        f"{len(matched)} in all (the others are of other versions).",
        details=details,
    )


def _look(result: Path) -> None:
    """In the process of its own: import what is hooked, instrument it, and write down what matched."""
    import vllm

    # Far enough to tell an error of vLLM's from one of ours.
    result.write_text(json.dumps({"vllm": vllm.__version__}))

    from opentelemetry.metrics import NoOpMeterProvider
    from opentelemetry.trace import NoOpTracerProvider

    import traceai_vllm
    from traceai_vllm.engine import patches

    for module in dict.fromkeys(patch.module for patch in patches.PATCHES):
        try:
            import_module(module)
        except ImportError:  # of another version, or of a library that is not installed
            continue
    # Providers that do nothing: looking must not send anything.
    traceai_vllm.instrument(tracer_provider=NoOpTracerProvider(), meter_provider=NoOpMeterProvider())
    required = [
        str(patch) for patch in patches.PATCHES if patch.required and patch.only_if(sys.modules.get(patch.module))
    ]
    found = {"matched": patches.matched(), "required": required, "lost": patches.missing(), "vllm": vllm.__version__}
    result.write_text(json.dumps(found))


if __name__ == "__main__":
    _look(Path(sys.argv[1]))
