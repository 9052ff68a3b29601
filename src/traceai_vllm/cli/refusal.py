"""How a command says that it cannot do its work: in one line that names the fix."""

from __future__ import annotations

import sys

from traceai_vllm.cli.main import CANNOT


def refuse(command: str, error: Exception, extras: str) -> int:
    """Say why a command cannot do its work, and return its exit code.

    Args:
        command: its name.
        error: what stands in the way.
        extras: those of traceai-vllm that the command needs, as they stand in ``pip install``.
    """
    print(f"traceai-vllm {command}: {reason(error, extras)}", file=sys.stderr)
    return CANNOT


def reason(error: Exception, extras: str) -> str:
    """Return what an error says; of a library that is missing, the line to type."""
    # Errors of ours say it already. Python's own names a module, and no package.
    if isinstance(error, ModuleNotFoundError) and error.name is not None:
        module = error.name.partition(".")[0]
        return f"it needs {module}, which is not installed: pip install 'traceai-vllm[{extras}]'"
    return str(error)
