"""The demo's parts that need no engine: how long it waits, and for what."""

from __future__ import annotations

import io
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

import httpx
import pytest
from rich.console import Console

from traceai_vllm.gateway import load_config

if TYPE_CHECKING:
    from collections.abc import Iterator

DEMO = Path(__file__).resolve().parents[2] / "examples" / "demo"
MODULES = [path.stem for path in DEMO.glob("*.py")]


@pytest.fixture(autouse=True)
def demo_folder(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Its modules, as the demo itself imports them; other examples have some of the same names."""
    monkeypatch.syspath_prepend(str(DEMO))
    others = {name: sys.modules.pop(name) for name in MODULES if name in sys.modules}
    yield
    for name in MODULES:
        sys.modules.pop(name, None)
    sys.modules.update(others)


def book(target: str, in_flight: int) -> dict[str, object]:
    return {"target": target, "sampled": 1, "paired": 1 - in_flight, "in_flight": in_flight}


def test_a_copy_may_take_as_long_as_the_users_own_request(tmp_path: Path) -> None:
    """On two slow cores the gateway's default of two minutes ended copies, and the demo with an error."""
    import settings

    variant = SimpleNamespace(model=Path("tiny"), number_format="bf16")
    servers = {arm: (variant, SimpleNamespace(url="http://127.0.0.1:1")) for arm in ("baseline", "candidate")}
    path, _, _ = settings.write_config(settings.Place(tmp_path), servers, ["support"])

    assert load_config(path).mirror.timeout_s >= settings.ANSWER_SECONDS > 120


def test_the_demo_waits_for_repeats_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """The gateway is stopped afterwards, and what is under way then ends in an error."""
    import demo

    looks = iter([[book("candidate", 0), book("baseline_repeat", 1)], *[[book("candidate", 0)]] * 2])
    monkeypatch.setattr(httpx, "get", lambda url: SimpleNamespace(json=lambda: next(looks)))
    demo.wait_for_books("http://127.0.0.1:1", 1, Console(file=io.StringIO()))

    assert not list(looks)
