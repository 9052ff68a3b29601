"""Whatever breaks in our HTTP side, the client gets the same answer: each function that a request reaches, in turn."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from fastapi import FastAPI, Request
from fastapi.responses import StreamingResponse

from tests.support.fault_seam import SEAM
from tests.support.faults import KINDS, Injected, Kind, called_in
from tests.unit.server.asgi import call
from traceai_vllm.engine.serving import handle
from traceai_vllm.server import ServerOptions
from traceai_vllm.testing import capture

HEADERS = [
    (b"host", b"test"),
    (b"x-route", b"support"),
    (b"traceparent", b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
    (b"baggage", b"agent_step=plan"),
]


HANDLER_HOOK = handle("chat")


class Body:
    def __init__(self) -> None:
        self.metadata = {"prompt_version": "v3"}


async def handler(body: Body) -> str:
    return "answered"


def application() -> FastAPI:
    app = FastAPI()

    @app.post("/v1/chat/completions")
    async def chat(request: Request) -> StreamingResponse:
        first = await HANDLER_HOOK(handler, None, (Body(),), {})

        async def chunks() -> Any:
            yield first
            yield request.headers["x-route"]

        return StreamingResponse(chunks())

    @app.post("/boom")
    async def boom() -> None:
        raise RuntimeError("the application's own error")

    return app


def ask(path: str = "/v1/chat/completions") -> list[Any]:
    """Build the application and ask it once: what a client gets."""
    return asyncio.run(call(application(), path, headers=HEADERS))


def outcome_of(use: Callable[[], Any]) -> Any:
    try:
        return use()
    except Exception as error:
        return repr(error)


USES = {
    "streamed": (ask, ServerOptions()),
    "the application fails": (lambda: ask("/boom"), ServerOptions()),
    "callers are not trusted": (ask, ServerOptions(trust_callers=False, allowed={"route": {"a"}})),
}


@pytest.mark.internal_errors_expected
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
@pytest.mark.parametrize("name", USES)
def test_no_error_of_ours_reaches_a_client(name: str, kind: Kind) -> None:
    use, options = USES[name]
    expected = outcome_of(use)
    with capture(server=options):
        targets = [t for t in called_in(lambda: outcome_of(use)) if t.name not in SEAM and kind.fits(t)]
        assert len(targets) >= 10
        different = {}
        for target in targets:
            with Injected(target, kind) as fault:
                outcome = outcome_of(use)
            assert fault.reached, target.name
            if outcome != expected:
                different[target.name] = outcome
    assert different == {}
