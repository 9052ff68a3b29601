"""``traceai-vllm gate``: the release decision, for a pipeline and for the gateway."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from traceai_vllm.cli.comparing import EXTRA, SOURCES, add_arguments, judge
from traceai_vllm.cli.refusal import refuse

if TYPE_CHECKING:
    import argparse

_DESCRIPTION = f"""\
Compare the candidate with the baseline, and decide by the policy.

{SOURCES}"""
# By the action's name: the module that defines it imports pydantic, which --help need not wait for.
EXIT_CODES = {
    "promote": 0,
    "keep_mirroring": 10,
    "restrict_route": 11,
    "adjust_context_length": 12,
    "fallback": 13,
}
_EPILOG = """\
exit code:
  0   promote
  10  keep mirroring
  11  restrict the route
  12  adjust the context length
  13  fallback
  2   the spans or the policy cannot be used, or a library is missing

examples:
  traceai-vllm gate spans/ --policy policy.yaml
  traceai-vllm gate spans/ --policy policy.yaml --decision decision.json    and the gateway obeys it
  traceai-vllm gate spans/ --policy policy.yaml --format junit > gate.xml   a test case for each guarded cell
  traceai-vllm gate spans/ --policy policy.yaml --format github             annotations in a GitHub workflow
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.description = _DESCRIPTION
    parser.epilog = _EPILOG
    add_arguments(parser)
    parser.add_argument("--decision", type=Path, metavar="FILE", help="write the file that the gateway obeys")
    parser.add_argument(
        "--format", choices=("text", "json", "junit", "github"), default="text", help="of standard output"
    )


def run(arguments: argparse.Namespace) -> int:
    """Decide, write what was asked for, and return the exit code."""
    try:
        judgement = judge(arguments)
        from traceai_vllm.release import decision_of, decision_text
        from traceai_vllm.release.formats import FORMATS

        decision = decision_of(judgement)
        if arguments.decision is not None:
            _write(arguments.decision, decision_text(decision))
        text = FORMATS[arguments.format](judgement, decision)
    except (ImportError, OSError, ValueError) as error:
        return refuse("gate", error, EXTRA)
    print(text)
    return EXIT_CODES[decision.action.value]


def _write(path: Path, text: str) -> None:
    # The gateway watches the file: it must never see half of it.
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.new")
    try:
        unfinished.write_text(text, encoding="utf-8")
        unfinished.replace(path)
    except OSError as error:
        unfinished.unlink(missing_ok=True)
        raise ValueError(f"{path} cannot be written: {error.strerror}") from None
