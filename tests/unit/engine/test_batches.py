"""The span round a call of `LLM`, without vLLM."""

from __future__ import annotations

from typing import Any

import pytest
from opentelemetry.trace import StatusCode

from traceai_vllm.engine import offline
from traceai_vllm.testing import capture


class Thing:
    """Anything of vLLM's that attributes are set on."""


def chat(messages: Any, sampling_params: Any = None, *, tools: Any = None) -> list[Any]:
    return [messages, sampling_params, tools]


@pytest.mark.parametrize(("args", "kwargs"), [(("m", None, "too many"), {}), (("m", None), {"unknown": 1})])
@pytest.mark.parametrize("capture_content", [False, True])
def test_a_call_with_wrong_arguments_is_a_failed_batch(capture_content: bool, args: Any, kwargs: Any) -> None:
    """And no error of ours, also where its messages are looked for among them."""
    llm: Any = Thing()
    llm.llm_engine = Thing()
    llm.llm_engine.output_processor, llm.llm_engine.vllm_config = Thing(), Thing()

    with capture(capture_content=capture_content) as captured, pytest.raises(TypeError):
        offline.call("chat")(chat, llm, args, kwargs)

    (span,) = captured.spans
    assert (span.status.status_code, (span.attributes or {})["error.type"]) == (StatusCode.ERROR, "TypeError")
