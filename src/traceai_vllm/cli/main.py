"""Finds the command that was asked for, and runs it.

A command is a module with ``configure(parser)``, which adds its arguments, and ``run(arguments)``, which returns the
exit code. Only the module of the command in question is imported, so that ``--help`` answers at once.
"""

from __future__ import annotations

import argparse
import os
import sys
import textwrap
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from itertools import groupby
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True)
class Command:
    """One command: its name, what it does in one line, and its module."""

    name: str
    summary: str
    module: str


COMMANDS = (
    Command("evaluate", "score the answers in a store that have no scores yet", "traceai_vllm.cli.evaluate"),
    Command("compare", "show both arms side by side, in tables", "traceai_vllm.cli.compare"),
    Command("gate", "decide by a policy whether the candidate may serve", "traceai_vllm.cli.gate"),
    Command("report", "write the comparison and the decision as one HTML file", "traceai_vllm.cli.report"),
    Command("watch", "follow the comparison in the terminal while pairs come in", "traceai_vllm.cli.watch"),
    Command("gateway", "answer users from a baseline, mirror them to a candidate", "traceai_vllm.cli.gateway"),
    Command("replay", "ask a candidate what users have asked before", "traceai_vllm.cli.replay"),
    Command("plan", "say how many pairs a release will need", "traceai_vllm.cli.plan"),
    Command("simulate", "write spans in which the truth is known", "traceai_vllm.cli.simulate"),
    Command("doctor", "check that spans of vLLM are made here and reach their backend", "traceai_vllm.cli.doctor"),
)

CANNOT = 2
# 128 and the number of the signal, as shells tell it: Ctrl-C, and a reader of standard output that has gone.
INTERRUPTED, READER_GONE = 130, 141

_HELP_WIDTH = 120  # where a terminal is wider

_DUCKDB_INTERRUPTED = "Query interrupted"  # what its Python module makes of Ctrl-C

_EXAMPLES = """\
examples:
  traceai-vllm doctor            what is set up here, what is missing, and how to fix it
  traceai-vllm doctor --json     the same for a program
  traceai-vllm COMMAND --help    the options of a command
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code.

    Args:
        argv: the arguments; those of the process when None.
    """
    given = list(sys.argv[1:] if argv is None else argv)
    try:
        arguments = _parser(given).parse_args(given)
        code = int(import_module(arguments.module).run(arguments))
        sys.stdout.flush()  # now, while somebody can still be told that it failed
    except KeyboardInterrupt:
        return _interrupted()
    except RuntimeError as error:
        if str(error) != _DUCKDB_INTERRUPTED:
            raise
        return _interrupted()
    except BrokenPipeError:
        _drop_output()
        return READER_GONE
    except OSError as error:  # a full disk below standard output: of other files commands tell more themselves
        _drop_output()
        print(f"traceai-vllm: {error}", file=sys.stderr)
        return CANNOT
    return code


def _interrupted() -> int:
    print("\ntraceai-vllm: interrupted", file=sys.stderr)
    return INTERRUPTED


def _drop_output() -> None:
    # Python would try to write what is left once more when it ends, and complain.
    with suppress(OSError), open(os.devnull, "wb") as nowhere:
        os.dup2(nowhere.fileno(), sys.stdout.fileno())


def _parser(given: Sequence[str]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="traceai-vllm",
        description="OpenTelemetry tracing and release safety for vLLM.",
        epilog=_EXAMPLES,
        formatter_class=_Help,
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="print the version and exit")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for command in COMMANDS:
        subparser = commands.add_parser(command.name, help=command.summary, formatter_class=_Help)
        subparser.set_defaults(module=command.module)
        if command.name in given:
            import_module(command.module).configure(subparser)
    return parser


class _Help(argparse.RawDescriptionHelpFormatter):
    # Paragraphs have the terminal's width; lists and examples, which begin with a blank, stay as they were written.
    def _fill_text(self, text: str, width: int, indent: str) -> str:
        lines: list[str] = []
        for is_prose, group in groupby(text.splitlines(), key=lambda line: bool(line[:1].strip())):
            written = list(group)
            if is_prose:
                written = textwrap.wrap(" ".join(written), min(width, _HELP_WIDTH), break_on_hyphens=False)
            lines += written
        return "\n".join(indent + line for line in lines) + "\n"


class _Version(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, *args: object, **kwargs: object) -> None:
        from traceai_vllm.version import __version__

        print(f"traceai-vllm {__version__}")
        parser.exit()
