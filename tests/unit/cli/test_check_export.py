"""Each way in which a span may not arrive is told apart, and named with its fix; all over real sockets."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import grpc
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

from tests.support.bad_receivers import closing_port, grpc_answering, hanging_port, http_answering, refusing_port
from tests.support.otlp_receiver import OtlpReceiver
from traceai_vllm.cli import check_export
from traceai_vllm.cli.findings import Finding

HTTP, GRPC = "http/protobuf", "grpc"


def nobody() -> AbstractContextManager[int]:
    return nullcontext(refusing_port())


def answering(*args: Any, **kwargs: Any) -> Callable[[], AbstractContextManager[int]]:
    return lambda: http_answering(*args, **kwargs)


def calls_ending(code: Any) -> Callable[[], AbstractContextManager[int]]:
    return lambda: grpc_answering(code)


def rejecting() -> AbstractContextManager[int]:
    response = ExportTraceServiceResponse()
    response.partial_success.rejected_spans = 1
    response.partial_success.error_message = "quota used up"
    return http_answering(200, response.SerializeToString())


def checked(
    monkeypatch: pytest.MonkeyPatch, endpoint: str, protocol: str = HTTP, timeout_s: float = 5.0
) -> dict[str, Finding]:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", protocol)
    return {finding.check: finding for finding in check_export.findings(timeout_s)}


@pytest.mark.parametrize("protocol", [HTTP, GRPC])
def test_a_span_that_arrives_is_said_to_arrive(monkeypatch: pytest.MonkeyPatch, protocol: str) -> None:
    """The receiver has the span, and nothing is wrong."""
    with OtlpReceiver() as receiver:
        endpoint = receiver.http_endpoint if protocol == HTTP else receiver.grpc_endpoint
        found = checked(monkeypatch, endpoint, protocol)
        (span,) = receiver.spans(at_least=1)

    assert span.name == "traceai-vllm doctor"
    assert (found["export"].status, found["export"].fix) == ("ok", None)


@pytest.mark.parametrize(
    ("protocol", "receiver", "outcome", "said"),
    [
        (HTTP, nobody, "refused", "nothing listens"),
        (GRPC, nobody, "refused", "nothing listens"),
        (HTTP, closing_port, "closed", "drops it"),
        (HTTP, answering(401), "unauthorized", "HTTP 401"),
        (HTTP, answering(403), "unauthorized", "HTTP 403"),
        (HTTP, answering(404), "wrong_path", "no OTLP traces at this address"),
        (HTTP, answering(308), "wrong_path", "HTTP 308"),
        (HTTP, answering(400), "rejected", "HTTP 400"),
        (HTTP, answering(503), "server_error", "HTTP 503"),
        (HTTP, rejecting, "rejected", "quota used up"),
        (GRPC, calls_ending(grpc.StatusCode.UNAUTHENTICATED), "unauthorized", "UNAUTHENTICATED"),
        (GRPC, calls_ending(grpc.StatusCode.RESOURCE_EXHAUSTED), "server_error", "RESOURCE_EXHAUSTED"),
        (GRPC, calls_ending(None), "wrong_path", "UNIMPLEMENTED"),
    ],
)
def test_what_is_wrong_is_named(
    monkeypatch: pytest.MonkeyPatch,
    protocol: str,
    receiver: Callable[[], AbstractContextManager[int]],
    outcome: str,
    said: str,
) -> None:
    """One problem, with its cause and a fix, at the first attempt: the exporters' own retries are not waited for."""
    with receiver() as port:
        started = time.monotonic()
        found = checked(monkeypatch, f"http://127.0.0.1:{port}", protocol, timeout_s=20)["export"]

    assert time.monotonic() - started < 10
    assert (found.status, found.details["outcome"]) == ("problem", outcome)
    assert said in found.message
    assert str(port) in found.message
    assert found.fix


@pytest.mark.parametrize("protocol", [HTTP, GRPC])
def test_a_backend_that_does_not_answer_is_waited_for_only_so_long(
    monkeypatch: pytest.MonkeyPatch, protocol: str
) -> None:
    """The timeout that was asked for, not the exporter's."""
    with hanging_port() as port:
        started = time.monotonic()
        found = checked(monkeypatch, f"http://127.0.0.1:{port}", protocol, timeout_s=0.5)["export"]

    assert time.monotonic() - started < 5
    assert found.details["outcome"] == "timeout"
    assert "within 0.5 s" in found.message


def test_a_host_that_does_not_exist_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """A typing error in the host is not a firewall."""
    found = checked(monkeypatch, "http://collector.invalid:4318")["export"]

    assert found.details["outcome"] == "unknown_host"


@pytest.mark.parametrize("endpoint", ["collector:4318", "127.0.0.1:4318"])
def test_an_endpoint_that_is_no_url_is_named(monkeypatch: pytest.MonkeyPatch, endpoint: str) -> None:
    """gRPC takes an address without http://, and OTLP/HTTP does not."""
    found = checked(monkeypatch, endpoint)["export"]

    assert (found.status, found.details["outcome"]) == ("problem", "no_url")
    assert "http://" in (found.fix or "")


@pytest.mark.parametrize(("ahead_s", "status"), [(0, "ok"), (90, "warning"), (-90, "warning")])
def test_a_clock_that_is_off_is_seen(monkeypatch: pytest.MonkeyPatch, ahead_s: float, status: str) -> None:
    """By the Date header of the backend's answer."""
    with http_answering(200, clock_ahead_s=ahead_s) as port:
        found = checked(monkeypatch, f"http://127.0.0.1:{port}")["clock"]

    assert found.status == status
    if status == "warning":
        assert found.details["skew_s"] == pytest.approx(ahead_s, abs=3)
        assert ("behind" if ahead_s > 0 else "ahead of") in found.message


@pytest.mark.parametrize(
    ("given", "wrong"),
    [
        ("authorization: Bearer SECRET", "number 1 "),
        ('"authorization=Bearer SECRET"', "number 1 "),
        ("x=1,SECRET,authorization=a;SECRET", "number 2, 3 "),
        ("authorization=Bearer%20SECRET, x=1,", None),
        ("authorization=Bearer SECRET==", None),
    ],
)
@pytest.mark.parametrize("variable", ["OTEL_EXPORTER_OTLP_HEADERS", "OTEL_EXPORTER_OTLP_METRICS_HEADERS"])
def test_headers_that_cannot_be_read_are_counted_and_not_shown(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, variable: str, given: str, wrong: str | None
) -> None:
    """The exporter leaves them out, and the backend then refuses a span without credentials."""
    monkeypatch.setenv(variable, given)
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "none")

    found = {finding.check: finding for finding in check_export.findings(1)}.get("headers")

    assert (found is None) == (wrong is None)
    if found is not None:
        assert found.status == "problem"
        assert variable in found.message
        assert str(wrong) in found.message
        assert variable in (found.fix or "")
    assert "SECRET" not in f"{found}{caplog.text}"


def test_exporting_nothing_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    """OTEL_TRACES_EXPORTER=none is a setting, but not one for somebody who asks where the spans are."""
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "none")

    (found,) = check_export.findings(1)

    assert (found.status, "go nowhere" in found.message) == ("problem", True)


def test_a_wrong_variable_is_a_problem_that_says_what_is_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    """What only logs a warning at run time is a finding here."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json")

    (found,) = check_export.findings(1)

    assert found.status == "problem"
    assert "http/protobuf, grpc" in found.message


def test_the_console_does_not_mix_with_what_was_found() -> None:
    """`doctor --json` is one JSON document, wherever spans go."""
    environment = {**os.environ, "OTEL_TRACES_EXPORTER": "console"}
    command = [sys.executable, "-m", "traceai_vllm.cli", "doctor", "--skip-hooks", "--json"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)

    (found,) = [finding for finding in json.loads(done.stdout)["findings"] if finding["check"] == "export"]
    assert found["message"] == "a span reached console."
    assert '"name": "traceai-vllm doctor"' in done.stderr


@pytest.mark.parametrize(("value", "checks"), [("true", ["sdk"]), ("1", ["export"])])
def test_a_disabled_sdk_is_one_problem(value: str, checks: list[str]) -> None:
    """Nothing can be sent then, which says nothing of the backend; OpenTelemetry takes no word for it but true."""
    environment = {**os.environ, "OTEL_SDK_DISABLED": value, "OTEL_TRACES_EXPORTER": "none"}
    command = [sys.executable, "-m", "traceai_vllm.cli", "doctor", "--skip-hooks", "--json"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)

    found = [finding["check"] for finding in json.loads(done.stdout)["findings"] if finding["status"] == "problem"]
    assert found == checks


@pytest.mark.parametrize(
    ("variables", "named"),
    [
        ({"OTEL_PROPAGATORS": "b4"}, "Propagator b4 not found"),
        ({"OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT": "many"}, "OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT must be"),
        ({"OTEL_BSP_MAX_QUEUE_SIZE": "10", "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "100"}, "max_export_batch_size must be"),
    ],
)
def test_settings_that_opentelemetry_itself_refuses_are_not_blamed_on_the_backend(
    variables: dict[str, str], named: str
) -> None:
    """Its modules raise for them when they are imported, or the processor when it is made: no span could be sent."""
    command = [sys.executable, "-m", "traceai_vllm.cli", "doctor", "--skip-hooks", "--json"]
    done = subprocess.run(command, env={**os.environ, **variables}, capture_output=True, text=True, check=False)

    [found] = [finding for finding in json.loads(done.stdout)["findings"] if finding["status"] == "problem"]
    assert (done.returncode, found["check"]) == (1, "sdk")
    assert named in found["message"]
    assert "Traceback" not in done.stderr
