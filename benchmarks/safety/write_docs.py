"""Makes ``docs/safety.md`` from ``ours.json`` and ``peers.json``; nothing is measured here."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
PAGE = HERE.parents[1] / "docs" / "safety.md"

TEXT = """\
# Safety

*This page is written by `python -m benchmarks.safety` from what was measured.*

## What we promise

- A call to vLLM gives you what it gives without traceai-vllm, whatever goes wrong inside of us: the same tokens and
  text, the same finish reason, the same number of answers, or the very exception that vLLM raises.
- What is yours passes untouched: a cancelled task, a closed stream, Ctrl-C, a rejected request. vLLM still stops
  the work of a client that has gone.
- After the call, what is current in OpenTelemetry is what was current before it.
- An error of ours is counted (metric `traceai.internal.errors`, with the place and the kind) and logged once per
  place and kind, with a traceback and the word that your call is fine. Nothing else is printed.
- What we hold for a request is let go with it, also when its end was missed because of an error of ours: such a
  request ends as `abandoned` when the engine takes the next one.

Telemetry itself is *not* promised under a fault: a span or a measurement may be missing. That is the price, and the
counter shows it.

## How it is tested

On real vLLM ({vllm}, Python {python}, OpenTelemetry {opentelemetry}), with an offline engine in the process and an
asynchronous one in a process of its own, `tests/integration/test_fault_harness.py` first watches which functions of
ours run in each of {n_uses} uses of vLLM, with phase spans, the store and the capture of content switched on. Then it
makes each of them fail, one after the other, in {n_kinds} ways, and compares all that the user sees with the same use
of a vLLM that is not instrumented. In every use:

{first_kind}

and in the first use that gets to the function also:

{other_kinds}

New code is tried without being named anywhere. What is spared are the functions that hold your call in their hands
(the hooks that stand in for vLLM's own, {n_hooks} of them, and a few they lean on); they are listed in
`tests/support/fault_seam.py`, and a test holds the list against the code.

**{functions} functions, {faults} faults, of which {reached} reached the user** ({date}). In {whole} of them the
trace was still whole: as many spans as without the fault, all of them ended.

{uses}

OpenTelemetry is made to fail as well, wherever we call it: `start_span`, `set_status`, `is_recording`, `end`, the
sampler, the id generator, a processor's `on_start` and `on_end`, the exporter, a measurement, and attaching a context:
{boundary} faults, none of which reached the user. So is what runs only after an error of ours: the guard's own report,
and your log handler.

## Beside others

The same questions, put to instrumentations of the OpenAI client as they were installed on {peers_date} (their calls
go to a mocked transport, ours to vLLM). Each cell says what the user gets, and whether every span of the call was
ended.

{table}

Where the faults were put, and all that was counted, is in `benchmarks/safety/peers.json` and `ours.json`.

## What this does not say

- The faults are bugs that are not there today; what is measured is how far one would reach. The cancelled consumer
  is no injected bug: it is what happens when a client hangs up.
- The four questions are one call and one function each, chosen by us, for the others as for ourselves. Of ourselves
  all functions were tried; another function of theirs may fail otherwise.
- A fault here is an exception, or None or an `object()` for a result. A wrong value that looks right is not tried,
  nor is code that never returns or that ends the process.
- When a fault hits the patching itself, vLLM may keep a function of ours after `uninstrument()`; it then only hands
  the call on.
- `instrument()`, `uninstrument()` and `tags()` are calls of yours: they raise when they are used wrongly.
- One version of vLLM, on a CPU.

## Reproduce it

```
make setup
TRACEAI_SAFETY_RESULTS=benchmarks/safety/ours.json .venv/bin/python -m pytest tests/integration/test_fault_harness.py
.venv/bin/python -m benchmarks.safety
```

It takes about three minutes on two cores. The others' rows: `python benchmarks/safety/peers.py`.
"""


def page() -> str:
    """Return the page as it follows from the measurements."""
    ours, peers = (json.loads((HERE / name).read_text()) for name in ("ours.json", "peers.json"))
    return TEXT.format(
        vllm=ours["vllm"],
        python=ours["python"],
        opentelemetry=ours["opentelemetry"],
        n_uses=len(ours["uses"]),
        n_kinds=len(ours["kinds"]),
        n_hooks=ours["hooks"],
        first_kind=f"- it {ours['kinds'][0]}",
        other_kinds="\n".join(f"- it {kind}" for kind in ours["kinds"][1:]),
        functions=ours["functions"],
        faults=f"{ours['faults']:,}",
        reached=ours["reached_the_user"],
        whole=f"{ours['trace_whole']:,}",
        date=ours["date"],
        uses=_uses(ours["uses"]),
        boundary=ours["boundary_faults"],
        peers_date=peers["date"],
        table=_table([*ours["rows"], *peers["rows"]]),
    )


def _uses(uses: list[dict[str, Any]]) -> str:
    rows = [
        f"| `{use['engine']}` | {use['what']} | {use['functions']} | {use['faults']} | {use['reached_the_user']} |"
        for use in uses
    ]
    return "\n".join(
        ("| with | what the user does | functions | faults | reached the user |", "|---|---|--:|--:|--:|", *rows)
    )


def _table(rows: list[dict[str, Any]]) -> str:
    faults = list(dict.fromkeys(row["fault"] for row in rows))
    libraries = list(dict.fromkeys((row["library"], row["version"]) for row in rows))
    cells = {(row["library"], row["fault"]): _cell(row) for row in rows}
    lines = [
        f"| {library} {version} | " + " | ".join(cells[library, fault] for fault in faults) + " |"
        for library, version in libraries
    ]
    return "\n".join(("| | " + " | ".join(faults) + " |", "|---|" + "---|" * len(faults), *lines))


def _cell(row: dict[str, Any]) -> str:
    user = row["user_sees"] if row["user_sees"] == "same" else f"**{row['user_sees']}**"
    span = {True: "span ends", False: "**span never ends**", None: "no span"}[row["span_ends"]]
    return f"{user}; {span}"
