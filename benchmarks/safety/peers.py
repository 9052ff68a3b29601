"""What a user notices when an instrumentation library itself fails: three peers, measured.

`docs/safety.md` says what a fault inside traceai-vllm does to the user's call. This script puts the
same questions to three instrumentations of the OpenAI client, so that our table has something to
stand beside. Each peer gets a virtual environment of its own (their pins conflict); in it the
script runs itself once more with `--probe`, puts faults into the peer's own functions and watches
from the user's side: is the answer, or the exception, the one an uninstrumented client gives, and
does the span end? The transport is mocked, so no request leaves the process.

    python benchmarks/safety/peers.py                      # venvs in a temporary directory
    python benchmarks/safety/peers.py --venvs build/peers  # kept and used again

The rows go to `peers.json` beside this file; README.md describes them.
"""

from __future__ import annotations

import argparse
import asyncio
import datetime
import gc
import importlib.metadata
import json
import os
import platform
import subprocess
import tempfile
import time
import venv
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypedDict
from unittest import mock

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine

HERE = Path(__file__).resolve().parent

# The last openai that speaks httpx. openai 3 moved to httpx2, and openai-v2 2.4b0 imports httpx
# without asking for it, so with openai 3 its import fails. One client for all three keeps them comparable.
OPENAI = "openai==2.54.0"
# Fixes the api and the semantic conventions too, and through them opentelemetry-instrumentation.
SDK = "opentelemetry-sdk==1.45.2"

PIP_TIMEOUT_S = 900
PROBE_TIMEOUT_S = 180
STREAM_TIMEOUT_S = 20

# A user's settings would change what is measured, and logfire re-raises its own errors when it
# finds pytest's variable: the probe runs without any of these.
UNWANTED_ENV = ("OTEL_", "LOGFIRE_", "OPENAI_", "OPENINFERENCE_", "PYTEST_", "PYTHONPATH")

OPENAI_V2 = "opentelemetry.instrumentation.openai_v2"
LOGFIRE = "logfire._internal.integrations.llm_providers.openai"
OPENINFERENCE = "openinference.instrumentation.openai"


class Row(TypedDict):
    """One measurement; README.md explains each field."""

    library: str
    version: str
    fault: str
    user_sees: str
    span_ends: bool | None
    note: str


@dataclass(frozen=True)
class Peer:
    """A library, what it is installed with, and the functions of its own that we make fail."""

    label: str
    distribution: str
    requirements: tuple[str, ...]
    instrument: Callable[[Any], None]
    response_site: str
    request_site: str
    none_site: str
    env: dict[str, str] = field(default_factory=dict)


# --- the probe: runs inside a peer's environment -------------------------------------------------


def instrument_openai_v2(processor: Any) -> None:
    from opentelemetry.instrumentation.openai_v2 import OpenAIInstrumentor

    OpenAIInstrumentor().instrument(tracer_provider=tracer_provider(processor))


def instrument_openinference(processor: Any) -> None:
    from openinference.instrumentation.openai import OpenAIInstrumentor

    OpenAIInstrumentor().instrument(tracer_provider=tracer_provider(processor))


def instrument_logfire(processor: Any) -> None:
    import logfire

    logfire.configure(
        send_to_logfire=False,
        console=False,
        metrics=False,
        inspect_arguments=False,
        additional_span_processors=[processor],
    )
    logfire.instrument_openai()


def tracer_provider(processor: Any) -> Any:
    from opentelemetry.sdk.trace import TracerProvider

    provider = TracerProvider()
    provider.add_span_processor(processor)
    return provider


class InjectedFault(RuntimeError):
    """Ours by its name, so that it can't be taken for an error of the peer's or of openai's."""


def span_watch() -> Any:
    """Give a span processor that keeps what ended in memory and counts what was started."""
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    class Watch(SimpleSpanProcessor):
        """The in-memory exporter alone can't tell a span that never ended from one never begun."""

        def __init__(self) -> None:
            self.memory = InMemorySpanExporter()
            self.started = 0
            super().__init__(self.memory)

        def on_start(self, span: Any, parent_context: Any = None) -> None:
            self.started += 1

        @property
        def ended(self) -> int:
            return len(self.memory.get_finished_spans())

        def clear(self) -> None:
            self.started = 0
            self.memory.clear()

    return Watch()


class FakeModel:
    """The far end of the mocked transport: one fixed answer, plain or as a stream of two chunks."""

    def __init__(self, *, hangs: bool) -> None:
        self.hangs = hangs
        self.hanging = asyncio.Event()

    def respond(self, request: Any) -> Any:
        """Answer one HTTP request."""
        import httpx

        if json.loads(request.content).get("stream"):
            kind = {"content-type": "text/event-stream"}
            return httpx.Response(200, headers=kind, content=self._events())
        return httpx.Response(200, json=completion("chat.completion", "message", "four"))

    async def _events(self) -> AsyncIterator[bytes]:
        yield event(completion("chat.completion.chunk", "delta", "fo"))
        if self.hangs:
            # Set only once the consumer has its first chunk and asks for more: the cancel that
            # follows is sure to land inside the library's `__anext__`.
            self.hanging.set()
            await asyncio.Event().wait()
        yield event(completion("chat.completion.chunk", "delta", "ur"))
        yield b"data: [DONE]\n\n"


def completion(kind: str, part: str, text: str) -> dict[str, Any]:
    return {
        "id": "chatcmpl-1",
        "object": kind,
        "created": 1,
        "model": "fake-model",
        "choices": [{"index": 0, "finish_reason": "stop", part: {"role": "assistant", "content": text}}],
        "usage": {"prompt_tokens": 3, "completion_tokens": 1, "total_tokens": 4},
    }


def event(body: dict[str, Any]) -> bytes:
    return f"data: {json.dumps(body)}\n\n".encode()


async def create(model: FakeModel, **extra: Any) -> Any:
    import httpx
    import openai

    client = openai.AsyncOpenAI(
        api_key="not-a-key",
        base_url="http://model.invalid/v1",
        max_retries=0,
        http_client=httpx.AsyncClient(transport=httpx.MockTransport(model.respond)),
    )
    question = [{"role": "user", "content": "two plus two?"}]
    return await client.chat.completions.create(model="fake-model", messages=question, **extra)


async def outcome(answer: Awaitable[Any]) -> str:
    """Put what the user ends up with in words that can be compared: a value or an exception."""
    try:
        value = await answer
    except (Exception, asyncio.CancelledError) as error:
        return f"{type(error).__name__} ({error})" if str(error) else type(error).__name__
    dump = value.model_dump_json() if hasattr(value, "model_dump_json") else ""
    return f"{type(value).__name__} {dump}".strip() if value is not None else "None"


async def plain_call() -> str:
    return await outcome(create(FakeModel(hangs=False)))


async def read(model: FakeModel, chunks: list[str]) -> None:
    async for chunk in await create(model, stream=True):
        chunks.append(chunk.model_dump_json())


async def whole_stream() -> str:
    chunks: list[str] = []
    return f"{await outcome(read(FakeModel(hangs=False), chunks))} after {chunks}"


async def cancelled_stream() -> str:
    """Cancel the task that reads a stream while it waits for the second chunk."""
    model, chunks = FakeModel(hangs=True), list[str]()
    consumer = asyncio.create_task(read(model, chunks))
    hanging = asyncio.create_task(model.hanging.wait())
    await asyncio.wait({consumer, hanging}, timeout=STREAM_TIMEOUT_S, return_when=asyncio.FIRST_COMPLETED)
    hanging.cancel()
    if consumer.done() or not model.hanging.is_set():
        raise RuntimeError(f"the stream stopped before it could be cancelled; read so far: {chunks}")
    consumer.cancel()
    return f"{await outcome(consumer)} after {chunks}"


def observe(watch: Any, call: Callable[[], Coroutine[Any, Any, str]]) -> str:
    """Run one call in an event loop of its own, so that no context or task outlives it."""
    watch.clear()
    seen = asyncio.run(call())
    # What only a finaliser ends is counted as ended: the question is whether it ever does.
    gc.collect()
    return seen


def span_ends(watch: Any, expected: int) -> bool | None:
    """Say whether all spans of a healthy call are there and ended; None when none was begun."""
    if not watch.started:
        return None
    return bool(watch.ended == watch.started and watch.ended >= expected)


class Healthy(NamedTuple):
    """What a fault is measured against: what the user sees without the library, and its healthy spans."""

    seen: str
    spans: int


class Probe:
    """The faults of one peer, each measured against the same call without the library."""

    def __init__(self, peer: Peer) -> None:
        self.peer = peer
        self.watch = span_watch()
        bare_answer, bare_stream, bare_cancel = (
            observe(self.watch, call) for call in (plain_call, whole_stream, cancelled_stream)
        )
        peer.instrument(self.watch)
        self.answer = Healthy(bare_answer, self._healthy_spans(plain_call, bare_answer))
        self.cancel = Healthy(bare_cancel, self._healthy_spans(whole_stream, bare_stream))

    def _healthy_spans(self, call: Callable[[], Coroutine[Any, Any, str]], bare: str) -> int:
        """Check that without a fault the peer traces and changes nothing; return its span count."""
        seen = observe(self.watch, call)
        if seen != bare or not span_ends(self.watch, 1):
            raise RuntimeError(
                f"{self.peer.label} does not trace a healthy call, so its faults mean nothing: the user "
                f"saw {seen!r}, {self.watch.ended} of {self.watch.started} spans ended"
            )
        return int(self.watch.ended)

    def rows(self) -> list[Row]:
        """Inject the faults one after the other."""
        peer = self.peer
        return [
            self._broken("response extraction raises", peer.response_site, side_effect=InjectedFault()),
            self._broken("request extraction raises", peer.request_site, side_effect=InjectedFault()),
            self._cancelled("consumer cancelled mid-stream"),
            self._broken("own function returns None", peer.none_site, return_value=None),
        ]

    def _broken(self, fault: str, site: str, **behaviour: Any) -> Row:
        with mock.patch(site, **behaviour) as broken:
            seen = observe(self.watch, plain_call)
        if not broken.called:
            raise RuntimeError(f"{self.peer.label}: {site} was never called; name another function for the fault")
        what = "same" if seen == self.answer.seen else f"{seen} instead of the answer"
        return self._row(fault, what, self.answer.spans, f"in {site}")

    def _cancelled(self, fault: str) -> Row:
        seen = observe(self.watch, cancelled_stream)
        what = "same" if seen == self.cancel.seen else f"{seen} instead of the cancellation"
        return self._row(fault, what, self.cancel.spans, "while waiting for the second chunk")

    def _row(self, fault: str, user_sees: str, healthy_spans: int, where: str) -> Row:
        ends = span_ends(self.watch, healthy_spans)
        count = f"{self.watch.ended} of {self.watch.started} spans ended, {healthy_spans} when healthy"
        return {
            "library": self.peer.label,
            "version": importlib.metadata.version(self.peer.distribution),
            "fault": fault,
            "user_sees": user_sees,
            "span_ends": ends,
            "note": f"{where}; {'no span was begun' if ends is None else count}",
        }


# --- the driver: runs anywhere, with the standard library alone ------------------------------------

OPENAI_V2_OPT_IN = Peer(
    label="opentelemetry-instrumentation-openai-v2",
    distribution="opentelemetry-instrumentation-openai-v2",
    # It asks for util-genai >= 0.4b0.dev, and pip then picks one that it cannot import.
    requirements=(
        "opentelemetry-instrumentation-openai-v2==2.4b0",
        "opentelemetry-util-genai==0.4b0",
        SDK,
        OPENAI,
    ),
    instrument=instrument_openai_v2,
    response_site=f"{OPENAI_V2}.patch._set_response_properties",
    request_site=f"{OPENAI_V2}.patch.create_chat_invocation",
    none_site=f"{OPENAI_V2}.utils.get_server_address_and_port",
    env={"OTEL_SEMCONV_STABILITY_OPT_IN": "gen_ai_latest_experimental"},
)

PEERS = (
    OPENAI_V2_OPT_IN,
    # The same release without the opt-in takes another path through other functions.
    replace(
        OPENAI_V2_OPT_IN,
        label="opentelemetry-instrumentation-openai-v2 (default conventions)",
        response_site=f"{OPENAI_V2}.patch._set_response_attributes",
        request_site=f"{OPENAI_V2}.patch.get_llm_request_attributes",
        env={},
    ),
    Peer(
        label="logfire",
        distribution="logfire",
        requirements=("logfire==5.2.0", SDK, OPENAI),
        instrument=instrument_logfire,
        response_site=f"{LOGFIRE}.convert_openai_response_to_semconv",
        request_site=f"{LOGFIRE}.convert_chat_completions_to_semconv",
        none_site=f"{LOGFIRE}.get_openai_usage_attributes",
    ),
    Peer(
        label="openinference-instrumentation-openai",
        distribution="openinference-instrumentation-openai",
        requirements=("openinference-instrumentation-openai==0.1.66", SDK, OPENAI),
        instrument=instrument_openinference,
        response_site=f"{OPENINFERENCE}._response_attributes_extractor"
        "._ResponseAttributesExtractor.get_attributes_from_response",
        request_site=f"{OPENINFERENCE}._request_attributes_extractor"
        "._RequestAttributesExtractor.get_attributes_from_request",
        none_site=f"{OPENINFERENCE}._response_attributes_extractor"
        "._ResponseAttributesExtractor.get_attributes_from_response",
    ),
)


def say(text: str) -> None:
    print(text, flush=True)


def run(what: str, command: list[str], timeout_s: int, env: dict[str, str] | None = None) -> str:
    """Run a command, give its standard output, or stop with the end of what it said."""
    say(f"  {what} ...")
    begun = time.monotonic()
    try:
        done = subprocess.run(command, env=env, timeout=timeout_s, capture_output=True, text=True, check=False)
    except subprocess.TimeoutExpired:
        raise SystemExit(f"peers: {what} was not done after {timeout_s} s; run again with --venvs DIR") from None
    if done.returncode:
        tail = "\n".join((done.stderr or done.stdout).strip().splitlines()[-15:])
        raise SystemExit(f"peers: {what} failed with exit status {done.returncode}:\n{tail}")
    say(f"  {what}: done in {time.monotonic() - begun:.0f} s")
    return done.stdout


def environment(peer: Peer, venvs: Path) -> Path:
    """Make the peer's virtual environment, or complete the one that is there; give its python."""
    home = venvs / peer.distribution
    python = home / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    if not python.exists():
        say("  creating the environment ...")
        venv.create(home, with_pip=True, symlinks=os.name != "nt")
    install = [str(python), "-m", "pip", "install", "--quiet", *peer.requirements]
    run("installing " + " ".join(peer.requirements), install, PIP_TIMEOUT_S)
    return python


def measure(peer: Peer, venvs: Path) -> list[Row]:
    python = environment(peer, venvs)
    env = {name: value for name, value in os.environ.items() if not name.startswith(UNWANTED_ENV)}
    command = [str(python), str(Path(__file__).resolve()), "--probe", peer.label]
    answer = run("injecting the faults", command, PROBE_TIMEOUT_S, env | peer.env)
    rows: list[Row] = json.loads(answer.splitlines()[-1])
    for row in rows:
        say(f"    {row['fault']}: user sees {row['user_sees']}; span ends: {row['span_ends']}")
    return rows


def measure_all(venvs: Path) -> list[Row]:
    rows: list[Row] = []
    for number, peer in enumerate(PEERS, 1):
        say(f"[{number}/{len(PEERS)}] {peer.label}")
        rows += measure(peer, venvs)
    return rows


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Inject faults into three peers; write what the user sees.")
    parser.add_argument("--venvs", type=Path, help="keep the environments here (default: a temporary directory)")
    parser.add_argument("--out", type=Path, default=HERE / "peers.json", help="the file to write")
    parser.add_argument("--date", type=datetime.date.fromisoformat, default=datetime.date.today(), help="YYYY-MM-DD")
    parser.add_argument("--probe", choices=[peer.label for peer in PEERS], help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    args = arguments()
    if args.probe:
        peer = next(peer for peer in PEERS if peer.label == args.probe)
        print(json.dumps(Probe(peer).rows()))
        return
    with tempfile.TemporaryDirectory(prefix="peers-") as scratch:
        rows = measure_all(args.venvs.resolve() if args.venvs else Path(scratch))
    result = {
        "date": args.date.isoformat(),
        "python": platform.python_version(),
        "openai": OPENAI.partition("==")[2],
        "rows": rows,
    }
    args.out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    say(f"wrote {len(rows)} rows to {args.out}")


if __name__ == "__main__":
    main()
