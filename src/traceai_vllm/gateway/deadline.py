"""A limit on the time that is waited; cheaper than ``asyncio.wait_for``, which may start a task for it."""

from __future__ import annotations

import sys

if sys.version_info >= (3, 11):
    from asyncio import timeout
else:  # aiohttp brings it along there
    from async_timeout import timeout  # type: ignore[import-not-found, unused-ignore]

__all__ = ["timeout"]
