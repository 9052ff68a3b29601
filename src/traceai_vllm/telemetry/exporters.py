"""Which exporters the ``OTEL_*`` environment variables ask for.

Follows the OpenTelemetry specification (*Environment Variable Specification* and *OTLP Exporter
Configuration*), with OTLP over HTTP as the default of all three signals. Exporters are found by their public
entry points, so a module such as ``grpc`` or ``requests`` is imported only when it is asked for. A wrong
variable is a warning that says what is allowed; it never stops the user's program.
"""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from importlib.metadata import entry_points
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from traceai_vllm.guard import Guard

_log = logging.getLogger("traceai_vllm")

_NONE = "none"
_OTLP = "otlp"
_HTTP = "otlp_proto_http"
_GRPC = "otlp_proto_grpc"
_GENERAL_PROTOCOL = "OTEL_EXPORTER_OTLP_PROTOCOL"
_GENERAL_ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"
_QUICK = Guard("a quicker encoder for the exporter")
_PROTOCOLS = {"http/protobuf": _HTTP, "grpc": _GRPC}
_PACKAGES = {
    _HTTP: "opentelemetry-exporter-otlp-proto-http",
    _GRPC: "opentelemetry-exporter-otlp-proto-grpc",
    "prometheus": "opentelemetry-exporter-prometheus",
    "zipkin": "opentelemetry-exporter-zipkin",
}


@dataclass(frozen=True, slots=True)
class Signal:
    """One of OpenTelemetry's signals: ``traces``, ``metrics`` or ``logs``."""

    name: str

    @property
    def variable(self) -> str:
        """The variable that names the exporters, e.g. ``OTEL_TRACES_EXPORTER``."""
        return f"OTEL_{self.name.upper()}_EXPORTER"

    @property
    def group(self) -> str:
        """The entry-point group under which exporters are registered."""
        return f"opentelemetry_{self.name}_exporter"

    def otlp_variable(self, what: str) -> str:
        """Return the signal's own OTLP variable, e.g. ``OTEL_EXPORTER_OTLP_TRACES_PROTOCOL``."""
        return f"OTEL_EXPORTER_OTLP_{self.name.upper()}_{what}"


TRACES = Signal("traces")
METRICS = Signal("metrics")
LOGS = Signal("logs")


@dataclass(frozen=True, slots=True)
class Exporter:
    """An exporter that was asked for.

    Attributes:
        instance: the SDK's exporter; for metrics it may be a reader of its own (Prometheus).
        destination: where it sends to, for a person.
    """

    instance: Any
    destination: str


def exporters_for(signal: Signal) -> list[Exporter]:
    """Make the exporters that the environment asks for; empty for ``none``, or when none can be made."""
    made = (_make(signal, name) for name in _names(signal))
    return [exporter for exporter in made if exporter is not None]


def _names(signal: Signal) -> list[str]:
    names = [name.strip() for name in os.environ.get(signal.variable, "").split(",")]
    wanted = list(dict.fromkeys(name for name in names if name)) or [_OTLP]
    return [name for name in wanted if name.lower() != _NONE]


def _make(signal: Signal, name: str) -> Exporter | None:
    entry = _otlp_entry(signal) if name == _OTLP else name
    if entry is None:
        return None
    found = next(iter(entry_points(group=signal.group, name=entry)), None)
    if found is None:
        _warn_missing(signal, name, entry)
        return None
    try:
        exporter = found.load()()
        if signal is TRACES and entry in _PROTOCOLS.values():
            with _QUICK:
                from traceai_vllm.telemetry.encoding import encode_quickly

                encode_quickly(exporter)
        return Exporter(exporter, _destination(signal, name, entry))
    except ImportError as error:
        package = _PACKAGES.get(entry) or (found.dist.name if found.dist else entry)
        _warn(signal, name, f"the exporter cannot be imported ({error}): pip install {package}")
    except Exception as error:
        _warn(signal, name, f"the exporter refuses its settings ({type(error).__name__}: {error})")
    return None


def _otlp_entry(signal: Signal) -> str | None:
    for variable in (signal.otlp_variable("PROTOCOL"), _GENERAL_PROTOCOL):
        value = os.environ.get(variable, "").strip()
        if not value:
            continue
        if value not in _PROTOCOLS:
            _log.warning(
                "%s=%s is not a protocol that traceai-vllm can use, so %s are not exported. Allowed: %s. "
                "Your program is not affected.",
                variable,
                value,
                signal.name,
                ", ".join(_PROTOCOLS),
            )
        return _PROTOCOLS.get(value)
    return _HTTP


def _warn_missing(signal: Signal, name: str, entry: str) -> None:
    if entry in _PACKAGES:
        _warn(signal, name, f"its exporter is not installed: pip install {_PACKAGES[entry]}")
        return
    installed = {_OTLP, _NONE, *(point.name for point in entry_points(group=signal.group))}
    _warn(signal, name, f"no exporter of that name is installed. Allowed: {', '.join(sorted(installed))}")


def _warn(signal: Signal, name: str, reason: str) -> None:
    _log.warning(
        "%s=%s: %s. Until then %s do not go there; your program is not affected.",
        signal.variable,
        name,
        reason,
        signal.name,
    )


def _destination(signal: Signal, name: str, entry: str) -> str:
    if entry not in (_HTTP, _GRPC):
        return name
    over_http = entry == _HTTP
    endpoint = os.environ.get(signal.otlp_variable("ENDPOINT"), "").strip()
    if not endpoint:
        general = os.environ.get(_GENERAL_ENDPOINT, "").strip()
        endpoint = general or f"http://localhost:{4318 if over_http else 4317}"
        if over_http:
            endpoint = f"{endpoint.rstrip('/')}/v1/{signal.name}"
    return f"{name} ({_public(endpoint)})"


def _public(endpoint: str) -> str:
    """Return a URL without what may be a secret: user, password, query."""
    try:
        parts = urlsplit(endpoint)
    except ValueError:
        return "an endpoint that is not a URL"
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))
