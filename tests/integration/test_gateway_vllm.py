"""Two real vLLM servers, bf16 and quantized, behind the gateway: each request of a client is one trace with both arms.

The program and both servers export to one receiver, as in production to one collector.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
import yaml

from tests.support.api_server import SERVED_NAME, ApiServer, free_port
from tests.support.gateway import wait_until
from tests.support.otlp_receiver import OtlpReceiver, ReceivedSpan

MODELS = Path(__file__).parents[2] / ".models"
MESSAGES: Any = [{"role": "user", "content": "How long is the waiting period for dental claims?"}]
TOOLS: Any = [
    {
        "type": "function",
        "function": {
            "name": "look_up",
            "description": "Look a policy up.",
            "parameters": {"type": "object", "properties": {"policy": {"type": "string"}}},
        },
    }
]
FLAGS = ("--enable-auto-tool-choice", "--tool-call-parser", "hermes")


class Stack:
    """The gateway's URL, its operators' URL, and what was received from it and from both servers."""

    def __init__(self, url: str, admin: str, receiver: OtlpReceiver) -> None:
        self.url = url
        self.admin = admin
        self._receiver = receiver

    def client(self) -> openai.OpenAI:
        return openai.OpenAI(base_url=self.url + "/v1", api_key="none", max_retries=0)

    def trace(self, trace_id: str, at_least: int) -> list[ReceivedSpan]:
        def of() -> list[ReceivedSpan]:
            return [span for span in self._receiver.spans() if span.trace_id == trace_id]

        wait_until(lambda: len(of()) >= at_least, f"{at_least} spans of {trace_id}", 60)
        return of()

    def settled(self) -> dict[str, Any]:
        def books() -> dict[str, Any]:
            [balance] = httpx.get(self.admin + "/books").json()
            return dict(balance)

        wait_until(lambda: books()["in_flight"] == 0, "all pairs are settled", 120)
        return books()


@pytest.fixture(scope="module")
def stack(smol_model: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    directory = tmp_path_factory.mktemp("gateway")
    with OtlpReceiver() as receiver, contextlib.ExitStack() as servers:
        exporting = {"TRACEAI_VLLM_ENABLED": "1", "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.http_endpoint}
        quantized = str(MODELS / "smollm2-135m-instruct-w8a8")
        urls = [
            servers.enter_context(ApiServer.vllm(model, *FLAGS, **exporting)).base_url
            for model in (smol_model, quantized)
        ]
        listen, admin = (f"127.0.0.1:{free_port()}" for _ in range(2))
        settings = {
            "listen": listen,
            "admin": admin,
            "servers": {"bf16": {"url": urls[0]}, "int8": {"url": urls[1]}},
            "routes": [{"name": "support", "baseline": "bf16", "candidate": "int8", "prompt_version": "v3"}],
        }
        path = directory / "gateway.yaml"
        path.write_text(yaml.safe_dump(settings))
        environment = {**os.environ, "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.http_endpoint}
        environment["OTEL_BSP_SCHEDULE_DELAY"] = "200"
        process = subprocess.Popen(
            [sys.executable, "-m", "traceai_vllm.cli", "gateway", "--config", str(path)], env=environment
        )
        try:
            wait_until(lambda: is_up(f"http://{listen}/health"), "the gateway serves")
            yield Stack(f"http://{listen}", f"http://{admin}", receiver)
        finally:
            process.terminate()
            process.wait(30)


def is_up(url: str) -> bool:
    with contextlib.suppress(httpx.TransportError):
        return httpx.get(url).status_code == 200
    return False


def ask(client: openai.OpenAI, **options: Any) -> tuple[str, str]:
    """Return what the model said, and the trace of it."""
    given = {"model": SERVED_NAME, "messages": MESSAGES, "max_tokens": 8, "temperature": 0.0, **options}
    raw = client.chat.completions.with_raw_response.create(**given)
    trace_id = raw.headers["x-trace-id"]
    if not options.get("stream"):
        return json.dumps(raw.parse().choices[0].message.model_dump()), trace_id
    return "".join(chunk.choices[0].delta.content or "" for chunk in raw.parse() if chunk.choices), trace_id


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"stream": True, "stream_options": {"include_usage": True}},
        {"tools": TOOLS},
        {"tools": TOOLS, "stream": True},
    ],
    ids=["whole", "streamed", "tools", "tools, streamed"],
)
def test_both_arms_of_a_request_are_in_its_trace(stack: Stack, options: dict[str, Any]) -> None:
    """The user's span, an arm for each server, and below each arm the server's own spans with its number format."""
    before = stack.settled()["paired"] if httpx.get(stack.admin + "/books").json() else 0
    said, trace_id = ask(stack.client(), **options)
    assert said
    balance = stack.settled()
    assert (balance["paired"], balance["difference"]) == (before + 1, 0)
    assert balance["sampled"] == balance["paired"]

    spans = {span.span_id: span for span in stack.trace(trace_id, 7)}
    [user] = [span for span in spans.values() if span.kind == "SERVER" and span.scope == "traceai_vllm.gateway"]
    arms = {s.attributes["traceai.pair.arm"]: s for s in spans.values() if s.attributes.get("traceai.pair.arm")}
    assert set(arms) == {"baseline", "candidate"}
    assert {arm.parent_span_id for arm in arms.values()} == {user.span_id}
    engines = [span for span in spans.values() if span.scope == "traceai_vllm"]
    formats = {spans[spans[s.parent_span_id].parent_span_id].span_id: s for s in engines}
    for arm, number_format in (("baseline", "bf16"), ("candidate", "int8")):
        engine = formats[arms[arm].span_id]
        assert engine.attributes["quantization_format"] == number_format
        assert (engine.attributes["route"], engine.attributes["prompt_version"]) == ("support", "v3")
        asked = arms[arm].attributes
        assert asked["gen_ai.response.id"] == engine.attributes["gen_ai.response.id"]
        if "gen_ai.usage.output_tokens" in asked:
            assert asked["gen_ai.usage.output_tokens"] == engine.attributes["gen_ai.usage.output_tokens"]
    assert (
        arms["baseline"].attributes["traceai.pair.prompt_hash"]
        == arms["candidate"].attributes["traceai.pair.prompt_hash"]
    )
