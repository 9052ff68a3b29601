"""The environment variables that decide whether and how vLLM is instrumented."""

from __future__ import annotations

import os
from importlib.metadata import entry_points
from typing import TYPE_CHECKING

from traceai_vllm.cli.findings import NOTE, OK, PROBLEM, WARNING, Finding
from traceai_vllm.telemetry import disabled

if TYPE_CHECKING:
    from collections.abc import Iterator

_ENABLED = "TRACEAI_VLLM_ENABLED"
_TRUE = ("1", "true", "yes", "on")
_FALSE = ("", "0", "false", "no", "off")


def findings() -> Iterator[Finding]:
    """Look at the variables of vLLM, OpenTelemetry and this package."""
    yield from _ways_in()
    if _is_true("VLLM_USE_RUST_FRONTEND"):
        yield Finding(
            "rust frontend",
            PROBLEM,
            "VLLM_USE_RUST_FRONTEND is on: vLLM's Rust server passes no Python code, so no request is seen.",
            "unset VLLM_USE_RUST_FRONTEND",
        )
    if sdk_is_disabled():
        yield Finding("sdk", PROBLEM, "OTEL_SDK_DISABLED is true: nothing is exported.", "unset OTEL_SDK_DISABLED")
    sampler = os.environ.get("OTEL_TRACES_SAMPLER", "").strip().lower()
    ratio = os.environ.get("OTEL_TRACES_SAMPLER_ARG", "").strip()
    if sampler.endswith("traceidratio") and ratio in ("0", "0.0"):
        sampler += f" with OTEL_TRACES_SAMPLER_ARG={ratio}"
    elif not sampler.endswith("always_off"):
        return
    yield Finding(
        "sampler",
        WARNING,
        f"OTEL_TRACES_SAMPLER={sampler}: no trace begins here.",
        "unset OTEL_TRACES_SAMPLER, or set it to parentbased_traceidratio and its ARG to a share above 0",
    )


def sdk_is_disabled() -> bool:
    """Return whether OpenTelemetry's SDK makes no spans; it takes no other word for that than true."""
    return os.environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true"


def _ways_in() -> Iterator[Finding]:
    if disabled.is_disabled("vllm"):
        yield Finding(
            "instrumented",
            WARNING,
            f"{disabled.VARIABLE} turns the instrumentation off for `opentelemetry-instrument`.",
            f"take vllm out of {disabled.VARIABLE}",
        )
    ours = [entry.name for entry in entry_points(group="vllm.general_plugins") if "traceai_vllm" in entry.value]
    allowed = os.environ.get("VLLM_PLUGINS")
    if os.environ.get(_ENABLED, "").strip().lower() not in (*_TRUE, *_FALSE):
        yield Finding(
            "instrumented",
            PROBLEM,
            f"{_ENABLED}={os.environ[_ENABLED]} is neither true nor false: vLLM is not traced.",
            f"set {_ENABLED}=1",
        )
    elif not _is_true(_ENABLED):
        yield Finding(
            "instrumented",
            NOTE,
            f"{_ENABLED} is not set: vLLM is traced where a program calls traceai_vllm.instrument(), or is started by "
            "`opentelemetry-instrument`.",
            f"for `vllm serve` without code: {_ENABLED}=1 vllm serve ...",
        )
    elif not ours:
        yield Finding(
            "instrumented",
            PROBLEM,
            f"{_ENABLED} is set, but this installation has no entry point for vLLM's plugins.",
            "pip install --force-reinstall --no-deps traceai-vllm",
        )
    elif allowed is not None and not set(ours) & {name.strip() for name in allowed.split(",")}:
        yield Finding(
            "instrumented",
            PROBLEM,
            f"{_ENABLED} is set, but VLLM_PLUGINS={allowed} keeps vLLM from loading the plugin.",
            f"add {ours[0]} to VLLM_PLUGINS, or unset it",
        )
    else:
        yield Finding("instrumented", OK, f"{_ENABLED} is set: vLLM turns the instrumentation on by itself.")


def _is_true(variable: str) -> bool:
    return os.environ.get(variable, "").strip().lower() in _TRUE
