"""``traceai-vllm replay STORE --to URL``: asks a candidate what users have asked before."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from traceai_vllm.cli.refusal import refuse

if TYPE_CHECKING:
    import argparse

    from traceai_vllm.gateway.replay import Summary

_DESCRIPTION = """\
Send the requests in a store of spans to a candidate, at a set rate, and write both answers of each request to another
store as a pair. Spans must carry their content: instrument(capture_content="SPAN_ONLY"), or `telemetry: {content:
SPAN_ONLY}` in gateway.yaml. What was redacted there is asked as it was redacted, and left out where the gateway noted a
hash of the prompt: of requests that it mirrored. Which parameters are sent again: docs/gateway.md.

It can be interrupted at any time and goes on where it was: what the candidate has answered is not asked again.
"""
_EXAMPLES = """\
exit code:
  0  every request that can be replayed has an answer
  1  some failed; the next run asks them again
  2  the store cannot be used, or the candidate does not listen

examples:
  traceai-vllm replay spans/ --to http://127.0.0.1:8001 --variant llama-int4 --format int4
  traceai-vllm replay spans/ --to http://127.0.0.1:8001 --into pairs/ --rate 10 --limit 500
  traceai-vllm compare pairs/ --policy policy.yaml
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.description = _DESCRIPTION
    parser.epilog = _EXAMPLES
    parser.add_argument("store", type=Path, metavar="STORE", help="directory of the store")
    parser.add_argument("--to", required=True, metavar="URL", help="the candidate, e.g. http://127.0.0.1:8001")
    parser.add_argument("--into", type=Path, metavar="DIR", help="where pairs are written (default: STORE-replay)")
    parser.add_argument("--rate", type=float, default=2.0, metavar="N", help="requests per second (default: 2)")
    parser.add_argument("--concurrency", type=int, default=16, metavar="N", help="under way at once (default: 16)")
    parser.add_argument("--limit", type=int, metavar="N", help="at most so many requests (default: all)")
    parser.add_argument("--model", metavar="NAME", help="the model to ask for (default: as recorded)")
    parser.add_argument("--variant", metavar="NAME", help="model_variant of the candidate, for the spans")
    parser.add_argument("--format", metavar="FORMAT", help="quantization_format of the candidate, for the spans")
    parser.add_argument("--api-key-env", metavar="VAR", help="environment variable with the candidate's key")


def run(arguments: argparse.Namespace) -> int:
    """Replay, print what came of it, and return the exit code."""
    try:
        from pydantic import ValidationError
        from tqdm import tqdm

        from traceai_vllm.gateway.config import Server
        from traceai_vllm.gateway.replay import Options, replay
        from traceai_vllm.store.reader import check_has_spans

        if arguments.rate <= 0 or arguments.concurrency < 1:
            raise ValueError("--rate has to be more than 0, and --concurrency at least 1")
        try:
            server = Server(
                url=arguments.to,
                model=arguments.model,
                model_variant=arguments.variant,
                quantization_format=arguments.format,
                api_key_env=arguments.api_key_env,
            )
        except ValidationError as error:
            first = error.errors()[0]
            given = "--api-key-env" if first["loc"] == ("api_key_env",) else f"--to {arguments.to}"
            raise ValueError(f"{given}: {first.get('ctx', {}).get('error', first['msg'])}") from None
        options = Options(
            arguments.store,
            arguments.into or arguments.store.with_name(arguments.store.name + "-replay"),
            server,
            rate=arguments.rate,
            concurrency=arguments.concurrency,
            limit=arguments.limit,
        )
        check_has_spans(arguments.store)
        with tqdm(unit=" requests", disable=None) as bar:

            def progress(done: int, total: int) -> None:
                bar.total = total
                bar.update(done - bar.n)

            summary = asyncio.run(replay(options, progress))
    except (ImportError, OSError, ValueError) as error:
        return refuse("replay", error, "gateway,store")
    except KeyboardInterrupt:
        print("\ninterrupted; the answers so far are kept, and the next run goes on from here", file=sys.stderr)
        return 130
    print(_text(summary, options.into))
    if summary.stopped:
        print(f"{arguments.to} does not listen: start the candidate there, and run this again", file=sys.stderr)
        return 2
    return 1 if summary.errors else 0


def _text(summary: Summary, into: Path) -> str:
    lines = [f"{summary.answered} of {summary.recorded} recorded requests answered now; the pairs are in {into}"]
    if summary.before:
        lines.append(f"  {summary.before} had been answered before")
    lines += [f"  {count} failed: {error}" for error, count in summary.errors.most_common()]
    lines += [f"  {count} cannot be replayed: {reason}" for reason, count in summary.left_out.most_common()]
    if not summary.recorded:
        lines.append("  no span there has content: record with capture_content, see docs/content.md")
    return "\n".join(lines)
