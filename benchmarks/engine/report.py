"""Writes the results as Markdown."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from benchmarks.engine import table, verdicts

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from benchmarks.engine.verdicts import Row

BEGIN, END = "<!-- engine: written by `make bench` -->", "<!-- engine: end -->"
_TITLES = {
    "A1": "A1: throughput",
    "A2": "A2: CPU added per request",
    "A3": "A3: sampled off, uninstrumented",
    "A4": "A4: nothing per token",
    "A5": "A5: content on the span",
    "A6": "A6: import",
    "A7": "A7: throughput with every answer evaluated",
}
_HEAD = (
    "| what | target | median, 95 % interval | undisturbed | quartiles; extremes | verdict |",
    "|---|---|---|---|---|---|",
)


def render(parts: Mapping[str, Any], run: Mapping[str, str]) -> str:
    """Return the section of RESULTS.md about the engine instrumentation."""
    rows = table.rows(parts)
    judged = [row.verdict for row in rows if row.verdict]
    met, not_met = judged.count(verdicts.MET), judged.count(verdicts.NOT_MET)
    lines = [
        "## Engine instrumentation",
        "",
        f"Of {len(judged)} judged figures {met} meet their target and {not_met} do not; for the other "
        f"{len(judged) - met - not_met} the rounds cannot tell.",
        "",
        *(f"- {name}: {value}" for name, value in run.items()),
        "",
        "| part | rounds | minutes | begun | commit | load before |",
        "|---|---|---|---|---|---|",
        *(_of_part(name, part) for name, part in parts.items()),
        "",
        "Figures are medians over interleaved rounds; ratios and differences are taken within a round. *Undisturbed*",
        "is the same from each arm's 10th percentile: other work on the machine only ever adds time. A target is met,",
        "or not, where the whole interval says so. Lines that begin with a dash have no target; they are there to",
        "compare with. What each arm is, and why, is in [README.md](README.md).",
    ]
    for target, title in _TITLES.items():
        mine = [row for row in rows if row.target == target]
        if mine:
            lines += ["", f"### {title}", "", *_HEAD]
            lines += [_line(row) for row in mine]
    return "\n".join(lines) + "\n"


def write(section: str, path: Path) -> None:
    """Put the section into RESULTS.md; the sections of other benchmarks stay as they are."""
    block = f"{BEGIN}\n{section}{END}\n"
    text = path.read_text(encoding="utf-8") if path.exists() else "# Results\n\n"
    if BEGIN in text and END in text:
        before, rest = text.split(BEGIN, 1)
        text = before + block + rest.split(END, 1)[1].lstrip("\n")
    else:
        text = text.rstrip("\n") + "\n\n" + block
    path.write_text(text, encoding="utf-8")


def _of_part(name: str, part: Mapping[str, Any]) -> str:
    minutes = f"{part['took_s'] / 60:.1f}"
    return f"| {name} | {part['rounds']} | {minutes} | {part['date']} | {part['commit']} | {part['load']} |"


def _line(row: Row) -> str:
    return f"| {row.what} | {row.limit} | {row.measured} | {row.undisturbed} | {row.spread} | {row.verdict} |"
