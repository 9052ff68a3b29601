"""A real browser without a window: opens a file as a phone or a desk would, and says what it saw."""

from __future__ import annotations

import asyncio
import base64
import shutil
import subprocess
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import aiohttp

if TYPE_CHECKING:
    from collections.abc import Iterator

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
_START_S = 60


@dataclass(frozen=True)
class View:
    """How a page is looked at."""

    width: int
    height: int
    dark: bool = False


@dataclass(frozen=True)
class Seen:
    """What became of a page.

    Attributes:
        found: what the script returned.
        picture: PNG.
        addresses: what the page asked for, itself included.
        dialogs: texts of the dialogs that its scripts opened.
    """

    found: Any
    picture: bytes
    addresses: list[str]
    dialogs: list[str]


def look(page: Path, view: View, script: str) -> Seen:
    """Open a file, run a script of ours in it, and return what was seen.

    Args:
        page: the file.
        view: size in CSS pixels and colour scheme.
        script: an expression whose value is returned.
    """
    with _browser() as address:
        return asyncio.run(_look(address, page, view, script))


@contextmanager
def _browser() -> Iterator[str]:
    with TemporaryDirectory(prefix="traceai-browser-", ignore_cleanup_errors=True) as profile:
        port = Path(profile) / "DevToolsActivePort"
        process = subprocess.Popen(
            [
                str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--no-first-run",
                "--remote-debugging-port=0", f"--user-data-dir={profile}",
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            end = time.monotonic() + _START_S
            while not (port.exists() and len(port.read_text().splitlines()) == 2):
                assert process.poll() is None, "the browser ended"
                assert time.monotonic() < end, "the browser did not start"
                time.sleep(0.05)
            yield f"http://127.0.0.1:{port.read_text().splitlines()[0]}"
        finally:
            process.terminate()
            process.wait(30)


async def _look(address: str, page: Path, view: View, script: str) -> Seen:
    async with aiohttp.ClientSession() as session, session.put(f"{address}/json/new?about:blank") as answer:
        target = (await answer.json())["webSocketDebuggerUrl"]
        async with session.ws_connect(target, max_msg_size=0) as socket:
            return await _Tab(socket).look(page, view, script)


class _Tab:
    """One tab, by the Chrome DevTools Protocol."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self._number = 0
        self._loaded = False
        self.addresses: list[str] = []
        self.dialogs: list[str] = []

    async def look(self, page: Path, view: View, script: str) -> Seen:
        for domain in ("Page", "Network"):
            await self._call(f"{domain}.enable")
        size = {"width": view.width, "height": view.height, "deviceScaleFactor": 1, "mobile": view.width < 600}
        await self._call("Emulation.setDeviceMetricsOverride", **size)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if view.dark else "light"}
        await self._call("Emulation.setEmulatedMedia", features=[scheme])
        await self._call("Page.navigate", url=page.as_uri())
        while not self._loaded:
            await self._next()
        found = await self._call("Runtime.evaluate", expression=script, returnByValue=True)
        assert "exceptionDetails" not in found, found
        picture = await self._call("Page.captureScreenshot", format="png")
        return Seen(
            found["result"].get("value"), base64.b64decode(picture["data"]), list(self.addresses), list(self.dialogs)
        )

    async def _call(self, method: str, **parameters: Any) -> dict[str, Any]:
        self._number += 1
        await self._socket.send_json({"id": self._number, "method": method, "params": parameters})
        while True:
            message = await self._next()
            if message.get("id") == self._number:
                assert "error" not in message, message
                return dict(message["result"])

    async def _next(self) -> dict[str, Any]:
        message: dict[str, Any] = await self._socket.receive_json(timeout=_START_S)
        method, given = message.get("method"), message.get("params", {})
        if method == "Page.loadEventFired":
            self._loaded = True
        elif method == "Network.requestWillBeSent":
            self.addresses.append(given["request"]["url"])
        elif method == "Page.javascriptDialogOpening":
            self.dialogs.append(given["message"])
        return message
