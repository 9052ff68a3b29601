"""What the example agent knows and can do: a few documents, a search by shared words, two tools."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Document:
    """One fact, and the policy that it belongs to."""

    policy: str
    text: str


DOCUMENTS = (
    Document("dental", "Dental claims have a waiting period of six months; accidents have none."),
    Document("dental", "Dental pays 80 percent of fillings and 50 percent of crowns."),
    Document("vision", "Vision pays for one pair of glasses every two years."),
    Document("travel", "Travel covers trips of up to 45 days."),
    Document("travel", "Travel claims must be sent within 30 days of the return."),
)
_POLICIES = sorted({document.policy for document in DOCUMENTS})


def _tool(name: str, description: str, **properties: Any) -> dict[str, Any]:
    parameters = {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }
    return {"type": "function", "function": {"name": name, "description": description, "parameters": parameters}}


TOOLS: Any = [
    _tool("waiting_period", "The waiting period of a policy in months.", policy={"enum": _POLICIES}),
    _tool("deadline", "The days that are left to send a claim.", policy={"enum": _POLICIES}),
]
_MONTHS = {"dental": 6, "vision": 0, "travel": 0}


def search(query: str, limit: int = 2) -> list[Document]:
    """Return the documents that share most words with the query."""
    words = set(re.findall(r"\w+", query.lower()))
    ranked = sorted(DOCUMENTS, key=lambda document: -len(words & set(re.findall(r"\w+", document.text.lower()))))
    return ranked[:limit]


def run_tool(name: str, arguments: str) -> str:
    """Run a tool that the model chose, and return its result; empty when the call makes no sense."""
    try:
        policy = json.loads(arguments)["policy"]
    except (ValueError, KeyError, TypeError):
        return ""
    if name == "waiting_period":
        return f"The waiting period of {policy} is {_MONTHS.get(policy, 0)} months."
    return f"Claims for {policy} must be sent within 30 days."
