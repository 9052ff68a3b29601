"""Endpoints of `vllm serve` that need a model of their own: classification, and speech to text."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from tests.integration.test_content import CANARY
from tests.support import whisper_model
from tests.support.api_server import SERVED_NAME, ApiServer, Call


@pytest.fixture(scope="module")
def classifier(one_layer_model: str) -> Iterator[ApiServer]:
    flags = ("--runner", "pooling", "--convert", "classify", "--load-format", "dummy")
    with ApiServer.vllm(one_layer_model, *flags, TRACEAI_VLLM_ENABLED="1") as server:
        yield server


@pytest.fixture(scope="module")
def listener(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    model = whisper_model.make(tmp_path_factory.mktemp("whisper"))
    with ApiServer.vllm(model, "--load-format", "dummy", "--max-model-len", "448", TRACEAI_VLLM_ENABLED="1") as server:
        yield server


def test_a_classification_is_a_request_for_each_text(classifier: ApiServer) -> None:
    call = Call()
    answer = httpx.post(
        f"{classifier.base_url}/classify",
        json={"model": SERVED_NAME, "input": [CANARY, "b"]},
        headers=call.headers(x_route="triage"),
        timeout=60,
    )
    assert answer.status_code == 200, answer.text
    span, *engine = classifier.trace(call, 3)
    assert (span.kind, span.name) == ("SERVER", "POST /classify")
    assert [(one.parent_span_id, one.attributes["gen_ai.operation.name"]) for one in engine] == [
        (span.span_id, "classify")
    ] * 2
    assert {one.attributes["route"] for one in engine} == {"triage"}
    assert [request for request in classifier.exported() if CANARY.encode() in request] == []


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(("path", "operation"), [("transcriptions", "transcription"), ("translations", "translation")])
def test_speech_to_text(listener: ApiServer, path: str, operation: str, stream: bool) -> None:
    """The sound comes as a form, not as JSON: operation, tags and trace are there all the same."""
    call = Call()
    answer = httpx.post(
        f"{listener.base_url}/v1/audio/{path}",
        data={"model": SERVED_NAME, "language": "en", "stream": str(stream).lower(), "prompt": CANARY},
        files={"file": (f"{CANARY}.wav", whisper_model.silence(), "audio/wav")},
        headers=call.headers(x_route="calls"),
        timeout=120,
    )
    assert answer.status_code == 200, answer.text
    span, engine = listener.pair(call)
    assert span.name == f"POST /v1/audio/{path}"
    assert engine.attributes["gen_ai.operation.name"] == operation
    assert engine.attributes["route"] == "calls"
    assert engine.attributes["gen_ai.usage.output_tokens"] > 0
    assert [request for request in listener.exported() if CANARY.encode() in request] == []
