"""``traceai-vllm doctor``: is everything in place for spans of vLLM to be made here and to arrive?"""

from __future__ import annotations

import argparse
import json
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from traceai_vllm.cli.findings import Finding

_DESCRIPTION = """\
Check that spans of vLLM are made in this environment and reach their backend, and say what to do where they do not.

It looks at what is installed, at the environment variables, and at vLLM's hook points (vLLM is imported for that, in a
process of its own); then it sends one span, named "traceai-vllm doctor", to where OTEL_* say. Run it where vLLM
runs, with the same environment.
"""
_EXAMPLES = """\
exit code:
  0  nothing stands in the way (there may be warnings)
  1  something does not work; each problem has a fix
  2  the command line is wrong

examples:
  traceai-vllm doctor
  OTEL_EXPORTER_OTLP_ENDPOINT=http://collector:4318 traceai-vllm doctor
  traceai-vllm doctor --skip-hooks --timeout 2       quick: vLLM is not imported
  traceai-vllm doctor --json | jq '.findings[] | select(.status == "problem")'
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.description = _DESCRIPTION
    parser.epilog = _EXAMPLES
    parser.add_argument("--json", action="store_true", help="print one JSON document instead of text")
    parser.add_argument(
        "--timeout", type=_seconds, default=5.0, metavar="S", help="wait S seconds for the backend (default: 5)"
    )
    parser.add_argument("--skip-hooks", action="store_true", help="do not import vLLM")
    parser.add_argument("--skip-export", action="store_true", help="send nothing")


def run(arguments: argparse.Namespace) -> int:
    """Run all checks, print what they find, and return 1 if there is a problem, else 0."""
    from traceai_vllm.cli.findings import PROBLEM

    findings = []
    for finding in _findings(arguments):
        findings.append(finding)
        if not arguments.json:
            print(finding.as_text(), flush=True)
    problems = sum(finding.status == PROBLEM for finding in findings)
    if arguments.json:
        print(json.dumps({"healthy": not problems, "findings": [finding.as_dict() for finding in findings]}, indent=2))
    else:
        print(f"\n{_count(problems, 'problem')} found." if problems else "\nNo problems found.")
    return 1 if problems else 0


def _findings(arguments: argparse.Namespace) -> Iterator[Finding]:
    from traceai_vllm.cli import check_environment, check_export, check_hooks, check_packages

    yield from check_packages.findings()
    yield from check_environment.findings()
    if not arguments.skip_hooks and check_packages.vllm_is_there():
        _progress("importing vLLM to look at its hook points; this takes some seconds")
        yield from check_hooks.findings()
    if not arguments.skip_export and not check_environment.sdk_is_disabled():
        _progress("sending a span")
        yield from check_export.findings(arguments.timeout)


def _progress(what: str) -> None:
    print(f"{'...':>8}  {what}", file=sys.stderr, flush=True)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" + ("" if number == 1 else "s")


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds <= 3600:
        raise argparse.ArgumentTypeError(f"{text} is not a number of seconds above 0, at most 3600")
    return seconds
