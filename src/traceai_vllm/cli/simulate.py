"""``traceai-vllm simulate``: traffic with known truths."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from traceai_vllm.cli.numbers import check_above, check_from
from traceai_vllm.cli.refusal import refuse

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterator, Mapping

    from traceai_vllm.release.simulator.planting import Planted

_DESCRIPTION = """\
Write spans of pairs in which the truth is known, to see what a policy makes of it before a release does: synthetic
traffic, or pairs of your own drawn again (--from), with changes of the candidate planted in it.
"""
_EXAMPLES = """\
what can be planted (--plant, as often as you like):
  NAME+0.1                    evaluator NAME fails in ten points more of the candidate's answers
  errors+0.02 timeouts+0.02   thumbs_down+0.1 correction+... escalation+... abandoned+...
  latency*2                   twice the time; also time_to_first_token*F, output_tokens*F
  missing+0.1                 ten points more of the candidate's answers are missing
  prompt+0.05                 five points of its prompts have another version
  ...@route=R,slice=S,traffic_cohort=C,min_prompt_tokens=N    only there

examples:
  traceai-vllm simulate spans/ --pairs 5000
  traceai-vllm simulate spans/ --plant Groundedness+0.1@slice=regulated --plant 'latency*1.5@min_prompt_tokens=2048'
  traceai-vllm simulate again/ --from spans/ --null --pairs 20000       your own pairs, with no difference between arms
  traceai-vllm simulate big/ --pairs 5000000 --slices 60                ten million spans, as Parquet
  traceai-vllm simulate big/ --pairs 50000 --slices 60 --part 20        one per cent more

exit code:
  0  done
  2  an argument or the spans cannot be used, or a library is missing
"""
_SESSION_SIZE, _SPEED = 3.0, 0.7


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.description = _DESCRIPTION
    parser.epilog = _EXAMPLES
    parser.add_argument("directory", type=Path, metavar="DIR", help="where the spans go")
    parser.add_argument("--pairs", type=int, default=5000, metavar="N", help="how many pairs (default: 5000)")
    parser.add_argument("--plant", action="append", default=[], metavar="CHANGE", help="a change, as below")
    parser.add_argument("--format", choices=("parquet", "store"), default="parquet", help="(default: parquet)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of the random numbers (default: 0)")
    parser.add_argument("--slices", type=int, metavar="N", help="so many slices of the same size instead of three")
    parser.add_argument(
        "--session-size", type=float, default=_SESSION_SIZE, metavar="N", help="pairs in a session (default: 3)"
    )
    parser.add_argument("--speed", type=float, default=_SPEED, metavar="F", help="candidate's times (default: 0.7)")
    parser.add_argument(
        "--part",
        type=int,
        default=0,
        metavar="N",
        help="number of the first file (default: 0); the next one adds to a directory that has some",
    )
    parser.add_argument("--from", dest="source", metavar="SPANS", help="draw pairs of these spans again")
    parser.add_argument("--null", action="store_true", help="with --from: swap the arms by the toss of a coin first")


def run(arguments: argparse.Namespace) -> int:
    """Write the spans, say how many, and return the exit code."""
    try:
        from traceai_vllm.release.simulator.planting import MOST, parse

        _check(arguments)
        check_above("--speed", arguments.speed, 0, MOST)
        planted = tuple(parse(text) for text in arguments.plant)
        count = _resampled(arguments, planted) if arguments.source else _synthetic(arguments, planted)
    except (ImportError, OSError, ValueError) as error:
        return refuse("simulate", error, "release")
    print(f"{count:,} spans in {arguments.directory}")
    return 0


def _check(arguments: argparse.Namespace) -> None:
    for option, value, least in (
        ("--pairs", arguments.pairs, 1),
        ("--session-size", arguments.session_size, 1),
        ("--slices", arguments.slices, 1),
        ("--seed", arguments.seed, 0),
        ("--part", arguments.part, 0),
    ):
        check_from(option, value, least)
    there = next(place for place in (arguments.directory, *arguments.directory.absolute().parents) if place.exists())
    if not there.is_dir():
        raise ValueError(f"{there} is a file: name a directory for the spans, which is made if it is not there")
    # What was made up is not to count with what users did, nor with what is left of another simulation.
    adds = arguments.part > 0 and not arguments.source
    if not adds and there == arguments.directory and any(there.iterdir()):
        raise ValueError(f"{there} is not empty: name a directory that is not there yet, or add to it with --part 1")


def _resampled(arguments: argparse.Namespace, planted: tuple[Planted, ...]) -> int:
    from traceai_vllm.release.simulator.resampling import resample
    from traceai_vllm.release.sources import open_source

    if arguments.format != "parquet":
        raise ValueError("--from writes Parquet: leave out --format")
    for option, value, usual in (
        ("--slices", arguments.slices, None),
        ("--session-size", arguments.session_size, _SESSION_SIZE),
        ("--speed", arguments.speed, _SPEED),
        ("--part", arguments.part, 0),
    ):
        if value != usual:
            raise ValueError(f"--from draws sessions as they are, into one file: leave out {option}")
    source = open_source(arguments.source)
    return resample(source, arguments.directory, arguments.pairs, planted, null=arguments.null, seed=arguments.seed)


def _synthetic(arguments: argparse.Namespace, planted: tuple[Planted, ...]) -> int:
    from traceai_vllm.release.simulator.spans import write_parquet, write_store
    from traceai_vllm.release.simulator.traffic import Traffic

    if arguments.null:
        raise ValueError("--null needs --from: synthetic arms differ in nothing but what is planted and their speed")
    slices = Traffic().slices if arguments.slices is None else _even(arguments.slices)
    traffic = Traffic(
        planted=planted,
        slices=slices,
        session_size=arguments.session_size,
        speed=arguments.speed,
        seed=arguments.seed,
    )
    write = write_parquet if arguments.format == "parquet" else write_store
    with _bar(2 * arguments.pairs) as update:
        return write(traffic, arguments.directory, arguments.pairs, update, arguments.part)


def _even(count: int) -> Mapping[str, float]:
    return {f"slice-{number:02}": 1 / count for number in range(count)}


@contextmanager
def _bar(total: int) -> Iterator[Callable[[int], None]]:
    from tqdm import tqdm

    with tqdm(total=total, unit=" spans", unit_scale=True, disable=None) as bar:
        yield lambda done: bar.update(done - bar.n)
