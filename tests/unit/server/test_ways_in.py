"""The plugin's gate, and the warning about what cannot be seen."""

from __future__ import annotations

import subprocess
import sys
from types import SimpleNamespace

import pytest

import traceai_vllm_plugin
from tests.support.otlp_receiver import OtlpReceiver
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


def test_a_value_that_is_neither_true_nor_false_is_a_warning(monkeypatch, caplog) -> None:
    """A slip of the pen: nothing is traced, and the log says so."""
    monkeypatch.setenv("TRACEAI_VLLM_ENABLED", "enabled")
    traceai_vllm_plugin.load()
    assert "TRACEAI_VLLM_ENABLED=enabled is neither true nor false" in caplog.text


def test_with_the_variable_it_instruments() -> None:
    script = LOAD + "import traceai_vllm; print(traceai_vllm.VLLMInstrumentor().is_instrumented_by_opentelemetry)"
    assert run(script, TRACEAI_VLLM_ENABLED="1").endswith("True")


@pytest.mark.parametrize(
    ("module", "expected"),
    [
        ("vllm.engine.arg_utils", ["requests"]),
        ("vllm.v1.engine.core", ["memory"]),
        ("vllm.v1.worker.worker_base", ["memory"]),
        ("vllm.model_executor.models.registry", []),
    ],
)
def test_processes_that_only_run_the_model_report_its_memory_alone(module, expected, monkeypatch) -> None:
    """vLLM loads its plugins in engine cores, workers and model inspection as well."""
    monkeypatch.setenv("TRACEAI_VLLM_ENABLED", "1")
    calls = []
    monkeypatch.setattr("traceai_vllm.instrument", lambda: calls.append("requests"))
    monkeypatch.setattr("traceai_vllm.engine.model_process.report_memory", lambda: calls.append("memory"))
    vllm_plugins = {"__name__": "vllm.plugins", "load": traceai_vllm_plugin.load}
    exec("def load_general_plugins(): load()", vllm_plugins)
    as_module = {"__name__": module}
    as_program = {"__name__": "__main__", "__spec__": SimpleNamespace(name=module)}  # python -m
    for caller in (as_module, as_program):
        calls.clear()
        exec("load_general_plugins()", caller | {"load_general_plugins": vllm_plugins["load_general_plugins"]})
        assert calls == expected


MODEL_PROCESS = """
import sys
sys.path.insert(0, {stub!r})
from traceai_vllm.engine.model_process import report_memory
report_memory()
assert "opentelemetry.sdk" not in sys.modules, "exporters before there is a worker"
from vllm.v1.worker.worker_base import WorkerWrapperBase
worker = WorkerWrapperBase()
worker.initialize_from_config([])
"""
WORKER = """
from types import SimpleNamespace

class Tensor:
    nbytes = 1000
    def untyped_storage(self):
        return SimpleNamespace(data_ptr=lambda: id(self), nbytes=lambda: self.nbytes)

class WorkerWrapperBase:
    vllm_config = SimpleNamespace()
    def initialize_from_config(self, kv_cache_configs):
        model = SimpleNamespace(parameters=lambda: [Tensor(), Tensor()], buffers=list)
        runner = SimpleNamespace(get_model=lambda: model, kv_caches=[Tensor()])
        self.worker = SimpleNamespace(rank=3, model_runner=runner)
"""


def test_a_worker_reports_what_its_model_takes(tmp_path) -> None:
    """Metrics and nothing else, sent when the process ends; the variant is the one that the environment declares."""
    package = tmp_path / "vllm" / "v1" / "worker"
    package.mkdir(parents=True)
    for directory in (package, *package.parents[:2]):
        (directory / "__init__.py").touch()
    (package / "worker_base.py").write_text(WORKER)
    with OtlpReceiver() as receiver:
        run(
            MODEL_PROCESS.format(stub=str(tmp_path)),
            OTEL_SDK_DISABLED="false",
            OTEL_EXPORTER_OTLP_ENDPOINT=receiver.http_endpoint,
            TRACEAI_VLLM_MODEL_VARIANT="mine",
        )
        names = receiver.metric_names(at_least=2)
        [(_, weights)] = receiver.points("vllm.weights_memory")
        [(_, cache)] = receiver.points("vllm.kv_cache_memory")
    assert names == {"vllm.weights_memory", "vllm.kv_cache_memory"}
    assert (weights.value, cache.value) == (2000, 1000)
    assert (weights.attributes["model_variant"], weights.attributes["vllm.worker.rank"]) == ("mine", 3)


@pytest.mark.parametrize(("value", "warned"), [("1", True), ("0", False), ("", False)])
def test_the_rust_frontend_is_named_as_what_cannot_be_traced(value, warned, monkeypatch, caplog) -> None:
    monkeypatch.setenv("VLLM_USE_RUST_FRONTEND", value)
    with capture():
        pass
    assert ("VLLM_USE_RUST_FRONTEND=1" in caplog.text) == warned
