"""What is installed: versions, requirements that are not met, extras, vLLM's own metadata."""

from __future__ import annotations

import importlib.util
import platform
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from traceai_vllm.cli.findings import NOTE, OK, PROBLEM, WARNING, Finding
from traceai_vllm.version import __version__

if TYPE_CHECKING:
    from collections.abc import Iterator

_DISTRIBUTION = "traceai-vllm"
_OLDEST_VLLM = "0.8.5"
# Extras that are for the development of this package.
_NOT_FOR_USERS = {"dev"}
_NVIDIA = Path("/proc/driver/nvidia/version")


def findings() -> Iterator[Finding]:
    """Look at what is installed."""
    yield _versions()
    yield from _vllm()
    yield from _requirements()
    yield from _extras()


def vllm_is_there() -> bool:
    """Return whether ``import vllm`` would find something."""
    return importlib.util.find_spec("vllm") is not None


def _versions() -> Finding:
    versions = {
        name.lower(): distribution.version
        for distribution in metadata.distributions()
        if (name := distribution.metadata["Name"] or "").lower().startswith(("opentelemetry", "vllm"))
        or name.lower() in ("torch", "wrapt", "openai", "psutil", "nvidia-ml-py", "duckdb")
    }
    sdk = versions.get("opentelemetry-sdk", "none")
    return Finding(
        "versions",
        OK,
        f"traceai-vllm {__version__}, Python {platform.python_version()}, OpenTelemetry SDK {sdk}",
        details={"python": platform.python_version(), _DISTRIBUTION: __version__, **dict(sorted(versions.items()))},
    )


def _vllm() -> Iterator[Finding]:
    if not vllm_is_there():
        yield Finding(
            "vllm",
            WARNING,
            "vLLM is not installed here, so there are no engines to trace.",
            "pip install vllm; a service that only calls vLLM needs none: traceai_vllm.instrument(client=True)",
        )
        return
    names = sorted(set(metadata.packages_distributions().get("vllm", ())))
    found = {name: metadata.version(name) for name in names}
    if not found:
        yield Finding(
            "vllm", NOTE, "vLLM can be imported, but no installed distribution has it: its version is unknown."
        )
        return
    text = ", ".join(f"{name} {version}" for name, version in found.items())
    if all(_older(version, _OLDEST_VLLM) for version in found.values()):
        yield Finding("vllm", PROBLEM, f"{text} is too old.", f"pip install 'vllm>={_OLDEST_VLLM}'", dict(found))
        return
    yield Finding("vllm", OK, text, details=dict(found))
    if not _installed("vllm"):
        yield Finding(
            "vllm metadata",
            WARNING,
            f"`vllm serve` asks for the metadata of a distribution named vllm, and here it is {', '.join(names)}.",
            "use that distribution's own way to serve, or add a metadata-only distribution named vllm of the same "
            "version (traceai-vllm's scripts/setup_env.py does it)",
        )


def _requirements() -> Iterator[Finding]:
    for text in _requires():
        requirement = _parse(text)
        if requirement is None or (requirement.marker and not requirement.marker.evaluate({"extra": ""})):
            continue
        version = _version(requirement.name)
        if version is None or not requirement.specifier.contains(version, prereleases=True):
            yield Finding(
                "requirements",
                PROBLEM,
                f"{requirement.name}{requirement.specifier} is needed; installed: {version or 'none'}.",
                f"pip install '{requirement.name}{requirement.specifier}'",
            )


def _extras() -> Iterator[Finding]:
    missing = missing_extras()
    for extra, packages in missing.items():
        wanted = extra == "gpu" and _NVIDIA.exists()
        yield Finding(
            "extras",
            WARNING if wanted else NOTE,
            f"the extra {extra} is not installed (missing: {', '.join(packages)})"
            + ("; without it there are no GPU metrics." if wanted else "."),
            f"pip install '{_DISTRIBUTION}[{extra}]'",
            {"extra": extra, "missing": packages},
        )


def missing_extras() -> dict[str, list[str]]:
    """Return the extras of this package that are not installed: name to the packages that are missing."""
    missing: dict[str, list[str]] = {}
    if not _installed(_DISTRIBUTION):
        return missing
    extras = metadata.metadata(_DISTRIBUTION).get_all("Provides-Extra") or []
    for extra in sorted(set(extras) - _NOT_FOR_USERS):
        for text in _requires():
            requirement = _parse(text)
            if requirement is None or requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                continue
            if requirement.marker.evaluate({"extra": extra}) and not _installed(requirement.name):
                missing.setdefault(extra, []).append(requirement.name)
    return missing


def _requires() -> list[str]:
    return (metadata.requires(_DISTRIBUTION) or []) if _installed(_DISTRIBUTION) else []


def _parse(text: str) -> Any:
    # A dependency of opentelemetry-instrumentation.
    from packaging.requirements import InvalidRequirement, Requirement

    try:
        return Requirement(text)
    except InvalidRequirement:
        return None


def _older(version: str, than: str) -> bool:
    from packaging.version import InvalidVersion, Version

    try:
        return Version(version) < Version(than)
    except InvalidVersion:
        return False


def _installed(name: str) -> bool:
    return _version(name) is not None


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
