"""Files that change while the gateway runs."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from traceai_vllm.gateway import watch


@pytest.mark.internal_errors_expected
def test_a_change_that_cannot_be_taken_in_is_not_the_last_that_is_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever went wrong with it."""
    monkeypatch.setattr(watch, "INTERVAL_S", 0.001)
    path, seen = tmp_path / "file", []

    async def watched() -> None:
        both = asyncio.Event()

        def changed() -> None:
            seen.append(path.read_text())
            if len(seen) == 1:
                path.write_text("second")
                raise RuntimeError
            both.set()

        watching = asyncio.create_task(watch.watch(path, changed))
        await asyncio.sleep(0)
        path.write_text("1")
        await asyncio.wait_for(both.wait(), 10)
        watching.cancel()

    asyncio.run(watched())
    assert seen == ["1", "second"]
