"""An application that mounts the gateway, as docs/gateway.md shows: ``embedded_gateway.py gateway.yaml PORT``."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import uvicorn
from starlette.applications import Starlette
from starlette.routing import Mount

from traceai_vllm.gateway import create_admin_app, create_app


def main() -> None:
    gateway = create_app(sys.argv[1])

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        yield
        await gateway.state.runtime.close()

    operators = create_admin_app(gateway.state.runtime)
    app = Starlette(routes=[Mount("/models", gateway), Mount("/operators", operators)], lifespan=lifespan)
    uvicorn.run(app, port=int(sys.argv[2]), log_level="warning")


if __name__ == "__main__":
    main()
