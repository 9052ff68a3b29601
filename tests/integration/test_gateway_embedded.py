"""The gateway inside an application of somebody else's: all that the program has."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from opentelemetry.trace import NoOpTracerProvider

from tests.support.api_server import free_port
from tests.support.gateway import wait_until
from tests.support.stub_upstream import StubUpstream
from traceai_vllm.gateway import create_app
from traceai_vllm.gateway.config import GatewayConfig
from traceai_vllm.store import connect

PROGRAM = Path(__file__).parent / "programs" / "embedded_gateway.py"
CHAT = {"model": "m", "messages": [{"role": "user", "content": "hi"}], "response_format": {"type": "json_object"}}
SCORE = "gen_ai.evaluation.JSONValidation.score"


def test_a_mounted_gateway_mirrors_scores_and_keeps(tmp_path: Path) -> None:
    """Under a path of the application's, with telemetry set up as the program has it, and nothing more to call."""
    with StubUpstream() as baseline, StubUpstream() as candidate:
        path, store = tmp_path / "gateway.yaml", tmp_path / "spans"
        settings = {
            "servers": {"one": {"url": baseline.url}, "two": {"url": candidate.url}},
            "routes": [{"name": "r", "baseline": "one", "candidate": "two"}],
            "telemetry": {"evaluators": ["JSONValidation"], "store": str(store)},
        }
        path.write_text(yaml.safe_dump(settings))
        port = free_port()
        environment = {**os.environ, **{f"OTEL_{kind}_EXPORTER": "none" for kind in ("TRACES", "METRICS", "LOGS")}}
        process = subprocess.Popen([sys.executable, str(PROGRAM), str(path), str(port)], env=environment)
        url = f"http://127.0.0.1:{port}"
        try:
            wait_until(lambda: is_up(f"{url}/operators/healthz"), "the application serves")
            answer = httpx.post(f"{url}/models/v1/chat/completions", json=CHAT)
            assert answer.status_code == 200
            assert httpx.get(f"{url}/models/v1/models").json()["data"]
            assert httpx.get(f"{url}/v1/models").status_code == 404
            wait_until(lambda: books(url).get("paired") == 1, "the pair is complete")
        finally:
            process.terminate()
            process.wait(60)
        asked = {stub.seen[0].path for stub in (baseline, candidate)}
    assert asked == {"/v1/chat/completions"}
    with connect(store) as connection:
        query = f"SELECT trace_id, attributes->>'{SCORE}' FROM spans WHERE attributes->>'traceai.pair.arm' IS NOT NULL"
        rows = connection.execute(query).fetchall()
    assert rows == [(answer.headers["x-trace-id"], "0.0")] * 2


def books(url: str) -> dict[str, Any]:
    found = httpx.get(f"{url}/operators/books").json()
    return dict(found[0]) if found else {}


@pytest.mark.parametrize("telemetry", [{"store": "spans"}, {"store": "spans", "evaluators": ["JSONValidation"]}])
def test_a_store_that_gets_no_spans_is_said(telemetry: dict[str, Any], caplog: pytest.LogCaptureFixture) -> None:
    """With OTEL_SDK_DISABLED there are none; a gateway that mirrors for weeks would leave nothing to compare."""
    settings = {"servers": {"one": {"url": "http://h"}}, "routes": [{"name": "r", "baseline": "one"}]}
    config = GatewayConfig.model_validate({**settings, "telemetry": telemetry})

    create_app(config, tracer_provider=NoOpTracerProvider())

    assert f"telemetry: {', '.join(telemetry)}: nothing is kept or scored" in caplog.text


def is_up(url: str) -> bool:
    try:
        return httpx.get(url).status_code == 200
    except httpx.TransportError:
        return False
