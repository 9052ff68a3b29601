"""A vLLM that lacks a hook point: attributes may be lost, with one clear warning; what the user gets stays the same."""

from __future__ import annotations

import importlib
import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from compat.hooks import without

import traceai_vllm
from tests.integration.conftest import Run, Traced
from tests.integration.test_offline import params
from traceai_vllm.engine import patches

ROOT = Path(__file__).parents[2]
# Not the constructor of vLLM's first engine (V0), which no version that runs here has.
OFFLINE = [
    patch
    for patch in patches.PATCHES
    if patch.owner in {"OutputProcessor", "LLMEngine", "LLM"} and patch.name != "__init__"
]
ASYNC = [patch for patch in patches.PATCHES if patch.owner in {"OutputProcessor", "AsyncLLM"}]


def name_of(patch: patches.Patch) -> str:
    return f"{patch.owner}.{patch.name}"


class Lacking:
    """vLLM without one hook: deleted from its class, and kept by the engine at hand so that vLLM still works."""

    def __init__(self, patch: patches.Patch, holder: Any) -> None:
        self.owner = getattr(importlib.import_module(patch.module), patch.owner)
        if not hasattr(self.owner, patch.name):
            pytest.skip(f"this vLLM has no {name_of(patch)} anyway")
        self.patch = patch
        self.holder = holder
        self.traced = Traced()
        self._taken = without(self.owner, patch.name)

    def __enter__(self) -> Lacking:
        self.holder.__class__ = self._taken.__enter__()
        self.traced.instrument()
        needed = self.patch.only_if(importlib.import_module(self.patch.module))
        self.warns = needed and (self.patch.required or bool(self.patch.lost))
        return self

    def __exit__(self, *error: Any) -> None:
        traceai_vllm.uninstrument()
        self.holder.__class__ = self.owner
        self._taken.__exit__(*error)


def check(lacking: Lacking, caplog: pytest.LogCaptureFixture, requests: int) -> None:
    """One warning where something is lost without the hook; no span too many, none with a wrong end."""
    warnings = [record.getMessage() for record in caplog.records if record.name == "traceai_vllm"]
    assert [name_of(lacking.patch) in text for text in warnings] == [True] * lacking.warns
    assert len(lacking.traced.requests) <= requests
    assert {span.attributes.get("error.type") for span in lacking.traced.requests} <= {None, "abandoned"}


def holder_of(patch: patches.Patch, llm: Any) -> Any:
    return {"OutputProcessor": llm.llm_engine.output_processor, "LLMEngine": llm.llm_engine, "LLM": llm}[patch.owner]


@pytest.mark.parametrize("patch", OFFLINE, ids=name_of)
def test_offline_calls_without_a_hook_give_what_they_always_give(
    llm: Any, patch: patches.Patch, caplog: pytest.LogCaptureFixture
) -> None:
    """`generate`, `n=2` and `chat` on a real engine."""

    def use() -> list[Any]:
        outputs = llm.generate(["hello", "good morning"], params(), use_tqdm=False)
        outputs += llm.generate("hello", params(n=2, temperature=1.0, seed=1), use_tqdm=False)
        outputs += llm.chat([{"role": "user", "content": "hello"}], params(), use_tqdm=False)
        return [[answer.token_ids for answer in output.outputs] for output in outputs]

    bare = use()
    with Lacking(patch, holder_of(patch, llm)) as lacking:
        assert use() == bare
    check(lacking, caplog, requests=4)
    assert use() == bare


@pytest.mark.parametrize("patch", ASYNC, ids=name_of)
def test_streams_without_a_hook_give_what_they_always_give(
    async_engine: Any, run: Run, patch: patches.Patch, caplog: pytest.LogCaptureFixture
) -> None:
    """Two streams, one after the other, on a real engine in a process of its own."""

    async def stream(name: str) -> list[int]:
        tokens: list[int] = []
        async for output in async_engine.generate("hello", params(), name):
            tokens = list(output.outputs[0].token_ids)
        return tokens

    async def use() -> list[list[int]]:
        return [await stream("a"), await stream("b")]

    holder = async_engine if patch.owner == "AsyncLLM" else async_engine.output_processor
    bare = run(use())
    with Lacking(patch, holder) as lacking:
        assert run(use()) == bare
    check(lacking, caplog, requests=2)


def test_the_installed_vllm_passes_the_source_level_of_the_compatibility_run() -> None:
    """Every way in which a request ends, each hook taken away: `make compat` does the same with all versions."""
    found = importlib.util.find_spec("vllm")
    assert found is not None
    sources = Path(str(found.origin)).parents[1]

    done = subprocess.run(
        [sys.executable, "-m", "compat.source_run", str(sources)], cwd=ROOT, capture_output=True, text=True, check=False
    )

    result = json.loads(done.stdout.splitlines()[-1])
    assert "crashed" not in result, result
    assert {name: problem for name, problem in result["scenarios"].items() if problem} == {}
    assert {name: outcome["problems"] for name, outcome in result["without"].items() if outcome["problems"]} == {}
    assert len(result["without"]) > 15
