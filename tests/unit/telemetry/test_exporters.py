"""Which exporters the variables of OpenTelemetry choose, and what a wrong one costs."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from traceai_vllm.telemetry.exporters import LOGS, METRICS, TRACES, exporters_for

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

HTTP = "opentelemetry.exporter.otlp.proto.http"
GRPC = "opentelemetry.exporter.otlp.proto.grpc"


@pytest.fixture(autouse=True)
def no_variables(monkeypatch) -> None:
    for name in [name for name in os.environ if name.startswith("OTEL_")]:
        monkeypatch.delenv(name)


@pytest.fixture
def choose(monkeypatch) -> Iterator:
    """Sets variables and returns the exporters of a signal; shuts them down afterwards."""
    made = []

    def choose(signal, **variables: str):
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        chosen = exporters_for(signal)
        made.extend(chosen)
        return chosen

    yield choose
    for exporter in made:
        exporter.instance.shutdown()


def modules(chosen) -> list[str]:
    return [type(exporter.instance).__module__ for exporter in chosen]


@pytest.mark.parametrize("signal", [TRACES, METRICS, LOGS], ids=lambda signal: signal.name)
def test_otlp_over_http_is_the_default_of_every_signal(choose, signal) -> None:
    """Without any variable, a signal goes to the collector on this machine over HTTP."""
    [exporter] = choose(signal)
    assert type(exporter.instance).__module__.startswith(HTTP)
    assert exporter.destination == f"otlp (http://localhost:4318/v1/{signal.name})"


@pytest.mark.parametrize("signal", [TRACES, METRICS, LOGS], ids=lambda signal: signal.name)
def test_the_protocol_can_be_grpc_for_all_signals(choose, signal) -> None:
    """OTEL_EXPORTER_OTLP_PROTOCOL=grpc takes every signal over gRPC."""
    [exporter] = choose(signal, OTEL_EXPORTER_OTLP_PROTOCOL="grpc")
    assert type(exporter.instance).__module__.startswith(GRPC)
    assert exporter.destination == "otlp (http://localhost:4317)"


def test_the_protocol_of_one_signal_wins(choose) -> None:
    """A signal's own protocol variable is stronger than the general one."""
    variables = {"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc", "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "http/protobuf"}
    assert modules(choose(TRACES, **variables))[0].startswith(HTTP)
    assert modules(choose(METRICS))[0].startswith(GRPC)


@pytest.mark.parametrize(
    ("variables", "destination"),
    [
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318/"}, "otlp (http://c:4318/v1/traces)"),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://t:1/in"}, "otlp (http://t:1/in)"),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "https://me:secret@c/x"}, "otlp (https://c/x/v1/traces)"),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "https://c/x?key=secret"}, "otlp (https://c/x)"),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://[bad"}, "otlp (an endpoint that is not a URL)"),
    ],
)
def test_the_destination_is_told_without_secrets(choose, variables, destination) -> None:
    """What the log says is where telemetry goes, without user, password or query."""
    assert [exporter.destination for exporter in choose(TRACES, **variables)] == [destination]


@pytest.mark.parametrize("signal", [TRACES, METRICS, LOGS], ids=lambda signal: signal.name)
def test_names_may_be_a_list(choose, signal) -> None:
    """`otlp,console` gives both, in that order; a repeated name counts once."""
    chosen = choose(signal, **{signal.variable: "otlp, console,otlp,"})
    assert [exporter.destination.split(" ")[0] for exporter in chosen] == ["otlp", "console"]
    assert type(chosen[1].instance).__name__.startswith("Console")


@pytest.mark.parametrize("value", ["none", "None", " none "])
def test_none_means_none(choose, caplog, value) -> None:
    """`none` is no exporter, and no warning."""
    assert choose(TRACES, OTEL_TRACES_EXPORTER=value) == []
    assert caplog.records == []


def test_an_unknown_exporter_is_a_warning_that_says_what_is_allowed(choose, caplog) -> None:
    """A mistyped name costs that exporter alone; the warning has variable, value and the allowed values."""
    chosen = choose(TRACES, OTEL_TRACES_EXPORTER="otpl,console")
    assert [exporter.destination for exporter in chosen] == ["console"]
    [record] = caplog.records
    assert record.levelno == logging.WARNING
    message = record.getMessage()
    assert message.startswith("OTEL_TRACES_EXPORTER=otpl: no exporter of that name is installed")
    assert "Allowed: console, none, otlp, otlp_proto_grpc, otlp_proto_http." in message
    assert "your program is not affected" in message


@pytest.mark.parametrize("variable", ["OTEL_EXPORTER_OTLP_PROTOCOL", "OTEL_EXPORTER_OTLP_METRICS_PROTOCOL"])
def test_an_unknown_protocol_is_a_warning_that_says_what_is_allowed(choose, caplog, variable) -> None:
    """A protocol that is not there turns the signal's OTLP off and says which ones there are."""
    assert choose(METRICS, **{variable: "http/json"}) == []
    [record] = caplog.records
    assert record.getMessage().startswith(f"{variable}=http/json is not a protocol")
    assert "Allowed: http/protobuf, grpc." in record.getMessage()


def test_an_exporter_that_refuses_its_settings_is_a_warning(choose, caplog) -> None:
    """An exporter whose own variables are wrong stays out, with its own words in the warning."""
    variables = {"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc", "OTEL_EXPORTER_OTLP_COMPRESSION": "zip"}
    assert choose(TRACES, **variables) == []
    [record] = caplog.records
    assert "refuses its settings" in record.getMessage()
    assert 'Invalid value "zip"' in record.getMessage()


def test_an_exporter_that_cannot_be_imported_names_its_package(choose, caplog, monkeypatch) -> None:
    """When a dependency is missing, the warning is the pip line."""
    monkeypatch.setitem(sys.modules, f"{GRPC}.trace_exporter", None)
    assert choose(TRACES, OTEL_EXPORTER_OTLP_PROTOCOL="grpc") == []
    [record] = caplog.records
    assert "pip install opentelemetry-exporter-otlp-proto-grpc" in record.getMessage()


def test_a_known_exporter_that_is_not_installed_names_its_package(choose, caplog, monkeypatch) -> None:
    """For exporters that live in a package of their own, the warning is the pip line."""
    monkeypatch.setattr("traceai_vllm.telemetry.exporters.entry_points", lambda **_: ())
    assert choose(METRICS, OTEL_METRICS_EXPORTER="prometheus") == []
    [record] = caplog.records
    assert "pip install opentelemetry-exporter-prometheus" in record.getMessage()


def test_any_registered_exporter_can_be_named(tmp_path) -> None:
    """An exporter that another package registers under the public entry-point group is found by its name."""
    registered(tmp_path, "[opentelemetry_traces_exporter]\nmine = mine:Mine\n")
    script = """
from traceai_vllm.telemetry.exporters import TRACES, exporters_for
[exporter] = exporters_for(TRACES)
print(type(exporter.instance).__name__, exporter.destination)
"""
    path = os.pathsep.join(filter(None, [str(tmp_path), os.environ.get("PYTHONPATH")]))
    assert in_fresh_process(script, OTEL_TRACES_EXPORTER="mine", PYTHONPATH=path) == "Mine mine"


@pytest.mark.parametrize(
    ("variables", "imported"),
    [
        ({"OTEL_TRACES_EXPORTER": "none"}, "False False"),
        ({"OTEL_TRACES_EXPORTER": "console"}, "False False"),
        ({}, "False True"),
        ({"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, "True False"),
    ],
)
def test_heavy_modules_are_imported_only_when_chosen(variables, imported) -> None:
    """gRPC and requests cost import time and memory: only the protocol in use pays it."""
    script = """
import sys
from traceai_vllm.telemetry.exporters import TRACES, exporters_for
exporters_for(TRACES)
print("grpc" in sys.modules, "requests" in sys.modules)
"""
    assert in_fresh_process(script, **variables) == imported


def registered(directory: Path, entry_points: str) -> None:
    (directory / "mine.py").write_text("class Mine:\n    pass\n")
    info = directory / "mine-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: mine\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(entry_points)


def in_fresh_process(script: str, **variables: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()
