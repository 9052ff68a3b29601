"""A client that talks to an application as an ASGI server does."""

from __future__ import annotations

import asyncio
from typing import Any


async def call(app: Any, path: str, leave_after: int | None = None, **more: Any) -> list[Any]:
    """Ask the application; the client leaves after so many chunks, if given. Returns the messages that it sent."""
    left, seen = asyncio.Event(), []
    asked = False

    async def receive() -> dict[str, Any]:
        nonlocal asked
        if not asked:
            asked = True
            return {"type": "http.request", "body": b"", "more_body": False}
        await left.wait()
        return {"type": "http.disconnect"}

    async def send(message: dict[str, Any]) -> None:
        seen.append(message)
        if leave_after is not None and sum(m["type"] == "http.response.body" for m in seen) >= leave_after:
            left.set()
        await asyncio.sleep(0)  # what stands round the application may have to do something of its own
        await asyncio.sleep(0)

    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": "POST",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "scheme": "http",
        "headers": [(b"host", b"test")],
        "client": ("test", 1),
        "server": ("test", 80),
        **more,
    }
    await app(scope, receive, send)
    return seen
