"""Callers' keys."""

from __future__ import annotations

import hmac
import os
from typing import TYPE_CHECKING

from traceai_vllm.gateway.headers import header

if TYPE_CHECKING:
    from traceai_vllm.gateway.config import GatewayConfig

    Headers = list[tuple[bytes, bytes]]

_SCHEME = "bearer "


def admitted(headers: Headers, config: GatewayConfig) -> bool:
    """Return whether a caller may ask: always, where the servers check keys; else with one of the gateway's keys.

    The keys are compared in constant time, all of them, so that the time taken says nothing of them.
    """
    if config.keys_env is None:
        return True
    given = _key(headers).encode()
    matches = [hmac.compare_digest(given, key.encode()) for key in keys(config.keys_env)]
    return any(matches)


def keys(variable: str) -> list[str]:
    """Return the keys in an environment variable, which are separated by commas."""
    return [key for part in os.environ.get(variable, "").split(",") if (key := part.strip())]


def _key(headers: Headers) -> str:
    value = header(headers, b"authorization") or ""
    if value[: len(_SCHEME)].lower() == _SCHEME:
        return value[len(_SCHEME) :].strip()
    return header(headers, b"x-api-key") or ""
