"""What a run gave, as ``docs/compatibility.json`` (raw) and ``docs/compatibility.md`` (for readers)."""

from __future__ import annotations

import datetime
import json
import platform
from typing import TYPE_CHECKING, Any

from compat.versions import order

if TYPE_CHECKING:
    from pathlib import Path

    from compat.versions import Release

    Result = dict[str, Any]

# Attributes that some versions cannot give; named in the table where they are missing.
_LOAD = ("traceai.engine.running", "traceai.engine.waiting", "traceai.engine.kv_cache_usage")
# Hooks that no scenario at source level uses: not those of a server's requests, nor of these calls of `LLM`.
_NOT_DRIVEN = frozenset(
    f"LLM.{name}" for name in ("encode", "embed", "classify", "score", "reward", "enqueue", "enqueue_chat")
)


def stamp(release: Release) -> Result:
    """Return when and with what a version is run."""
    today = datetime.datetime.now(datetime.timezone.utc).date().isoformat()
    return {"date": today, "distribution": release.distribution, "python": platform.python_version()}


def problems(result: Result) -> list[str]:
    """Return everything that went wrong with one version."""
    if "crashed" in result:
        return [result["crashed"]]
    found = [f"{name}: {problem}" for name, problem in result.get("scenarios", {}).items() if problem]
    for hook, outcome in result.get("without", {}).items():
        found += [f"without {hook}: {problem}" for problem in outcome["problems"]]
    return found


def passed(result: Result) -> bool:
    """Return whether a version ran, and everything went as it should."""
    return bool(result.get("scenarios")) and not problems(result)


def line(level: str, version: str, result: Result) -> str:
    """Return one line for the terminal, and the problems under it."""
    found = problems(result)
    ran, hooks = len(result.get("scenarios", {})), len(result.get("without", {}))
    state = "ok    " if passed(result) else "FAILED"
    what = f"{ran} scenarios" + (f", {hooks} hooks taken away" if hooks else "")
    first = f"{state}  {level:6}  {version:12} {what}, {result.get('seconds', 0):.0f} s"
    return "\n".join([first, *(f"           {text.strip()[-400:]}" for text in found[:8])])


def write(raw: Path, page: Path, level: str, results: dict[str, Result]) -> None:
    """Put the results of a run in the place of earlier ones of the same versions, and write the page anew."""
    known = json.loads(raw.read_text()) if raw.exists() else {}
    merged = {**known.get(level, {}), **results}
    known[level] = {version: merged[version] for version in sorted(merged, key=order)}
    raw.write_text(_one_line_per_version(known))
    page.write_text(markdown(known))


def _one_line_per_version(known: dict[str, dict[str, Result]]) -> str:
    levels = []
    for level, results in known.items():
        lines = ",\n".join(f"{json.dumps(name)}: {json.dumps(result)}" for name, result in results.items())
        levels.append(f"{json.dumps(level)}: {{\n{lines}\n}}")
    return "{\n" + ",\n".join(levels) + "\n}\n"


def markdown(known: dict[str, dict[str, Result]]) -> str:
    """Return the page."""
    source, engine = known.get("source", {}), known.get("engine", {})
    return "\n".join(
        [
            _INTRODUCTION,
            *_versions_table(source, engine),
            "",
            *_missing(source),
            *_taken_away(source),
            *_engines_table(engine),
            *_failures(source, engine),
        ]
    )


_INTRODUCTION = """\
# Compatibility

Which versions of vLLM were run, how, and what is missing from spans in each. Written by `make compat`; the raw results
are in [compatibility.json](compatibility.json). There is one code path for all versions: what a version lacks is found
by looking at it, not at its number.

- **Source**: the real `OutputProcessor`, statistics, `ParentRequest`, `LLM`, `LLMEngine` and `AsyncLLM` from the
  version's wheel, over an engine core that follows a script, with stubs for torch and the rest of vLLM. Requests end by
  length, stop, stop string, abort, engine error, a step that raises, rejection and refusal, with `n=2`, pooling and
  streamed input where the version has them, statistics on and off. Each must end as exactly one span with the right
  finish reason, tokens and error; the user must get what they get without us; no internal error may be swallowed.
- **Engine**: a real engine of the version, on a CPU, in an environment of its own, with its own torch, offline and
  asynchronous.
- Versions before 0.11 can still run vLLM's first engine (V0: `VLLM_USE_V1=0`, and what V1 could not do yet). It is not
  traced; a warning says so.
- **not run**: nothing is known at that level. Builds for GPUs are not run here; their Python files are the same.

```console
make compat                                    # source level, all versions: about 5 minutes, 2 GB of downloads
make compat LEVEL=engine                       # real engines: 4 to 7 GB and some minutes each, one after the other
make compat LEVEL=engine VERSIONS=0.22,0.32    # some of them
```

OpenTelemetry itself is run from 1.26 (the oldest that is allowed, which vLLM 0.8.5 pins) to 1.43: `make compat-otel`.
All tests run on the newest. Before 1.35 scores, content and rollbacks are no events, before 1.30 histograms have the
SDK's own buckets, and before 1.28 they have no exemplars; all else is the same.
"""

_WITHOUT = """\
## If a version lacked a hook

Each hook point is deleted from vLLM in turn, in every version above, before `instrument()`. What the user gets stays as
it is without us, nothing crashes and no internal error is swallowed, or the version counts as failed. What spans lose
(a request whose end is not seen ends as `abandoned`, when vLLM lets go of it):

| without | lost | one warning |
|---|---|---|"""


def _versions_table(source: dict[str, Result], engine: dict[str, Result]) -> list[str]:
    rows = ["| vLLM | source | engine | date |", "|---|---|---|---|"]
    for version in sorted({*source, *engine}, key=order):
        found = [results[version] for results in (source, engine) if version in results]
        cells = (version, _state(source.get(version)), _state(engine.get(version)), max(r["date"] for r in found))
        rows.append(f"| {' | '.join(cells)} |")
    return rows


def _state(result: Result | None) -> str:
    if result is None:
        return "not run"
    count = len(result.get("scenarios", {}))
    if passed(result):
        return f"{count} of {count}"
    good = sum(1 for problem in result.get("scenarios", {}).values() if not problem)
    return f"**{good} of {count}**" if count else "**did not run**"


def _missing(source: dict[str, Result]) -> list[str]:
    """Say which attributes versions cannot give: those that later ones gave in the same scenarios."""
    ran = {version: set(result["attributes"]) for version, result in source.items() if result.get("attributes")}
    everything = set().union(*ran.values()) if ran else set()
    rows = []
    for name in sorted(everything):
        lacking = [version for version in sorted(ran, key=order) if name not in ran[version]]
        if lacking:
            rows.append(f"| `{name}` | {_ranges(lacking, sorted(ran, key=order))} |")
    if not rows:
        return []
    return [
        "## What older versions do not tell",
        "",
        "Attributes that spans of these versions do not have, because vLLM does not say it there.",
        "",
        "| attribute | missing in |",
        "|---|---|",
        *rows,
        "",
    ]


def _ranges(some: list[str], every: list[str]) -> str:
    """Write versions as ranges.

    >>> _ranges(["0.9", "0.10", "0.12"], ["0.8", "0.9", "0.10", "0.11", "0.12"])
    '0.9 to 0.10, 0.12'
    """
    runs: list[list[str]] = []
    for version in every:
        if version not in some:
            continue
        if runs and every.index(version) == every.index(runs[-1][-1]) + 1:
            runs[-1].append(version)
        else:
            runs.append([version])
    return ", ".join(run[0] if len(run) == 1 else f"{run[0]} to {run[-1]}" for run in runs)


def _taken_away(source: dict[str, Result]) -> list[str]:
    """Say what is lost without each hook, over all versions."""
    lost: dict[str, set[str]] = {}
    warned: dict[str, bool] = {}
    for result in source.values():
        for hook, outcome in result.get("without", {}).items():
            lost.setdefault(hook, set()).update(outcome["lost"])
            warned[hook] = outcome["warned"]
    if not lost:
        return []
    rows = [f"| `{hook}` | {_lost(hook, what)} | {'yes' if warned[hook] else 'no'} |" for hook, what in lost.items()]
    return [_WITHOUT, *rows, ""]


def _lost(hook: str, what: set[str]) -> str:
    if not what and (hook in _NOT_DRIVEN or hook.endswith(".beam_search")):
        return "not run at this level"
    return ", ".join(sorted(what)) or "nothing"


def _engines_table(engine: dict[str, Result]) -> list[str]:
    if not engine:
        return []
    rows = []
    for version in sorted(engine, key=order):
        result = engine[version]
        checks = ", ".join(
            f"{name} {'✓' if problem is None else '✗'}" for name, problem in result.get("scenarios", {}).items()
        )
        rows.append(f"| {version} | {result.get('torch', '?')} | {result['python']} | {checks or 'did not run'} |")
    return [
        "## Real engines",
        "",
        "| vLLM | torch | Python | checks |",
        "|---|---|---|---|",
        *rows,
        "",
    ]


def _failures(source: dict[str, Result], engine: dict[str, Result]) -> list[str]:
    found = [
        f"- {level}, {version}: {problem.strip().splitlines()[-1][:300]}"
        for level, results in (("source", source), ("engine", engine))
        for version, result in results.items()
        for problem in problems(result)
    ]
    return ["## What failed", "", *found, ""] if found else []
