"""LiteLLM's proxy in an environment of its own: its dependencies are many, and pinned to versions that are not ours."""

from __future__ import annotations

import subprocess
import sys
import venv
from pathlib import Path

from tqdm import tqdm

FOLDER = Path(__file__).resolve().parents[2] / ".venv-litellm"
LITELLM = FOLDER / "bin" / "litellm"
VERSION = "1.106.2"


def prepare() -> bool:
    """Make the environment where it is not there yet, and return whether the proxy can be started."""
    stamp = FOLDER / ".complete"
    if stamp.exists() and stamp.read_text() == VERSION:
        return True
    command = [str(FOLDER / "bin" / "python"), "-m", "pip", "install", f"litellm[proxy]=={VERSION}"]
    with tqdm(desc=f"installing LiteLLM {VERSION} into {FOLDER.name}", unit=" lines") as progress:
        venv.create(FOLDER, with_pip=True)
        install = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        assert install.stdout is not None
        lines = []
        for line in install.stdout:
            lines.append(line)
            progress.update()
    if install.wait() == 0:
        stamp.write_text(VERSION)
        return True
    print(f"LiteLLM cannot be installed, and is left out:\n{''.join(lines[-5:])}", file=sys.stderr)
    return False
