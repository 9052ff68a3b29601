"""`instrument(client=True)`: what a real HTTP server sees of calls by each client library."""

from __future__ import annotations

import asyncio
import importlib
import importlib.util
import json
import logging
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote

import pytest
from opentelemetry import propagate
from opentelemetry.baggage.propagation import W3CBaggagePropagator
from opentelemetry.propagators.composite import CompositePropagator
from opentelemetry.sdk.trace import TracerProvider

import traceai_vllm
from tests.support.otlp_receiver import OtlpReceiver
from traceai_vllm import client, instrumentor
from traceai_vllm.testing import Capture, capture

TAGS = {"route": "support", "prompt_version": "v3", "traffic_cohort": "mirrored-2026-05", "agent_step": "plan"}
ANSWER = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "created": 1,
    "model": "m",
    "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "Hello."}}],
    "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
}


class Server:
    """Answers every request like a chat completion, and keeps the headers."""

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self.requests: list[dict[str, str]] = []

    def baggage(self) -> dict[str, str]:
        """Return the baggage of the last request."""
        pairs = self.requests[-1].get("baggage", "").split(",")
        return {name: unquote(value) for name, _, value in (pair.partition("=") for pair in pairs) if name}


@pytest.fixture
def server() -> Iterator[Server]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            seen.requests.append({name.lower(): value for name, value in self.headers.items()})
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            body = json.dumps(ANSWER).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        seen = Server(http.server_address[1])
        thread = threading.Thread(target=http.serve_forever, args=(0.01,))
        thread.start()
        yield seen
        http.shutdown()
        thread.join()


def call_requests(url: str) -> None:
    import requests

    with requests.Session() as session:
        session.post(f"{url}/v1/chat/completions", json={})


def call_httpx(url: str) -> None:
    import httpx

    with httpx.Client() as http:
        http.post(f"{url}/v1/chat/completions", json={})


def call_httpx2(url: str) -> None:
    httpx2 = importlib.import_module("httpx2")
    with httpx2.Client() as http:
        http.post(f"{url}/v1/chat/completions", json={})


def call_aiohttp(url: str) -> None:
    import aiohttp

    async def call() -> None:
        async with aiohttp.ClientSession() as session, session.post(f"{url}/v1/chat/completions", json={}) as response:
            await response.read()

    asyncio.run(call())


def call_openai(url: str) -> None:
    from openai import OpenAI

    with OpenAI(api_key="none", base_url=f"{url}/v1") as openai:
        answer = openai.chat.completions.create(model="m", messages=[{"role": "user", "content": "Hello!"}])
    assert answer.choices[0].message.content == "Hello."


CALLS: dict[str, tuple[str, Callable[[str], None]]] = {
    "requests": ("opentelemetry.instrumentation.requests", call_requests),
    "httpx": ("opentelemetry.instrumentation.httpx", call_httpx),
    "httpx2": ("opentelemetry.instrumentation.httpx", call_httpx2),
    "aiohttp": ("opentelemetry.instrumentation.aiohttp_client", call_aiohttp),
    "openai": ("opentelemetry.instrumentation.httpx", call_openai),
}


def needs(library: str) -> Callable[[str], None]:
    instrumentation, call = CALLS[library]
    for module in (library, instrumentation):
        if importlib.util.find_spec(module) is None:
            pytest.skip(f"{module} is not installed")
    return call


@pytest.fixture
def captured() -> Iterator[Capture]:
    with capture(client=True) as seen:
        yield seen


@pytest.mark.parametrize("library", CALLS)
def test_a_call_carries_the_trace_and_the_tags(server: Server, captured: Capture, library: str) -> None:
    """The server can join the caller's trace, and knows route, prompt version, cohort and step."""
    call = needs(library)
    tracer = captured.tracer_provider.get_tracer("app")

    with tracer.start_as_current_span("answer a ticket") as caller, traceai_vllm.tags(**TAGS):
        call(server.url)

    (request,) = server.requests
    _, trace_id, parent_id, _ = request["traceparent"].split("-")
    assert int(trace_id, 16) == caller.get_span_context().trace_id
    assert server.baggage() == TAGS
    clients = {span.context.span_id: span for span in captured.spans if span.kind.name == "CLIENT"}
    assert clients[int(parent_id, 16)].resource == captured.tracer_provider.resource


def test_only_the_four_named_tags_travel(server: Server, captured: Capture) -> None:
    """Neither free tags nor retrieved context leave the process, whatever they hold."""
    call = needs("requests")

    with traceai_vllm.tags(route="support", extra={"customer": "canary-1"}, context="canary-2"):
        call(server.url)

    assert server.baggage() == {"route": "support"}
    assert "canary" not in str(server.requests)


def test_tags_may_stay_at_home(server: Server, captured: Capture) -> None:
    """`propagate=False` keeps the tags of one scope from a call to somebody else."""
    call = needs("requests")

    with traceai_vllm.tags(route="support", propagate=False):
        call(server.url)

    assert server.baggage() == {}
    assert "traceparent" in server.requests[0]


def test_tags_of_a_decorator_travel_though_it_was_made_before(server: Server) -> None:
    """Decorators are applied when modules are imported, before anybody has called instrument()."""
    call = traceai_vllm.tags(route="early")(needs("requests"))

    with capture(client=True):
        call(server.url)

    assert server.baggage() == {"route": "early"}


def test_what_was_turned_on_is_turned_off_and_nothing_else(server: Server) -> None:
    """An instrumentation that the application uses itself stays on after uninstrument()."""
    call, other = needs("requests"), needs("httpx")
    theirs = importlib.import_module("opentelemetry.instrumentation.requests").RequestsInstrumentor()
    theirs.instrument(tracer_provider=TracerProvider(shutdown_on_exit=False))
    try:
        with capture(client=True):
            other(server.url)
        other(server.url)
        call(server.url)
        with traceai_vllm.tags(route="support"):
            call(server.url)
    finally:
        theirs.uninstrument()

    assert ["traceparent" in request for request in server.requests] == [True, False, True, True]
    assert server.baggage() == {}


def test_a_missing_instrumentation_is_named_in_one_line(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """What is on, what is missing and how to install it; one line, whatever happens."""
    found = client._instrumentation
    monkeypatch.setattr(client, "_is_installed", lambda library: library in ("requests", "aiohttp", "openai"))
    monkeypatch.setattr(client, "_instrumentation", lambda name: found(name) if name == "requests" else None)
    needs("requests")

    with caplog.at_level(logging.INFO, "traceai_vllm"), capture(client=True):
        pass

    (line,) = [record for record in caplog.records if "client=True" in record.message]
    assert line.levelname == "WARNING"
    assert "calls by requests send their trace" in line.message
    assert "missing for openai, aiohttp: pip install 'traceai-vllm[client]'" in line.message


def test_an_instrumentation_that_cannot_be_used_is_named_with_the_reason(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Beta packages do not always fit together; the others are turned on all the same."""

    class Broken:
        value = "opentelemetry.instrumentation.broken:Instrumentor"

        def load(self) -> Any:
            raise ImportError("no module of that name")

    found = client._instrumentation
    monkeypatch.setattr(client, "_is_installed", lambda library: library in ("requests", "openai"))
    monkeypatch.setattr(client, "_instrumentation", lambda name: Broken() if name == "openai" else found(name))
    needs("requests")

    with caplog.at_level(logging.INFO, "traceai_vllm"), capture(client=True):
        pass

    (line,) = [record.message for record in caplog.records if "client=True" in record.message]
    assert "calls by requests" in line
    assert "could not be turned on: openai (ImportError: no module of that name)" in line


@pytest.mark.parametrize("asked", [None, True])
def test_whoever_did_not_ask_for_it_is_told_that_vllm_is_not_installed(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, asked: bool | None
) -> None:
    """A plain `instrument()` in the wrong environment."""
    monkeypatch.setattr(instrumentor, "_vllm_is_installed", lambda: False)
    monkeypatch.setattr(client, "_is_installed", lambda library: False)

    with capture(client=asked):
        pass

    (line,) = [record.message for record in caplog.records if "client=True" in record.message]
    assert ("vLLM is not installed here" in line) == (asked is None)


@pytest.mark.parametrize("travel", [True, False])
def test_that_tags_do_not_travel_is_said_where_they_do_not(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, travel: bool
) -> None:
    """As the propagator in force has it: an empty variable is OpenTelemetry's default, `none,baggage` is none."""
    monkeypatch.setenv("OTEL_PROPAGATORS", "" if travel else "none,baggage")  # as they were read when it was imported
    in_force = [W3CBaggagePropagator()] if travel else []
    monkeypatch.setattr(propagate, "_HTTP_TEXT_FORMAT", CompositePropagator(in_force))

    with caplog.at_level(logging.INFO, "traceai_vllm"), capture(client=True):
        pass

    (line,) = [record.message for record in caplog.records if "client=True" in record.message]
    assert ("tags do not travel" in line) is not travel


def test_opentelemetrys_own_switch_is_obeyed(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """An instrumentation that the operator has disabled is not turned on."""
    call = needs("requests")
    monkeypatch.setenv("OTEL_PYTHON_DISABLED_INSTRUMENTATIONS", "redis,requests")

    with capture(client=True):
        call(server.url)

    assert "traceparent" not in server.requests[0]


def test_without_vllm_the_clients_are_what_is_instrumented(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """A service that only calls vLLM does not have it, and is not refused."""
    call = needs("requests")
    monkeypatch.setattr(instrumentor, "_vllm_is_installed", lambda: False)

    with capture(), traceai_vllm.tags(route="support"):
        assert traceai_vllm.VLLMInstrumentor().is_instrumented_by_opentelemetry
        call(server.url)

    assert server.baggage() == {"route": "support"}


def test_with_vllm_clients_are_left_alone_unless_asked_for(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server's own outgoing calls are not ours to trace."""
    call = needs("requests")
    monkeypatch.setattr(instrumentor, "_vllm_is_installed", lambda: True)

    with capture(), traceai_vllm.tags(route="support"):
        call(server.url)

    assert not {"traceparent", "baggage"} & set(server.requests[0])


# The README of PyPI's traceAI-vllm 0.1.0 by FutureAGI (Apache-2.0), which shares our names: its quick start, word for
# word but for the port.
FUTUREAGI_QUICK_START = """
from fi_instrumentation import register
from fi_instrumentation.fi_types import ProjectType
from traceai_vllm import VLLMInstrumentor

# Setup TraceAI
trace_provider = register(
    project_type=ProjectType.OBSERVE,
    project_name="my-vllm-app",
)

# Instrument vLLM (specify your server URLs)
VLLMInstrumentor(
    vllm_base_urls=["localhost:8000"]  # Your vLLM server(s)
).instrument(tracer_provider=trace_provider)

# Now use OpenAI client with vLLM
from openai import OpenAI

client = OpenAI(
    api_key="token",  # vLLM doesn't require a real API key
    base_url="http://localhost:8000/v1",
)

response = client.chat.completions.create(
    model="meta-llama/Llama-2-7b-chat-hf",
    messages=[{"role": "user", "content": "Hello!"}]
)
"""


def test_code_for_futureagis_traceai_vllm_runs_unchanged(server: Server) -> None:
    """Their quick start, with their register(): the answer comes, and the call is a span that their exporter sends."""
    for module in ("fi_instrumentation", "openai", "opentelemetry.instrumentation.httpx"):
        pytest.importorskip(module)
    port = server.url.rpartition(":")[2]
    program = FUTUREAGI_QUICK_START.replace("8000", port)
    program += "\nprint('ANSWER', response.choices[0].message.content)\ntrace_provider.shutdown()\n"

    with OtlpReceiver(prefix="/tracer") as cloud:
        done = subprocess.run(
            [sys.executable, "-c", program],
            env={"PATH": "", "FI_API_KEY": "none", "FI_SECRET_KEY": "none", "FI_BASE_URL": cloud.http_endpoint},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        spans = [span for span in cloud.spans(at_least=1) if span.scope.startswith("opentelemetry.instrumentation")]

    assert "ANSWER Hello." in done.stdout
    assert {(span.kind, span.resource["project_name"]) for span in spans} == {("CLIENT", "my-vllm-app")}
    (trace_id,) = {span.trace_id for span in spans}
    assert trace_id in server.requests[0]["traceparent"]
