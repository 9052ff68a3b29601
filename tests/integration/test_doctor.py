"""`traceai-vllm doctor` as a user runs it: on the vLLM that is installed, against a collector written by others."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.metadata import entry_points

from tests.support.bad_receivers import refusing_port
from tests.support.rotel_receiver import RotelReceiver


def doctor(endpoint: str, *options: str) -> tuple[int, str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
    done = subprocess.run(
        [sys.executable, "-m", "traceai_vllm.cli", "doctor", *options],
        env={**environment, "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    return done.returncode, done.stdout


def test_a_healthy_environment_passes() -> None:
    """All hook points that requests pass are in this vLLM, and the collector has the span."""
    with RotelReceiver() as collector:
        code, output = doctor(collector.http_endpoint, "--json")
        report = json.loads(output)
        (span,) = collector.spans(at_least=1)

    assert (code, report["healthy"]) == (0, True), output
    assert span.name == "traceai-vllm doctor"
    found = {finding["check"]: finding for finding in report["findings"]}
    assert found["export"]["status"] == "ok"
    assert found["hooks"]["status"] == "ok"
    assert "vllm.v1.engine.output_processor.OutputProcessor.add_request" in found["hooks"]["details"]["matched"]


def test_a_problem_is_in_the_exit_code_and_has_its_fix_beside_it() -> None:
    """What a person sees when the collector is not there."""
    code, output = doctor(f"http://127.0.0.1:{refusing_port()}", "--skip-hooks")

    assert code == 1
    lines = output.splitlines()
    at = next(number for number, line in enumerate(lines) if line.strip().startswith("problem  export:"))
    assert lines[at + 1].strip().startswith("fix: start the collector")
    assert lines[-1] == "1 problem found."


def test_it_is_a_command() -> None:
    """`traceai-vllm` on the PATH, after an installation."""
    (script,) = entry_points(group="console_scripts", name="traceai-vllm")

    assert script.value == "traceai_vllm.cli.main:main"
