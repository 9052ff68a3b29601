"""``traceai-vllm report``: the comparison and the decision as one HTML file."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from traceai_vllm.cli.comparing import EXTRA, SOURCES, add_arguments, as_of, judge_source
from traceai_vllm.cli.refusal import refuse

if TYPE_CHECKING:
    import argparse

_DESCRIPTION = f"""\
Write one HTML file that says go or no-go, where and why. It needs nothing else: no network, no scripts.

{SOURCES}"""
_EPILOG = """\
exit code:
  0  the file is there
  2  the spans or the policy cannot be used, the file cannot be written, or a library is missing

examples:
  traceai-vllm report spans/ --policy policy.yaml                    writes report.html
  traceai-vllm report spans/ --policy policy.yaml --no-content -o release.html
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.description = _DESCRIPTION
    parser.epilog = _EPILOG
    add_arguments(parser)
    parser.add_argument(
        "-o", "--output", type=Path, default=Path("report.html"), metavar="FILE", help="default: report.html"
    )
    parser.add_argument("--no-content", action="store_true", help="leave questions and answers out")


def run(arguments: argparse.Namespace) -> int:
    """Write the report, say where it is, and return the exit code."""
    try:
        judgement, source = judge_source(arguments)
        from traceai_vllm.release import decision_of, verdict_sentence
        from traceai_vllm.release.report import report_html
        from traceai_vllm.release.sources import without_password

        command = ["traceai-vllm", "report", without_password(arguments.store), "--policy", arguments.policy]
        command += ["--no-content"] if arguments.no_content else []
        decision = decision_of(judgement)
        if as_of(arguments, judgement.comparison.policy) is not None:  # another time is another decision
            command += ["--as-of", decision.made_at.isoformat()]
        page = report_html(judgement, decision, source, command=shlex.join(command), content=not arguments.no_content)
        _write(arguments.output, page)
    except (ImportError, OSError, ValueError) as error:
        return refuse("report", error, EXTRA)
    print(verdict_sentence(judgement))
    print(f"report: {arguments.output.absolute()}")
    return 0


def _write(path: Path, page: str) -> None:
    try:
        path.write_text(page, encoding="utf-8")
    except OSError as error:
        raise ValueError(f"{path} cannot be written: {error.strerror}") from None
