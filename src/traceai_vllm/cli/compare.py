"""``traceai-vllm compare``: both arms side by side, in tables."""

from __future__ import annotations

from typing import TYPE_CHECKING

from traceai_vllm.cli.comparing import EXTRA, SOURCES, add_arguments, judge
from traceai_vllm.cli.refusal import refuse

if TYPE_CHECKING:
    import argparse

_DESCRIPTION = f"""\
Compare the candidate with the baseline: every guarded measure in every part of the traffic, latency, cost, and what is
missing. It decides nothing: see `traceai-vllm gate`.

{SOURCES}"""
_EPILOG = """\
exit code:
  0  the tables are there
  2  the spans or the policy cannot be used, or a library is missing

examples:
  traceai-vllm compare spans/ --policy policy.yaml
  traceai-vllm compare spans/ --policy policy.yaml --all     also what is healthy within each route
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.description = _DESCRIPTION
    parser.epilog = _EPILOG
    add_arguments(parser)
    parser.add_argument("--all", action="store_true", help="show also parts of routes where nothing regressed")


def run(arguments: argparse.Namespace) -> int:
    """Compare, print the tables, and return the exit code."""
    try:
        judgement = judge(arguments)
        from traceai_vllm.release.tables import print_tables
    except (ImportError, OSError, ValueError) as error:
        return refuse("compare", error, EXTRA)
    print_tables(judgement, everything=arguments.all)
    return 0
