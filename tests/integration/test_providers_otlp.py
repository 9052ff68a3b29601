"""One line of set-up really exports: over both protocols, to real receivers, and past dead ones."""

from __future__ import annotations

import os
import socket
import subprocess
import sys

import pytest

from tests.support.otlp_receiver import OtlpReceiver
from tests.support.rotel_receiver import RotelReceiver

PROGRAM = """
import atexit, sys, time
start = [0.0]
atexit.register(lambda: print(time.monotonic() - start[0]))  # the first registered runs last
from opentelemetry import metrics, trace
from traceai_vllm.telemetry import providers
providers.EXIT_TIMEOUT_S = float(sys.argv[1])
configured = providers.configure()
tracer = trace.get_tracer("traceai_vllm")
with tracer.start_as_current_span("parent", kind=trace.SpanKind.SERVER) as parent:
    values = {"text": "é", "whole": 3, "part": 1.5, "yes": True, "list": ["a", "b"]}
    child = tracer.start_span("child", attributes=values)
    child.set_status(trace.Status(trace.StatusCode.ERROR, "engine died"))
    child.end()
metrics.get_meter("traceai_vllm").create_counter("requests").add(1)
"""
LOG = """
from opentelemetry._logs import LogRecord, get_logger
get_logger("traceai_vllm").emit(LogRecord(body="evaluated"))
"""
END = "\nstart[0] = time.monotonic()\n"


def run(script: str, exit_timeout_s: float, **environment: str) -> tuple[float, str]:
    """Run a program that exports as it exits; return how long the exit took in seconds, and its log."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
    done = subprocess.run(
        [sys.executable, "-c", script + END, str(exit_timeout_s)],
        env={**clean, **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return float(done.stdout), done.stderr


@pytest.mark.parametrize("protocol", ["http/protobuf", "grpc"])
def test_all_signals_arrive_over_otlp(protocol) -> None:
    """Spans, metrics and logs of a program that just ends are all there, with exact values and types."""
    with OtlpReceiver() as receiver:
        endpoint = receiver.grpc_endpoint if protocol == "grpc" else receiver.http_endpoint
        _, log = run(
            PROGRAM + LOG,
            30,
            OTEL_EXPORTER_OTLP_PROTOCOL=protocol,
            OTEL_EXPORTER_OTLP_ENDPOINT=endpoint,
            OTEL_RESOURCE_ATTRIBUTES="deployment.environment=test",
        )
        assert log == ""
        child, parent = sorted(receiver.spans(at_least=2), key=lambda span: span.name)
        assert receiver.metric_names(at_least=1) == {"requests"}
        assert receiver.log_bodies(at_least=1) == ["evaluated"]

    assert (child.name, parent.name) == ("child", "parent")
    assert (child.trace_id, child.parent_span_id) == (parent.trace_id, parent.span_id)
    assert parent.parent_span_id is None
    assert (parent.kind, child.kind) == ("SERVER", "INTERNAL")
    assert (child.status, child.status_message) == ("ERROR", "engine died")
    assert child.end_time_unix_nano > child.start_time_unix_nano > 0
    assert child.scope == "traceai_vllm"
    assert child.attributes == {"text": "é", "whole": 3, "part": 1.5, "yes": True, "list": ["a", "b"]}
    assert [type(child.attributes[name]) for name in ("whole", "part", "yes")] == [int, float, bool]
    assert child.resource["service.name"] == "vllm"
    assert child.resource["deployment.environment"] == "test"


def test_the_default_is_http_on_its_standard_path() -> None:
    """With nothing but an endpoint set, all three signals go over HTTP to /v1/..."""
    with OtlpReceiver() as receiver:
        run(PROGRAM + LOG, 30, OTEL_EXPORTER_OTLP_ENDPOINT=receiver.http_endpoint)
        assert len(receiver.spans(at_least=2)) == 2
        assert receiver.metric_names(at_least=1)
        assert receiver.log_bodies(at_least=1)


@pytest.mark.parametrize("protocol", ["http/protobuf", "grpc"])
def test_a_collector_of_others_understands_the_spans(protocol) -> None:
    """rotel-agent reads the same names, ids, parents, status and typed attributes."""
    with RotelReceiver() as rotel:
        endpoint = rotel.grpc_endpoint if protocol == "grpc" else rotel.http_endpoint
        run(PROGRAM, 30, OTEL_EXPORTER_OTLP_PROTOCOL=protocol, OTEL_EXPORTER_OTLP_ENDPOINT=endpoint)
        child, parent = sorted(rotel.spans(at_least=2), key=lambda span: span.name)
    assert (child.name, child.trace_id, child.parent_span_id) == ("child", parent.trace_id, parent.span_id)
    assert (parent.kind, parent.parent_span_id) == ("SERVER", None)
    assert (child.status, child.status_message) == ("ERROR", "engine died")
    assert child.attributes == {"text": "é", "whole": 3, "part": 1.5, "yes": True, "list": ["a", "b"]}
    assert child.resource["service.name"] == "vllm"
    assert child.scope == "traceai_vllm"


@pytest.mark.parametrize("protocol", ["http/protobuf", "grpc"])
@pytest.mark.parametrize("collector", ["refuses", "never answers"])
def test_a_dead_collector_does_not_hold_up_the_exit(protocol, collector) -> None:
    """The process ends in its own good time and with code 0, and the log says that telemetry was lost."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        if collector == "never answers":
            listener.listen()
        endpoint = f"http://127.0.0.1:{listener.getsockname()[1]}"
        took, log = run(PROGRAM, 1, OTEL_EXPORTER_OTLP_PROTOCOL=protocol, OTEL_EXPORTER_OTLP_ENDPOINT=endpoint)
    assert took < 8  # the bound is 1 s here; without it this takes 12 s and more
    # Older SDKs do not retry over HTTP where a connection is refused: they say so and are done.
    assert "could not deliver all telemetry within 1 s" in log or (took < 1 and "Connection refused" in log)
