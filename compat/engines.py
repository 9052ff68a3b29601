"""Stub until written."""

from __future__ import annotations

from typing import Any


def result(release: Any, cache: Any, *, keep: bool) -> dict[str, Any]:
    """Not there yet."""
    return {"crashed": "not there yet"}
