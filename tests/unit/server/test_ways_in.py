"""The plugin's gate, and the warning about what cannot be seen."""

from __future__ import annotations

import subprocess
import sys
from types import SimpleNamespace

import pytest

import traceai_vllm_plugin
from traceai_vllm.testing import capture

LOAD = """
import sys
from importlib.metadata import entry_points
[plugin] = [p for p in entry_points(group="vllm.general_plugins") if p.name == "traceai_vllm"]
plugin.load()()
print(sorted(name for name in sys.modules if name.split(".")[0] in ("traceai_vllm", "opentelemetry", "wrapt")))
"""


def run(script: str, **environment: str) -> str:
    clean = {"PATH": "/usr/bin:/bin", "OTEL_SDK_DISABLED": "true"}
    result = subprocess.run(
        [sys.executable, "-c", script], env={**clean, **environment}, capture_output=True, text=True, check=True
    )
    assert result.stderr == ""
    return result.stdout.strip()


@pytest.mark.parametrize("value", [None, "", "0", "false", "no"])
def test_without_the_variable_the_plugin_imports_nothing(value) -> None:
    assert run(LOAD, **({} if value is None else {"TRACEAI_VLLM_ENABLED": value})) == "[]"


def test_with_the_variable_it_instruments() -> None:
    script = LOAD + "import traceai_vllm; print(traceai_vllm.VLLMInstrumentor().is_instrumented_by_opentelemetry)"
    assert run(script, TRACEAI_VLLM_ENABLED="1").endswith("True")


@pytest.mark.parametrize(
    ("module", "wanted"),
    [
        ("vllm.v1.engine.core", False),
        ("vllm.v1.worker.worker_base", False),
        ("vllm.model_executor.models.registry", False),
        ("vllm.engine.arg_utils", True),
    ],
)
def test_processes_that_only_run_the_model_are_left_alone(module, wanted, monkeypatch) -> None:
    """vLLM loads its plugins in engine cores, workers and model inspection as well."""
    monkeypatch.setenv("TRACEAI_VLLM_ENABLED", "1")
    calls = []
    monkeypatch.setattr("traceai_vllm.instrument", lambda: calls.append(module))
    vllm_plugins = {"__name__": "vllm.plugins", "load": traceai_vllm_plugin.load}
    exec("def load_general_plugins(): load()", vllm_plugins)
    as_module = {"__name__": module}
    as_program = {"__name__": "__main__", "__spec__": SimpleNamespace(name=module)}  # python -m
    for caller in (as_module, as_program):
        calls.clear()
        exec("load_general_plugins()", caller | {"load_general_plugins": vllm_plugins["load_general_plugins"]})
        assert bool(calls) == wanted


@pytest.mark.parametrize(("value", "warned"), [("1", True), ("0", False), ("", False)])
def test_the_rust_frontend_is_named_as_what_cannot_be_traced(value, warned, monkeypatch, caplog) -> None:
    monkeypatch.setenv("VLLM_USE_RUST_FRONTEND", value)
    with capture():
        pass
    assert ("VLLM_USE_RUST_FRONTEND=1" in caplog.text) == warned
