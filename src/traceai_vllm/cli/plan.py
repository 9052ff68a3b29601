"""``traceai-vllm plan``: how many pairs will it take?"""

from __future__ import annotations

from typing import TYPE_CHECKING

from traceai_vllm.cli.numbers import check_above, check_from
from traceai_vllm.cli.refusal import refuse

if TYPE_CHECKING:
    import argparse

    from traceai_vllm.release.simulator.plan import Need

_DESCRIPTION = """\
Say how many pairs it takes to show that a candidate is within a margin (or that it is worse by as much), before any
traffic is mirrored, or from the first few hundred pairs (--from).

What counts is how often the two answers to one prompt disagree, not how often they fail: answers that fail together say
nothing about the candidate.
"""
_EXAMPLES = """\
examples:
  traceai-vllm plan --margin 0.03 --disagreement 0.1
  traceai-vllm plan --margin 0.03 --disagreement 0.1 --smallest-part 0.05 --pairs-per-day 2000
  traceai-vllm plan --margin 0.03 --from spans/       the disagreement of each evaluator, from pairs that are there

exit code:
  0  done
  2  an argument or the spans cannot be used, or a library is missing
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.description = _DESCRIPTION
    parser.epilog = _EXAMPLES
    parser.add_argument("--margin", type=float, required=True, metavar="X", help="points of fail rate, e.g. 0.03")
    given = parser.add_mutually_exclusive_group(required=True)
    given.add_argument("--disagreement", type=float, metavar="X", help="share of pairs in which exactly one fails")
    given.add_argument("--from", dest="source", metavar="SPANS", help="a store, OTLP or Parquet files with pairs")
    parser.add_argument(
        "--smallest-part", type=float, default=1.0, metavar="X", help="traffic's share in the smallest guarded part"
    )
    parser.add_argument("--pairs-per-day", type=float, metavar="N", help="mirrored requests a day, for days")
    parser.add_argument("--alpha", type=float, default=0.05, metavar="X", help="chance of a false verdict (0.05)")
    parser.add_argument("--power", type=float, default=0.8, metavar="X", help="chance of a verdict by then (0.8)")


def run(arguments: argparse.Namespace) -> int:
    """Print the plan, and return the exit code."""
    try:
        needs = _needs(arguments)
    except (ImportError, OSError, ValueError) as error:
        return refuse("plan", error, "release")
    print(f"margin {arguments.margin:g}, power {arguments.power:g}, alpha {arguments.alpha:g} on either side")
    for found in needs:
        seen = f" in {found.seen:,} pairs" if found.seen else ""
        print(f"{found.measure}: exactly one answer fails in {found.disagreement:.1%} of the pairs{seen}")
        print(f"  looking at any time (default): {_pairs(found.any_look, arguments.pairs_per_day)}")
        print(f"  one look, fixed beforehand:    {_pairs(found.one_look, arguments.pairs_per_day)}")
    return 0


def _needs(arguments: argparse.Namespace) -> list[Need]:
    for option, value, most in (
        ("--margin", arguments.margin, 1),
        ("--smallest-part", arguments.smallest_part, 1),
        ("--pairs-per-day", arguments.pairs_per_day, float("inf")),
    ):
        check_above(option, value, 0, most)
    check_from("--disagreement", arguments.disagreement, 0, 1)

    from traceai_vllm.release.simulator.plan import disagreements, need
    from traceai_vllm.release.sources import open_source, without_password

    if arguments.source is None:
        found = {"fail rate": (arguments.disagreement, 0)}
    else:
        found = disagreements(open_source(arguments.source))
        if not found:
            where = without_password(arguments.source)
            raise ValueError(f"{where} has no pairs with scores: give --disagreement instead")
    return [
        need(
            name,
            share,
            arguments.margin,
            share=arguments.smallest_part,
            alpha=arguments.alpha,
            power=arguments.power,
            seen=seen,
        )
        for name, (share, seen) in found.items()
    ]


def _pairs(pairs: int | None, per_day: float | None) -> str:
    if pairs is None:
        return "more than a billion pairs"
    return f"{pairs:,} pairs" + (f", {pairs / per_day:.1f} days" if per_day else "")
