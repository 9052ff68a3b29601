"""``traceai_vllm.testing.capture`` round a real engine."""

from __future__ import annotations

from typing import Any

import traceai_vllm
from traceai_vllm.testing import capture


def test_a_real_request_is_captured(llm: Any) -> None:
    """Spans and measurements of a real offline request are there, with its tags, inside the block and after."""
    with capture(model_variant="mine") as captured:
        with traceai_vllm.tags(route="support"):
            llm.generate(["hello"], use_tqdm=False)
        [request] = captured.requests
        captured.clear()
        llm.generate(["hello"], use_tqdm=False)
    llm.generate(["not seen"], use_tqdm=False)

    assert request.attributes is not None
    assert (request.attributes["route"], request.attributes["model_variant"]) == ("support", "mine")
    [later] = captured.requests
    assert later.attributes is not None
    assert "route" not in later.attributes
    usage = captured.metrics()["gen_ai.client.token.usage"]
    assert {point["attributes"]["gen_ai.token.type"]: point["count"] for point in usage} == {
        "input": 1,
        "output": 1,
    }
    assert {point["attributes"]["model_variant"] for point in usage} == {"mine"}
