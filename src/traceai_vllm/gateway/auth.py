"""Callers' keys."""

from __future__ import annotations

import hmac
import os
import re
from typing import TYPE_CHECKING

from traceai_vllm.gateway.headers import header

if TYPE_CHECKING:
    from traceai_vllm.gateway.config import GatewayConfig

    Headers = list[tuple[bytes, bytes]]

_SCHEME = "bearer "
_VARIABLE = re.compile("[A-Z_][A-Z0-9_]*")


def admitted(headers: Headers, config: GatewayConfig) -> bool:
    """Return whether a caller may ask: always, where the servers check keys; else with one of the gateway's keys.

    The keys are compared in constant time, all of them, so that the time taken says nothing of them.
    """
    return admitted_by(headers, config.keys_env)


def admitted_by(headers: Headers, keys_env: str | None) -> bool:
    """Return whether a caller has one of the keys in an environment variable; None: there are none to have."""
    if keys_env is None:
        return True
    given = key_of(headers).encode()
    matches = [hmac.compare_digest(given, key.encode()) for key in keys(keys_env)]
    return any(matches)


def keys(variable: str) -> list[str]:
    """Return the keys in an environment variable, which are separated by commas."""
    return [key for part in os.environ.get(variable, "").split(",") if (key := part.strip())]


def variable_text(name: str) -> str:
    """Return what an error calls a variable: a key that stands in the place of its name is not to be in a log."""
    return f"the environment variable {name}" if _VARIABLE.fullmatch(name) else "the variable that it names"


def key_of(headers: Headers) -> str:
    """Return the key that a caller sent, as ``Authorization: Bearer`` or ``x-api-key``; empty when none."""
    value = header(headers, b"authorization") or ""
    if value[: len(_SCHEME)].lower() == _SCHEME:
        return value[len(_SCHEME) :].strip()
    return header(headers, b"x-api-key") or ""
