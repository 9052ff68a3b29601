"""Measures how right the evaluators are, and how fast; writes ``benchmarks/evals/RESULTS.md``.

python -m benchmarks.evals DATA                  # everything, some minutes
python -m benchmarks.evals DATA --no-futureagi   # without FutureAGI's metrics

DATA (or $TRACEAI_EVAL_DATA) is a folder of labelled answers: *.jsonl, each row with `context`, `response` and
`label_hallucinated`, and where known `id`, `question`, `source_id` and `model`. Without it, only what needs none is
measured, and RESULTS.md stays as it is.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):  # one core, before numpy is there
    os.environ[variable] = "1"

from benchmarks.engine import machine  # noqa: E402
from benchmarks.evals import figures, needs, report, schema_suite, sets, toolcalls  # noqa: E402

RESULTS = Path(__file__).with_name("RESULTS.md")


def main() -> int:
    options = _arguments()
    folder = Path(options.data) if options.data else None
    if folder is not None and not folder.is_dir():
        raise SystemExit(f"{folder} is no folder; give the folder with the labelled answers, or leave it out")
    facts = machine.moment() | machine.facts()
    _say("JSONValidation against the JSON Schema Test Suite")
    parts = {"E1": schema_suite.run()}
    place = needs.bfcl()
    if place is not None:
        _say("ToolSelectionAccuracy against BFCL's checker")
        parts["E2"] = toolcalls.run(place, folder)
    if folder is None:
        _say("no labelled answers: give their folder, or set TRACEAI_EVAL_DATA; Groundedness is not measured")
    else:
        parts["E3"] = _groundedness(folder, options.futureagi)
    _say("time of one evaluation")
    parts["E4"] = {title: figures.milliseconds(*texts) for title, texts in figures.sized_texts().items()}
    text = report.render(parts, facts)
    print(text)
    if folder is not None:
        RESULTS.write_text(text, "utf-8")
    return 0


def _groundedness(folder: Path, futureagi: bool) -> list[sets.LabelledSet]:
    found = sets.read(folder)
    _say(f"Groundedness on {sum(len(one.rows) for one in found):,} labelled answers")
    sets.score_with_ours(found, folder)
    sets.score_with_floors(found)
    python = needs.futureagi() if futureagi else None
    if python is not None:
        _say("FutureAGI's metrics on the same")
        sets.score_with_futureagi(found, python)
    return found


def _say(what: str) -> None:
    print(f"- {what}", file=sys.stderr, flush=True)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="?", default=os.environ.get("TRACEAI_EVAL_DATA"), metavar="DATA")
    parser.add_argument("--no-futureagi", dest="futureagi", action="store_false")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
