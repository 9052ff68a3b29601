"""Pooling requests on real vLLM: embeddings, encode, score."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from unittest.mock import Mock

import pytest

import traceai_vllm
from tests.integration.conftest import ENGINE_ARGS, Run, Traced
from tests.integration.test_offline import MODEL, without_times


@pytest.fixture(scope="module")
def pooling_llm(one_layer_model: str) -> Iterator[Any]:
    """The one-layer model as an embedding model."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
        from vllm import LLM

        yield LLM(one_layer_model, runner="pooling", convert="embed", **ENGINE_ARGS)


def test_an_embedding_has_every_attribute_of_the_contract(pooling_llm: Any, traced: Traced) -> None:
    """Prompt tokens and latency; no generated tokens, no sampling parameters, no time to first token."""
    (output,) = pooling_llm.embed("hello", use_tqdm=False)

    span, attributes = traced.request()
    prompt = len(output.prompt_token_ids)
    assert span.name == "embeddings one-layer"
    assert without_times(attributes) == {
        **MODEL,
        "gen_ai.operation.name": "embeddings",
        "gen_ai.response.id": output.request_id,
        "gen_ai.response.finish_reasons": ("stop",),
        "gen_ai.usage.input_tokens": prompt,
        "gen_ai.usage.cache_read.input_tokens": 0,
        "llm.token_count.prompt": prompt,
        "llm.token_count.total": prompt,
    }
    assert attributes["gen_ai.latency.e2e"] > 0
    (batch,) = traced.batches
    assert batch.name == "LLM.embed one-layer"


@pytest.mark.parametrize(
    ("call", "operation", "requests"),
    [
        (lambda llm: llm.encode(["a", "b"], pooling_task="embed", use_tqdm=False), "embeddings", 2),
        (lambda llm: llm.score("a", ["b", "c"], use_tqdm=False), "score", 3),
    ],
    ids=["encode", "score"],
)
def test_entry_points_name_their_operation(
    pooling_llm: Any, traced: Traced, call: Any, operation: str, requests: int
) -> None:
    """Each pooling entry point is one batch, its requests say what they are for."""
    call(pooling_llm)

    assert [span.attributes["gen_ai.operation.name"] for span in traced.requests] == [operation] * requests
    assert len(traced.batches) == 1
    assert all(span.parent.span_id == traced.batches[0].context.span_id for span in traced.requests)


def test_an_engine_that_fails_gives_its_error_to_every_request(
    pooling_llm: Any, traced: Traced, monkeypatch: pytest.MonkeyPatch
) -> None:
    """vLLM itself aborts what is left of the batch: that is the engine's failure, and no cancellation."""
    broken = Mock(side_effect=RuntimeError("the kernel crashed"))
    with monkeypatch.context() as patch:
        patch.setattr(pooling_llm.llm_engine.engine_core, "get_output", broken)
        with pytest.raises(RuntimeError, match="the kernel crashed"):
            pooling_llm.embed(["a", "b"], use_tqdm=False)

    assert [span.attributes["error.type"] for span in traced.requests] == ["RuntimeError"] * 2
    assert {span.status.description for span in traced.requests} == {"the kernel crashed"}
    assert not any("gen_ai.response.finish_reasons" in span.attributes for span in traced.requests)


def test_an_asynchronous_embedding_is_a_request(one_layer_model: str, run: Run, traced: Traced) -> None:
    """`AsyncLLM.encode`: the caller's tags, the engine's times, no time to first token."""
    from vllm import AsyncEngineArgs, PoolingParams
    from vllm.v1.engine.async_llm import AsyncLLM

    async def embed() -> None:
        options = AsyncEngineArgs(model=one_layer_model, runner="pooling", convert="embed", **ENGINE_ARGS)
        engine = AsyncLLM.from_engine_args(options)
        with traceai_vllm.tags(route="search"):
            generator = engine.encode("hello", PoolingParams(task="embed", dimensions=None), "mine")
        async for _ in generator:
            pass
        engine.shutdown()

    run(embed())

    span, attributes = traced.request()
    assert span.name == "embeddings one-layer"
    assert attributes["route"] == "search"
    assert attributes["gen_ai.response.id"] == "mine"
    assert attributes["gen_ai.usage.input_tokens"] > 0
    assert "gen_ai.usage.output_tokens" not in attributes
    assert "gen_ai.request.stream" not in attributes
