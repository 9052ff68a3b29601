"""An application of FastAPI, and a client that talks to it without a network."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.responses import StreamingResponse
from opentelemetry import context
from opentelemetry.trace import get_current_span
from starlette.testclient import TestClient

from traceai_vllm.server.served import served_in
from traceai_vllm.telemetry.tags import tags_in
from traceai_vllm.testing import Capture, capture


def application() -> FastAPI:
    app = FastAPI()

    @app.post("/v1/chat/completions")
    async def chat() -> StreamingResponse:
        async def chunks() -> Any:
            for number in range(3):
                yield str(number)

        return StreamingResponse(chunks())

    @app.get("/tags")
    async def tags() -> dict[str, Any]:
        ctx = context.get_current()
        served = served_in(ctx)
        return {**tags_in(ctx), "operation": served and served.operation}

    @app.get("/trace")
    async def trace() -> str:
        return format(get_current_span().get_span_context().trace_id, "032x")

    @app.get("/boom")
    async def boom() -> None:
        raise RuntimeError("the engine is dead")

    @app.get("/health")
    async def health() -> None: ...

    return app


@pytest.fixture
def app() -> FastAPI:
    return application()


@pytest.fixture
def client(app: FastAPI) -> Iterator[TestClient]:
    with TestClient(app, raise_server_exceptions=False) as client:
        yield client


@pytest.fixture
def captured() -> Iterator[Capture]:
    with capture() as captured:
        yield captured
