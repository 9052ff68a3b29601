"""Reads the demo's prompts: one file per route in ``prompts/``, one request per line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

PROMPTS = Path(__file__).parent / "prompts"


def load(per_route: int | None = None) -> dict[str, list[dict[str, Any]]]:
    """Return the requests of every route.

    Args:
        per_route: how many of each route to take; all when None.
    """
    routes: dict[str, list[dict[str, Any]]] = {}
    for path in sorted(PROMPTS.glob("*.jsonl")):
        lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line]
        routes[path.stem] = lines[:per_route]
    return routes


def has_expected(prompt: dict[str, Any], answer: str) -> bool:
    """Whether the answer holds every string that a right one would, in any case."""
    return all(text.lower() in answer.lower() for text in prompt.get("expected", ()))


def marked(prompt: dict[str, Any]) -> list[dict[str, Any]]:
    """The messages, with the retrieved context as a part of its own that says so: answers are checked against it."""
    messages = prompt["messages"]
    for context in prompt.get("context", ()):
        messages = [{**message, "content": _split(message["content"], context)} for message in messages]
    return messages


def _split(content: Any, context: str) -> Any:
    """The text as three parts round the context; as it is where the context is not in it."""
    before, found, after = content.partition(context) if isinstance(content, str) else (content, "", "")
    if not found:
        return content
    around = [{"type": "text", "text": text.strip()} for text in (before, after)]
    return [around[0], {"type": "text", "text": context, "traceai": "context"}, around[1]]
