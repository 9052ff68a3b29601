"""``traceai-vllm evaluate``: scores the answers in a store."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from traceai_vllm.cli.refusal import refuse

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

    from traceai_vllm.evals.pipeline.stored import Summary

_DESCRIPTION = """\
Score the answers in a store of spans, and keep the scores there (evaluations-*.jsonl, and the view `evaluations` of
traceai_vllm.store.connect). Spans must carry their content: instrument(capture_content="SPAN_ONLY").

It can be interrupted at any time and goes on where it was. What has a score is not scored again.
"""
_FAILED = frozenset({"error", "timeout", "circuit_open"})
_EXAMPLES = """\
exit code:
  0  every evaluation that was due has a score
  1  some failed or took too long; the next run tries them again
  2  the store or an evaluator cannot be used

examples:
  traceai-vllm evaluate spans/
  traceai-vllm evaluate spans/ --evaluators JSONValidation ToolSelectionAccuracy
  echo '{"regulated_routes": ["claims"], "languages": ["en", "es"]}' > slices.json
  traceai-vllm evaluate spans/ --slices slices.json
  echo '{"required_wording": {"claims": ["This is not legal advice."]}}' > paired.json
  traceai-vllm evaluate pairs/ --paired paired.json
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.description = _DESCRIPTION
    parser.epilog = _EXAMPLES
    parser.add_argument("store", type=Path, metavar="STORE", help="directory of the store: instrument(store=STORE)")
    parser.add_argument("--evaluators", nargs="+", metavar="NAME", help="which ones (default: all that are installed)")
    parser.add_argument(
        "--timeout", type=float, default=30.0, metavar="S", help="give one evaluation S seconds (default: 30)"
    )
    parser.add_argument(
        "--slices", type=Path, metavar="FILE", help="thresholds of the cohort slices: a JSON object, see SliceSettings"
    )
    parser.add_argument(
        "--paired",
        type=Path,
        nargs="?",
        const=Path(),
        metavar="FILE",
        help="also compare the two answers of each pair in the store; FILE: a JSON object, see PairedSettings",
    )
    parser.add_argument("--no-explanations", action="store_true", help="keep scores and labels only")


def run(arguments: argparse.Namespace) -> int:
    """Evaluate, print what came of it, and return the exit code."""
    try:
        from tqdm import tqdm

        from traceai_vllm.evals import registry
        from traceai_vllm.evals.paired import PairedSettings
        from traceai_vllm.evals.pipeline.stored import evaluate_store
        from traceai_vllm.evals.pipeline.stored_pairs import evaluate_pairs
        from traceai_vllm.evals.slices import SliceSettings
        from traceai_vllm.store.reader import check_has_spans

        slices = _settings(SliceSettings, arguments.slices, "thresholds of slices")
        paired = _settings(PairedSettings, arguments.paired, "settings of paired checks")
        explain = not arguments.no_explanations
        evaluators = registry.evaluators(arguments.evaluators or registry.names())
        check_has_spans(arguments.store)
        with tqdm(unit=" answers", disable=None) as bar:
            summary = evaluate_store(
                arguments.store,
                evaluators,
                slices=slices,
                timeout_s=arguments.timeout,
                explain=explain,
                progress=_progress(bar),
            )
        pairs = None
        if arguments.paired is not None:
            with tqdm(unit=" pairs", disable=None) as bar:
                pairs = evaluate_pairs(arguments.store, paired, explain=explain, progress=_progress(bar))
    except (ImportError, OSError, ValueError) as error:
        return refuse("evaluate", error, "evals,store")
    except KeyboardInterrupt:
        print("\ninterrupted; the scores so far are kept, and the next run goes on from here", file=sys.stderr)
        return 130
    print(_text(summary, "answers"))
    if pairs is not None:
        print(_text(pairs, "pairs"))
    counts = [*summary.counts.values(), *(pairs.counts.values() if pairs else ())]
    return 1 if any(_FAILED & {*statuses} for statuses in counts) else 0


def _progress(bar: Any) -> Callable[[int, int], None]:
    def progress(done: int, total: int) -> None:
        bar.total = total
        bar.update(done - bar.n)

    return progress


def _settings(kind: Callable[..., Any], file: Path | None, what: str) -> Any:
    """The defaults without a file."""
    if file is None or file == Path():
        return kind()
    try:
        return kind(**json.loads(file.read_text("utf-8")))
    except (TypeError, ValueError) as error:
        raise ValueError(f"{file} has no {what}: {error}") from error


def _text(summary: Summary, what: str) -> str:
    lines = [f"{summary.spans} {what} evaluated"]
    if summary.without_answer:
        lines.append(
            f"{summary.without_answer} requests have no answer in the store: capture_content was off when they ran"
        )
    for name, statuses in sorted(summary.counts.items()):
        scored = statuses.get("ok", 0)
        mean = f"mean {summary.scores[name] / scored:.3f}, {summary.passed[name]} passed" if scored else "no score"
        others = ", ".join(f"{count} {status}" for status, count in sorted(statuses.items()) if status != "ok")
        lines.append(f"  {name:24} {scored} scored, {mean}" + (f"; {others}" if others else ""))
    return "\n".join(lines)
