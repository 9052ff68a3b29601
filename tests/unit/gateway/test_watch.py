"""Files that change while the gateway runs."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.support.gateway import wait_until
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

        watching = asyncio.create_task(watch.watch(path, None, changed))
        path.write_text("1")
        await asyncio.wait_for(both.wait(), 10)
        watching.cancel()

    asyncio.run(watched())
    assert seen == ["1", "second"]


def test_a_file_that_may_now_be_read_has_changed(tmp_path: Path) -> None:
    """Its time does not tell: whoever gives the gateway the right to read it has not written it."""
    path = tmp_path / "file"
    path.write_text("")
    path.chmod(0o000)
    before = watch.state_of(path)

    def is_another() -> bool:
        path.chmod(0o600)  # again, as the file system's clock may tick slowly
        return watch.state_of(path) != before

    wait_until(is_another, "it is another state")
