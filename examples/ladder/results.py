"""What came of each rung, side by side."""

from __future__ import annotations

from typing import Any

from rich.table import Table

_WORDS = {"healthy": "ok", "regressed": "worse", "not_enough_evidence": "?"}


class LadderError(Exception):
    """The ladder cannot go on; the message says what happened and where the log is."""


def table(results: list[dict[str, Any]]) -> Table:
    """The rungs side by side: fail rate of the baseline and of the rung, by what was looked at."""
    names = guarded(results)
    made = Table("rung", "action", "pairs", *names, title="share of answers that fail, bf16 → rung")
    for result in results:
        cells = (rates(result["cells"][name]) for name in names)
        made.add_row(result["rung"], result["action"], str(result["pairs"]), *cells)
    return made


def guarded(results: list[dict[str, Any]]) -> list[str]:
    """What the policy guards over all traffic."""
    return [name for name, cell in results[0]["cells"].items() if cell["guarded"]]


def rates(cell: dict[str, Any]) -> str:
    """Both fail rates, and the verdict on them."""
    if cell["baseline"] is None:
        return "-"
    return f"{cell['baseline']:.0%} → {cell['candidate']:.0%} {_WORDS[cell['verdict']]}"
