"""Run pip quietly: a count while it works, its errors in full when it fails. Standard library only."""

from __future__ import annotations

import os
import subprocess
from collections import deque
from typing import TYPE_CHECKING

from progress import step

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_NOISE = ("WARNING: Location ", "WARNING: Running pip as", "[notice]", "Looking in ")
_TAIL = 30

_NO_CPU_TORCH = (
    "pip found no CPU build of PyTorch in the package indexes it is set up with. Either give it PyTorch's\n"
    "CPU wheel index (see pytorch.org, Get Started) as --extra-index-url, for instance by the environment\n"
    "variable PIP_EXTRA_INDEX_URL, and run this again; or install that build first, and run this again:\n"
    "    uv pip install --python {python} --torch-backend=cpu torch=={version}"
)


class PipFailed(Exception):
    """pip ended with an error; the message holds what it said and, where known, what to do."""


def pip(python: Path, title: str, arguments: list[str]) -> None:
    """Run pip in the environment of ``python`` as one step.

    Args:
        python: the environment's interpreter.
        title: what to show.
        arguments: pip's own, beginning with the command.

    Raises:
        PipFailed: pip ended with an error.
    """
    command = [str(python), "-m", "pip", *arguments, "--disable-pip-version-check", "--no-input"]
    if arguments[0] == "install":
        # Compiling ahead what may never be imported takes a minute for vLLM; Python compiles what it imports, and keeps
        # it, or is told not to (setup_env.compile_packages).
        command += ["--progress-bar", "off", "--no-compile"]
    environment = {**os.environ, "PIP_ROOT_USER_ACTION": "ignore", "PYTHONUNBUFFERED": "1", "NO_COLOR": "1"}
    # A user's PYTHONPATH or user site must not pass for installed packages.
    environment = {k: v for k, v in environment.items() if k != "PYTHONPATH"} | {"PYTHONNOUSERSITE": "1"}
    with step(title) as note:
        tail, errors, status = _watch(command, environment, note)
        if status != 0:
            raise PipFailed(_explain(python, title, tail, errors))


def _watch(
    command: list[str], environment: dict[str, str], note: Callable[[str], None]
) -> tuple[deque[str], list[str], int]:
    """Run the command, telling ``note`` how far it is; return last lines, errors and exit status."""
    tail: deque[str] = deque(maxlen=_TAIL)
    errors: list[str] = []
    collected = 0
    with subprocess.Popen(
        command, env=environment, text=True, errors="replace",
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        for raw in process.stdout:
            line = raw.rstrip()
            if not line or line.lstrip().startswith(_NOISE):
                continue
            tail.append(line)
            errors += [line] if line.startswith("ERROR:") else []
            collected += line.startswith("Collecting ")
            if news := _progress(line, collected):
                note(news)
    return tail, errors, process.returncode


def _progress(line: str, collected: int) -> str:
    """One short phrase if the line says something new about where pip is."""
    if line.startswith("Collecting "):
        return f"{collected} packages found"
    if line.startswith("Installing collected packages:"):
        return f"installing {line.count(',') + 1} packages"
    if line.startswith(("Building", "Preparing", "Installing build", "Getting requirements")):
        return line[:60]
    return ""


def _explain(python: Path, title: str, tail: deque[str], errors: list[str]) -> str:
    """What pip said at its end, and the way out where it is known."""
    shown = "\n".join(f"    {line}" for line in tail)
    text = f"pip could not {title}; its last lines:\n{shown}"
    lost = [line for line in errors if line not in tail]
    if lost:
        text += "\n  and before them:\n" + "\n".join(f"    {line}" for line in lost)
    missing = next((line for line in [*errors, *tail] if "torch==" in line and "+cpu" in line), "")
    if missing:
        version = missing.split("torch==")[1].split("+cpu")[0] + "+cpu"
        text += "\n\n" + _NO_CPU_TORCH.format(python=python, version=version)
    return text
