"""Your own FastAPI application on vLLM's asynchronous engine, traced.

    python examples/serve/app.py --model .models/smollm2-135m-instruct --port 8000
    curl -N localhost:8000/answer -H 'content-type: application/json' -H 'x-agent-step: synthesis' \
        -d '{"question": "How long is the waiting period?"}'

Each request is a SERVER span of OpenTelemetry's FastAPI instrumentation, with the engine's span under it.
"""

from __future__ import annotations

import argparse
import uuid
from collections.abc import AsyncIterator  # noqa: TC003 - examples stay plain
from contextlib import asynccontextmanager

import traceai_vllm

traceai_vllm.instrument()

import uvicorn  # noqa: E402
from fastapi import FastAPI  # noqa: E402
from fastapi.responses import StreamingResponse  # noqa: E402
from pydantic import BaseModel  # noqa: E402
from vllm import AsyncEngineArgs, SamplingParams  # noqa: E402
from vllm.engine.async_llm_engine import AsyncLLMEngine  # noqa: E402
from vllm.sampling_params import RequestOutputKind  # noqa: E402


class Question(BaseModel):
    """What a client asks."""

    question: str
    max_tokens: int = 64


def build(model: str) -> FastAPI:
    """Return the application; its engine lives as long as it does."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        arguments = AsyncEngineArgs(model=model, served_model_name="faq-bot", enforce_eager=True, max_model_len=1024)
        app.state.engine = AsyncLLMEngine.from_engine_args(arguments)
        yield
        app.state.engine.shutdown()

    app = FastAPI(lifespan=lifespan)

    @app.get("/health")
    async def health() -> None:
        await app.state.engine.check_health()

    @app.post("/answer")
    async def answer(question: Question) -> StreamingResponse:
        parameters = SamplingParams(temperature=0, max_tokens=question.max_tokens, output_kind=RequestOutputKind.DELTA)
        # The caller's context and these tags are taken here, though the answer is streamed later.
        with traceai_vllm.tags(route="faq"):
            outputs = app.state.engine.generate(question.question, parameters, str(uuid.uuid4()))
        return StreamingResponse(_text(outputs), media_type="text/plain")

    return app


async def _text(outputs: AsyncIterator) -> AsyncIterator[str]:
    async for output in outputs:
        yield output.outputs[0].text


def main() -> None:
    """Serve until interrupted."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000)
    options = parser.parse_args()
    uvicorn.run(build(options.model), host=options.host, port=options.port, log_level="warning")


if __name__ == "__main__":
    main()
