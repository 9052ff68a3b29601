"""An evaluator of our own: is the known right answer in the text?"""

from __future__ import annotations

from typing import Any


class RightAnswer:
    """Score the share of the strings of a right answer that the answer has, in any case.

    Args:
        expected: question to these strings.
    """

    name = "RightAnswer"
    threshold = 1.0

    def __init__(self, expected: dict[str, list[str]]) -> None:
        self._expected = expected

    def evaluate(self, *, response: str, question: str) -> dict[str, Any]:
        """Score one answer."""
        wanted = self._expected[question]
        found = [text for text in wanted if text.lower() in response.lower()]
        missing = ", ".join(text for text in wanted if text not in found)
        return {"score": len(found) / len(wanted), "explanation": f"missing: {missing}" if missing else "all is there"}
