"""What compare, gate, report and watch have in common: their arguments, reading the spans, and errors with a fix."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterator

    from traceai_vllm.release import Judgement, Policy, Source

# What the commands that compare need beside the package itself.
EXTRA = "release"

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)

SOURCES = """\
STORE is one of
  a directory of our store                instrument(store=DIR)
  OTLP JSON lines, a file or a directory  a collector's file exporter
  Parquet, a file or a directory          a row for each span, a column for each attribute
  clickhouse://user:password@host:port/database   the collector's table otel_traces
  spark://host:port/path                          Parquet that a Spark cluster reads
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that say what is compared, and by which policy."""
    parser.add_argument("store", metavar="STORE", help="where the spans are")
    parser.add_argument("--policy", required=True, metavar="FILE", help="what is allowed: policy.yaml")
    parser.add_argument(
        "--as-of",
        type=_moment,
        metavar="TIME",
        help="how old evidence is, is told at this time, e.g. 2026-11-23T12:00:00Z (default: now where the policy has "
        "max_age_days, else the time of the newest pair)",
    )


def judge(arguments: argparse.Namespace) -> Judgement:
    """Read, compare and judge, as :func:`judge_source` does."""
    return judge_source(arguments)[0]


def judge_source(arguments: argparse.Namespace) -> tuple[Judgement, Source]:
    """Read, compare and judge; progress goes to standard error. Return the judgement and what it was made from.

    Raises:
        ImportError: a library is missing.
        OSError: a file cannot be read.
        ValueError: the policy or the source cannot be used.
    """
    with _progress() as tell:
        judgement, source = read(arguments, tell)
    from traceai_vllm.release.wording import printable  # its libraries are there by now

    for problem in judgement.comparison.problems:
        print(f"note: {printable(problem)}", file=sys.stderr)
    return judgement, source


def read(arguments: argparse.Namespace, tell: Callable[[str], None]) -> tuple[Judgement, Source]:
    """Do what :func:`judge_source` does, and write nothing: ``tell`` gets each step before it begins."""
    from traceai_vllm.release import Judgement, compare, load_policy, open_source
    from traceai_vllm.release.sources import without_password

    policy = load_policy(arguments.policy)
    tell(f"reading {without_password(arguments.store)}")
    source = open_source(arguments.store)
    comparison = compare(source, policy, tell)
    return Judgement(comparison, as_of(arguments, policy)), source


def as_of(arguments: argparse.Namespace, policy: Policy) -> int | None:
    """Return the time that evidence is old or new at, in nanoseconds since the epoch; None: that of the newest pair."""
    if arguments.as_of is None and policy.evidence.max_age_days is not None:
        return int(datetime.now(timezone.utc).timestamp()) * 1_000_000_000
    moment: int | None = arguments.as_of
    return moment


@contextmanager
def _progress() -> Iterator[Callable[[str], None]]:
    if not sys.stderr.isatty():
        yield lambda step: None
        return
    from rich.console import Console

    with Console(stderr=True).status("") as status:
        yield lambda step: status.update(f"{step} …")


def _moment(text: str) -> int:
    import argparse

    try:
        moment = datetime.fromisoformat(text.replace("Z", "+00:00"))
        zone = moment.tzinfo
        moment = moment.astimezone(timezone.utc)
    except (ValueError, OverflowError):  # in UTC it may be before the first year, or after the last
        zone = None
    if zone is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no time with a zone: write e.g. 2026-11-23T12:00:00Z")
    return (moment - _EPOCH) // timedelta(microseconds=1) * 1000
