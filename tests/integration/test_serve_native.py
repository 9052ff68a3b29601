"""Beside vLLM's own tracing, with two ways in at once: both report, and nothing is counted twice."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.test_serve import chat
from tests.support.api_server import BIN, ApiServer, Call
from tests.support.otlp_receiver import OtlpReceiver

REASONING = Path(__file__).parents[1] / "support" / "reasoning_plugin.py"
DURATION = "gen_ai.server.request.duration"


@pytest.fixture(scope="module")
def native() -> Iterator[OtlpReceiver]:
    with OtlpReceiver() as receiver:
        yield receiver


@pytest.fixture(scope="module")
def server(one_layer_model: str, native: OtlpReceiver) -> Iterator[ApiServer]:
    with ApiServer.vllm(
        one_layer_model,
        "--otlp-traces-endpoint",
        native.http_endpoint + "/v1/traces",
        "--reasoning-parser-plugin",
        str(REASONING),
        "--reasoning-parser",
        "two_tokens",
        by=(str(BIN / "opentelemetry-instrument"),),
        TRACEAI_VLLM_ENABLED="1",
        OTEL_EXPORTER_OTLP_TRACES_PROTOCOL="http/protobuf",
    ) as server:
        yield server


def test_ours_and_vllms_own_span_are_in_one_trace(server: ApiServer, native: OtlpReceiver) -> None:
    """One SERVER span, one of ours, one `llm_request`: side by side, with the same token counts."""
    call = Call()
    chat(server, call)
    spans = server.trace(call, 3)
    assert sorted(span.name for span in spans) == ["POST /v1/chat/completions", "chat tiny", "llm_request"]
    by_name = {span.name: span for span in spans}
    ours, theirs, http = by_name["chat tiny"], by_name["llm_request"], by_name["POST /v1/chat/completions"]
    assert ours.parent_span_id == http.span_id
    assert theirs.parent_span_id == http.parent_span_id == call.span_id  # vLLM reads the caller's header itself
    assert ours.attributes["gen_ai.usage.input_tokens"] == theirs.attributes["gen_ai.usage.prompt_tokens"]
    assert ours.attributes["gen_ai.usage.output_tokens"] == theirs.attributes["gen_ai.usage.completion_tokens"]
    assert ours.attributes["gen_ai.latency.time_to_first_token"] == pytest.approx(
        theirs.attributes["gen_ai.latency.time_to_first_token"]
    )


def test_metrics_are_not_doubled(server: ApiServer) -> None:
    for _ in range(5):
        chat(server, Call(), headers={"x_traffic_cohort": "native"})
    with server.receiver._received:
        server.receiver._received.wait_for(lambda: server.measured(DURATION, "traffic_cohort").get("native") == 5, 15)
    assert server.measured(DURATION, "traffic_cohort")["native"] == 5


@pytest.mark.parametrize("stream", [False, True])
def test_reasoning_tokens_are_counted_apart_where_vllm_reports_them(server: ApiServer, stream: bool) -> None:
    """They are a part of the output tokens; a streamed answer has them with its last byte, asked for usage or not."""
    call = Call()
    answer = chat(server, call, max_tokens=6, extra_body={"ignore_eos": True}, stream=stream)
    if stream:
        list(answer)
    else:
        assert answer.usage.completion_tokens_details.reasoning_tokens == 2
    spans = {span.scope: span for span in server.trace(call, 3)}
    http = spans["opentelemetry.instrumentation.fastapi"]
    assert http.attributes["gen_ai.usage.reasoning.output_tokens"] == 2
    assert spans["traceai_vllm"].attributes["gen_ai.usage.output_tokens"] == 6


@pytest.mark.parametrize("stream", [False, True])
def test_reasoning_tokens_of_a_response(server: ApiServer, stream: bool) -> None:
    call = Call()
    response = server.client().responses.create(
        model="tiny", input="Hello", max_output_tokens=6, stream=stream, extra_headers=call.headers()
    )
    if stream:
        response = list(response)[-1].response
    http = server.trace(call, 3)[0]
    assert http.attributes["gen_ai.usage.reasoning.output_tokens"] == 2
    assert response.usage.output_tokens_details.reasoning_tokens == 2
