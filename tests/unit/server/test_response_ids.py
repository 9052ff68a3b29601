"""Which id an engine span has: the one in the answer that the client gets, so that feedback finds it."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from opentelemetry import context

from traceai_vllm.engine.serving import handle
from traceai_vllm.server.served import served_in
from traceai_vllm.testing import capture


@pytest.mark.parametrize(
    ("of_the_engine", "of_the_answer", "expected"),
    [
        ("chatcmpl-1", "chatcmpl-1", "chatcmpl-1"),
        ("cmpl-1-0", "cmpl-1", "cmpl-1"),
        ("cmpl-1-12", "cmpl-1", "cmpl-1"),
        ("resp_1_0", "resp_1", "resp_1"),
        ("cmpl-10", "cmpl-1", "cmpl-10"),  # another request's
        ("cmpl-1-x", "cmpl-1", "cmpl-1-x"),
        ("cmpl-1-0", None, "cmpl-1-0"),
    ],
)
def test_the_number_of_an_engine_request_is_no_part_of_the_answers_id(
    of_the_engine: str, of_the_answer: str | None, expected: str
) -> None:
    """Handlers of vLLM number the engine requests of one answer, and leave the answer's id with the HTTP request."""
    raw_request = SimpleNamespace(state=SimpleNamespace())

    async def create_completion(body: Any, raw_request: Any) -> str:
        if of_the_answer is not None:
            raw_request.state.request_metadata = SimpleNamespace(request_id=of_the_answer)
        return served_in(context.get_current()).response_id(of_the_engine)

    async def use() -> str:
        return await handle("text_completion")(create_completion, None, (SimpleNamespace(), raw_request), {})

    with capture():
        assert asyncio.run(use()) == expected
