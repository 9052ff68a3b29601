"""For services that call vLLM: turns on the client instrumentations that are installed, OpenTelemetry's own.

They make the client spans and send the trace context and the baggage along; nothing is patched here. The server's
spans then join the caller's trace, with the caller's ``tags(...)`` on them.
"""

from __future__ import annotations

import importlib.util
import logging
from dataclasses import dataclass
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any

from opentelemetry import propagate

from traceai_vllm.telemetry import agent_steps, tags
from traceai_vllm.telemetry.disabled import is_disabled

if TYPE_CHECKING:
    from collections.abc import Sequence

_log = logging.getLogger("traceai_vllm")
_GROUP = "opentelemetry_instrumentor"
# Of the instrumentations that share a name, OpenTelemetry's; others may record content unasked.
_THEIRS = "opentelemetry.instrumentation."
_EXTRA = "pip install 'traceai-vllm[client]'"


@dataclass(frozen=True, slots=True)
class Client:
    """A client library, and the name under which its instrumentation is registered."""

    library: str
    instrumentation: str


CLIENTS = (
    Client("openai", "openai"),
    Client("httpx", "httpx"),
    Client("httpx2", "httpx2"),  # what openai 3 sends with
    Client("aiohttp", "aiohttp-client"),
    Client("requests", "requests"),
)

_turned_on: list[Any] = []


def switch_on(*, by_default: bool = False, **providers: Any) -> None:
    """Turn on the instrumentation of each client library that is installed, and let ``tags(...)`` travel.

    What is on already stays as it is. One line in the log says what is on, and what is missing.

    Args:
        by_default: nobody asked for it, but vLLM is not installed.
        **providers: ``tracer_provider``, ``meter_provider`` and ``logger_provider`` for the instrumentations; the
            global ones where None.
    """
    tags.propagate_by_default(True)
    agent_steps.switch_on(providers.get("tracer_provider"))
    given = {name: provider for name, provider in providers.items() if provider is not None}
    on, missing, failed = [], [], []
    for client in CLIENTS:
        if not _is_installed(client.library):
            continue
        entry = _instrumentation(client.instrumentation)
        if entry is None:
            missing.append(client.library)
        elif is_disabled(client.instrumentation):
            continue
        elif reason := _turn_on(entry, given):
            failed.append(f"{client.library} ({reason})")
        else:
            on.append(client.library)
    asked = "instrument(client=True)"
    _say(f"vLLM is not installed here, so this is {asked}" if by_default else asked, on, missing, failed)


def switch_off() -> None:
    """Turn off what :func:`switch_on` turned on, and nothing else."""
    tags.propagate_by_default(False)
    agent_steps.switch_off()
    while _turned_on:
        instrumentor = _turned_on.pop()
        try:
            instrumentor.uninstrument()
        except Exception:
            _log.warning("%s could not be turned off", type(instrumentor).__name__, exc_info=True)


def _turn_on(entry: Any, providers: dict[str, Any]) -> str | None:
    """Return None when the instrumentation is on now, else why it is not."""
    try:
        instrumentor = entry.load()()
        if instrumentor.is_instrumented_by_opentelemetry:
            return None
        instrumentor.instrument(**providers)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    if not instrumentor.is_instrumented_by_opentelemetry:
        return "it does not support the installed version"
    _turned_on.append(instrumentor)
    return None


def _say(asked: str, on: Sequence[str], missing: Sequence[str], failed: Sequence[str]) -> None:
    parts = [f"calls by {', '.join(on)} send their trace" if on else "no client library is instrumented"]
    if missing:
        parts.append(f"missing for {', '.join(missing)}: {_EXTRA}")
    if failed:
        parts.append(f"could not be turned on: {', '.join(failed)}")
    if not any(_is_installed(client.library) for client in CLIENTS):
        parts.append(f"install one of {', '.join(client.library for client in CLIENTS)} and then {_EXTRA}")
    if "baggage" not in propagate.get_global_textmap().fields:
        parts.append("tags do not travel, because OTEL_PROPAGATORS has no baggage")
    complete = bool(on) and len(parts) == 1
    _log.log(logging.INFO if complete else logging.WARNING, "%s: %s", asked, "; ".join(parts))


def _instrumentation(name: str) -> Any:
    found = entry_points(group=_GROUP, name=name)
    return next((entry for entry in found if entry.value.startswith(_THEIRS)), None)


def _is_installed(library: str) -> bool:
    return importlib.util.find_spec(library) is not None
