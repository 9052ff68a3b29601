"""Whether a span really reaches the backend that the ``OTEL_*`` variables name: one is sent, by the real exporter.

The SDK's exporters keep the reason of a failure to themselves and try again for a while. So what they send through, a
``requests`` session or a gRPC stub, is watched, and its first answer is what counts.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import logging
import os
import sys
import threading
from typing import TYPE_CHECKING, Any

from traceai_vllm.cli import delivery
from traceai_vllm.cli.delivery import Delivery
from traceai_vllm.cli.findings import OK, PROBLEM, WARNING, Finding
from traceai_vllm.telemetry import exporters
from traceai_vllm.telemetry.exporters import LOGS, METRICS, TRACES

if TYPE_CHECKING:
    from collections.abc import Iterator

SPAN_NAME = "traceai-vllm doctor"
_ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"
_HEADERS = "OTEL_EXPORTER_OTLP_HEADERS"
# Spans of two machines are put in order by their clocks; a Date header has whole seconds only.
_MAX_SKEW_S = 2.0


def findings(timeout_s: float) -> Iterator[Finding]:
    """Send a span to each exporter that is asked for, and say what became of it.

    Args:
        timeout_s: how long to wait for each.
    """
    refused = _refused()
    if refused:
        yield Finding(
            "sdk",
            PROBLEM,
            f"OpenTelemetry refuses its settings, and no span is made: {refused}",
            "correct the variable: OTEL_PROPAGATORS, one of OTEL_BSP_*, or the limit that is named",
        )
        return
    from opentelemetry.sdk.trace.export import ConsoleSpanExporter

    with _quiet_sdk(), _warnings() as warnings:
        yield from _headers()
        chosen = exporters.exporters_for(TRACES)
        for warning in warnings:
            yield Finding("export", PROBLEM, warning, "correct the variable that is named")
        if not chosen and not warnings:
            yield Finding(
                "export",
                PROBLEM,
                f"{TRACES.variable}=none: spans go nowhere.",
                f"unset {TRACES.variable} to send them to localhost:4318",
            )
        for exporter in chosen:
            if isinstance(exporter.instance, ConsoleSpanExporter):
                exporter.instance.out = sys.stderr  # standard output is for what was found, and may have to be JSON
            yield from _judged(exporter, send(exporter.instance, timeout_s), timeout_s)


def _refused() -> str:
    # Its modules read their variables when they are imported, and raise for some.
    try:
        import opentelemetry.propagate  # noqa: F401
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
        from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

        BatchSpanProcessor(InMemorySpanExporter()).shutdown()  # type: ignore[no-untyped-call]
    except ValueError as error:
        return str(error)
    return ""


def _headers() -> Iterator[Finding]:
    # The SDK leaves out what it cannot read, with a line in the log that has the secret in it; here it is counted.
    from opentelemetry.util.re import parse_env_headers

    parsed = parse_env_headers
    if "liberal" in inspect.signature(parse_env_headers).parameters:  # from 1.27 on, as its exporters read them
        parsed = functools.partial(parse_env_headers, liberal=True)
    for variable in (_HEADERS, *(signal.otlp_variable("HEADERS") for signal in (TRACES, METRICS, LOGS))):
        entries = [entry for entry in os.environ.get(variable, "").split(",") if entry.strip()]
        wrong = [str(at) for at, entry in enumerate(entries, 1) if not parsed(entry)]
        if wrong:
            yield Finding(
                "headers",
                PROBLEM,
                f"{variable}: of {len(entries)} headers, number {', '.join(wrong)} cannot be read and is not sent.",
                f"{variable}='name=value,name=value' with '=' and no quotes; in a value write %2C for a comma, %3B for "
                "a semicolon, %20 for a blank",
                {"variable": variable},
            )


def send(exporter: Any, timeout_s: float) -> Delivery:
    """Export one span, and return what came of the first attempt.

    Args:
        exporter: an SDK span exporter.
        timeout_s: how long to wait for it.
    """
    delivery_ = Delivery()
    stop_watching = delivery.watch(exporter, delivery_)
    thread = threading.Thread(target=_export, args=(exporter, delivery_), daemon=True)
    thread.start()
    try:
        delivery_.wait(timeout_s)
    finally:
        stop_watching()
        with contextlib.suppress(Exception):
            exporter.shutdown()
    return delivery_


def _export(exporter: Any, delivery_: Delivery) -> None:
    from opentelemetry.instrumentation.utils import suppress_instrumentation
    from opentelemetry.sdk.trace.export import SpanExportResult

    try:
        with suppress_instrumentation():
            result = exporter.export([_span()])
    except Exception as error:
        delivery_.failed(error)
    else:
        delivery_.ended(result is SpanExportResult.SUCCESS)


def _span() -> Any:
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
    from opentelemetry.sdk.trace.sampling import ALWAYS_ON

    kept = InMemorySpanExporter()
    provider = TracerProvider(resource=Resource.create(), sampler=ALWAYS_ON, shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(kept))
    provider.get_tracer("traceai_vllm.cli").start_span(SPAN_NAME).end()
    (span,) = kept.get_finished_spans()
    return span


def _judged(exporter: exporters.Exporter, sent: Delivery, timeout_s: float) -> Iterator[Finding]:
    outcome = sent.outcome or delivery.TIMEOUT
    details = {"destination": exporter.destination, "outcome": outcome, **sent.details}
    if outcome == delivery.DELIVERED:
        yield Finding("export", OK, f"a span reached {exporter.destination}.", details=details)
    else:
        message, fix = _EXPLAINED[outcome]
        reason = f" ({sent.reason})" if sent.reason else ""
        yield Finding(
            "export", PROBLEM, f"{exporter.destination} {message.format(timeout=timeout_s)}{reason}.", fix, details
        )
    if sent.server_time_s is not None:
        yield _clock(sent.server_time_s - sent.answered_s)


def _clock(ahead_s: float) -> Finding:
    # The header's whole second began up to a second ago.
    skew = ahead_s if ahead_s > 0 else min(0.0, ahead_s + 1)
    details = {"skew_s": round(skew, 1)}
    if abs(skew) <= _MAX_SKEW_S:
        return Finding(
            "clock", OK, f"this clock and the backend's differ by less than {_MAX_SKEW_S:g} s.", details=details
        )
    direction = "behind" if skew > 0 else "ahead of"
    return Finding(
        "clock",
        WARNING,
        f"this clock is {abs(skew):.0f} s {direction} the backend's: spans of the two do not line up in a trace.",
        "synchronise both clocks (chrony, systemd-timesyncd)",
        details,
    )


_EXPLAINED = {
    delivery.REFUSED: (
        "refuses connections: nothing listens there",
        f"start the collector, or set {_ENDPOINT} to where it listens (4318 is the port of OTLP/HTTP, 4317 of gRPC)",
    ),
    delivery.TIMEOUT: (
        "did not answer within {timeout:g} s",
        "is there a firewall, or another service at this port? A longer time: --timeout 30",
    ),
    delivery.UNKNOWN_HOST: ("has a host name that cannot be resolved", f"correct the host in {_ENDPOINT}"),
    delivery.NO_URL: ("is no URL of a collector", f"begin {_ENDPOINT} with http:// or https://"),
    delivery.TLS: (
        "cannot be reached over TLS",
        "check OTEL_EXPORTER_OTLP_CERTIFICATE; for a collector without TLS begin the endpoint with http://",
    ),
    delivery.CLOSED: (
        "takes the connection and drops it",
        "another protocol? OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf belongs to port 4318, grpc to 4317",
    ),
    delivery.UNAUTHORIZED: (
        "does not accept our credentials",
        f"set {_HEADERS}, e.g. 'authorization=Bearer%20TOKEN'",
    ),
    delivery.WRONG_PATH: (
        "answers, but takes no OTLP traces at this address",
        f"{_ENDPOINT} is a base URL, to which /v1/traces is added; OTEL_EXPORTER_OTLP_TRACES_ENDPOINT is used as it is",
    ),
    delivery.REJECTED: ("rejected the span", "see the backend's log, or the reason here"),
    delivery.SERVER_ERROR: ("is up, but failed", "see the backend's log; it may be starting, or full"),
    delivery.FAILED: ("was not reached", "the exporter's own log says more: set OTEL_LOG_LEVEL=debug"),
}


@contextlib.contextmanager
def _warnings() -> Iterator[list[str]]:
    """Collect what our own modules warn about; they say what is allowed."""
    found: list[str] = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: found.append(record.getMessage())  # type: ignore[method-assign]
    logger = logging.getLogger("traceai_vllm")
    propagate, logger.propagate = logger.propagate, False
    logger.addHandler(handler)
    try:
        yield found
    finally:
        logger.removeHandler(handler)
        logger.propagate = propagate


@contextlib.contextmanager
def _quiet_sdk() -> Iterator[None]:
    # Its warnings are what the findings say.
    logger = logging.getLogger("opentelemetry")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(level)
