"""What is remembered of the latest answers."""

from __future__ import annotations

from opentelemetry.trace import SpanContext

from traceai_vllm.gateway.config import Server
from traceai_vllm.gateway.recent import Answered, Recent


def answered(number: int) -> Answered:
    context = SpanContext(number, number, is_remote=False)
    return Answered(context, f"r{number}", {}, Server(url="http://127.0.0.1:9"), None, None)


def test_the_oldest_answer_is_forgotten_with_all_that_was_said_of_it() -> None:
    """However long the gateway runs, it does not grow."""
    recent = Recent(limit=2)
    for number in range(1, 6):
        answer = answered(number)
        recent.add(answer)
        assert [recent.criticized(answer), recent.criticized(answer)] == [False, True]
    assert [recent.by_response(f"r{number}") is not None for number in range(1, 6)] == [False] * 3 + [True] * 2
    assert len(recent._criticized) == 2
