"""What the benchmark needs beside this project: installed on first use, in folders of their own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "scripts"))

from pip_runner import PipFailed, pip  # noqa: E402 - beside this package, not inside

BFCL = ROOT / ".bfcl"
FUTUREAGI = ROOT / ".venv-futureagi"


def bfcl() -> Path | None:
    """Return the folder with bfcl-eval, without its many dependencies; None where it cannot be had."""
    here = Path(sys.executable)
    return BFCL if _have(BFCL / "bfcl_eval", here, ["--no-deps", "--target", str(BFCL), "bfcl-eval"]) else None


def futureagi() -> Path | None:
    """Return the Python of an environment with FutureAGI's ai-evaluation; None where it cannot be had."""
    python = FUTUREAGI / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", str(FUTUREAGI)], check=True)
    marker = FUTUREAGI / "has-ai-evaluation"
    if not _have(marker, python, ["ai-evaluation"]):
        return None
    marker.touch()
    return python


def _have(wanted: Path, python: Path, arguments: list[str]) -> bool:
    if wanted.exists():
        return True
    try:
        pip(python, f"install {arguments[-1]} for the comparison", ["install", *arguments])
    except PipFailed as error:
        print(f"{arguments[-1]} is left out: {error}", file=sys.stderr)
        return False
    return True
