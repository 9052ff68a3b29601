"""Agents on a real `vllm serve`: one trace, the engine under the agent's step and the spans of the client library."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.api_server import SERVED_NAME, ApiServer
from tests.support.otlp_receiver import ReceivedSpan

AGENT = Path(__file__).parents[2] / "examples" / "agent" / "agent.py"
OTHER_CLIENTS = Path(__file__).parent / "programs" / "other_clients.py"
TOOLS = ("--enable-auto-tool-choice", "--tool-call-parser", "hermes")
STEPS = ["planner", "retriever", "tool_selection", "synthesis", "verification"]


@pytest.fixture(scope="module")
def server(one_layer_model: str) -> Iterator[ApiServer]:
    with ApiServer.vllm(one_layer_model, *TOOLS, TRACEAI_VLLM_ENABLED="1") as server:
        yield server


def run(server: ApiServer, program: Path, *arguments: str) -> str:
    """Run a client's program to its end, and return the trace that it prints."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("OTEL_", "TRACEAI_", "VLLM_"))}
    done = subprocess.run(
        [sys.executable, str(program), *arguments],
        env={**kept, "OTEL_EXPORTER_OTLP_ENDPOINT": server.receiver.http_endpoint},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()[-1].removeprefix("trace ")


def path_to_root(span: ReceivedSpan, by_id: dict[str, ReceivedSpan]) -> list[str]:
    """Return what a span is inside of, from the outside in: names, and the kind where another process begins."""
    found = [span]
    while found[-1].parent_span_id is not None:
        found.append(by_id[found[-1].parent_span_id])
    return [f"{s.kind} {s.name}" if s.kind in ("CLIENT", "SERVER") else s.name for s in reversed(found)]


def test_an_agents_run_is_one_trace_with_the_engine_under_each_step(server: ApiServer) -> None:
    """Two processes, five steps: each engine request is under its step's call, and says which step it was."""
    trace_id = run(server, AGENT, "--base-url", f"{server.base_url}/v1", "--model", SERVED_NAME)

    def of_run(spans: list[ReceivedSpan]) -> list[ReceivedSpan]:
        return [span for span in spans if span.trace_id == trace_id]

    def engines(spans: list[ReceivedSpan]) -> list[ReceivedSpan]:
        return [span for span in of_run(spans) if span.scope == "traceai_vllm"]

    everything = server.wait_for(
        lambda spans: len(engines(spans)) == 5 and any(s.name == "agent" for s in of_run(spans))
    )
    spans = of_run(everything)
    by_id = {span.span_id: span for span in spans}
    requests = sorted(engines(everything), key=lambda span: span.start_time_unix_nano)

    assert [span.attributes["agent_step"] for span in requests] == STEPS
    names = [*STEPS[:4], "invoke_agent verification"]
    assert [path_to_root(span, by_id) for span in requests] == [
        [
            "agent",
            "answer a question",
            name,
            f"CLIENT chat {SERVED_NAME}",
            "CLIENT POST",
            "SERVER POST /v1/chat/completions",
            f"chat {SERVED_NAME}",
        ]
        for name in names
    ]
    assert {(span.attributes["route"], span.attributes["prompt_version"]) for span in requests} == {("support", "v1")}
    assert {span.resource["service.name"] for span in spans if span.scope == "example.agent"} == {"example-agent"}
    assert [span.name for span in spans if span.parent_span_id is None] == ["agent"]


@pytest.mark.parametrize(
    ("library", "between"),
    [
        ("openai", ["CLIENT chat tiny"]),
        ("openinference", ["CLIENT chat tiny", "ChatCompletion"]),
        ("langchain", ["researcher.workflow", "CLIENT chat tiny"]),
    ],
)
def test_the_spans_of_other_client_libraries_are_round_ours(
    server: ApiServer, library: str, between: list[str]
) -> None:
    """Agent, then the spans of the library's instrumentation, HTTP, SERVER, engine; the agent's name is the step."""
    trace_id = run(server, OTHER_CLIENTS, library, f"{server.base_url}/v1", SERVED_NAME)
    spans = server.wait_for(
        lambda spans: {"agent", "traceai_vllm"} <= {s.scope for s in spans if s.trace_id == trace_id}
    )

    by_id = {span.span_id: span for span in spans if span.trace_id == trace_id}
    (engine,) = [span for span in by_id.values() if span.scope == "traceai_vllm"]
    around = path_to_root(engine, by_id)
    assert around[0] == "invoke_agent researcher"
    assert around[1:-3] == between
    assert around[-3:] == ["CLIENT POST", "SERVER POST /v1/chat/completions", f"chat {SERVED_NAME}"]
    assert engine.attributes["agent_step"] == "researcher"
