"""Real engines for the integration tests: one offline, one asynchronous, each loaded once for the whole run."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan

import traceai_vllm
from tests.support.records import in_memory_metrics, in_memory_tracing, points
from tests.support.stub_upstream import StubUpstream
from traceai_vllm.telemetry import semconv

# Read by vLLM when it is imported, which happens in the fixtures below at the earliest.
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")
os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
# Threads of the model that spin while they wait take the processor from everything else that runs here.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

MODELS = Path(__file__).parents[2] / ".models"
ENGINE_ARGS: dict[str, Any] = {"enforce_eager": True, "max_model_len": 1024, "max_num_seqs": 64}

Run = Callable[[Coroutine[Any, Any, Any]], Any]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let vLLM and torch warn as they like; a warning that points at our own modules stays an error."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.filterwarnings("ignore"))
            item.add_marker(pytest.mark.filterwarnings("error:::traceai_vllm"))


def _model(name: str) -> str:
    path = MODELS / name
    if not (path / "config.json").exists():
        pytest.fail(f"{path} is missing: run `make setup` first", pytrace=False)
    return str(path)


@pytest.fixture(scope="session")
def one_layer_model() -> str:
    """Path of a one-layer model with random weights: an engine as cheap as it gets."""
    return _model("one-layer")


@pytest.fixture(scope="session")
def smol_model() -> str:
    """Path of SmolLM2-135M-Instruct in bf16."""
    return _model("smollm2-135m-instruct")


@pytest.fixture(scope="session")
def llm(one_layer_model: str) -> Any:
    """An offline engine in this process, without statistics, as `LLM(...)` is by default."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
        from vllm import LLM

        return LLM(one_layer_model, **ENGINE_ARGS)


@pytest.fixture(scope="session")
def run() -> Iterator[Run]:
    """Run a coroutine on the event loop that the asynchronous engine lives on."""
    loop = asyncio.new_event_loop()
    yield loop.run_until_complete
    loop.close()


@pytest.fixture(scope="session")
def async_engine(one_layer_model: str, run: Run) -> Iterator[Any]:
    """An asynchronous engine with statistics and its engine core in a process of its own, as a server has it."""
    from vllm import AsyncEngineArgs
    from vllm.v1.engine.async_llm import AsyncLLM

    async def start() -> Any:
        return AsyncLLM.from_engine_args(AsyncEngineArgs(model=one_layer_model, **ENGINE_ARGS))

    engine = run(start())
    yield engine
    engine.shutdown()
    run(asyncio.sleep(0))


class Traced:
    """What the instrumented vLLM reported in one test."""

    def __init__(self) -> None:
        self.tracer_provider, self._exporter = in_memory_tracing()
        self.meter_provider, self._reader = in_memory_metrics()

    @property
    def spans(self) -> list[ReadableSpan]:
        """Every finished span, in the order in which they ended."""
        return list(self._exporter.get_finished_spans())

    @property
    def requests(self) -> list[ReadableSpan]:
        """The spans of requests."""
        return [span for span in self.spans if semconv.OPERATION_NAME in (span.attributes or {})]

    @property
    def batches(self) -> list[ReadableSpan]:
        """The spans round offline calls."""
        return [span for span in self.spans if semconv.BATCH_ENTRY_POINT in (span.attributes or {})]

    def request(self) -> tuple[ReadableSpan, dict[str, Any]]:
        """Return the only request span and its attributes."""
        (span,) = self.requests
        return span, dict(span.attributes or {})

    def points(self) -> dict[str, list[Any]]:
        """Return the collected metrics: name to data points."""
        return points(self._reader)

    def clear(self) -> None:
        """Forget the spans so far."""
        self._exporter.clear()

    def instrument(self, **options: Any) -> None:
        """Instrument vLLM with providers that keep everything in memory."""
        traceai_vllm.instrument(tracer_provider=self.tracer_provider, meter_provider=self.meter_provider, **options)


@pytest.fixture
def baseline() -> Iterator[StubUpstream]:
    """A server for the gateway's users."""
    with StubUpstream() as stub:
        yield stub


@pytest.fixture
def candidate() -> Iterator[StubUpstream]:
    """A server for the gateway's copies."""
    with StubUpstream() as stub:
        yield stub


@pytest.fixture
def traced() -> Iterator[Traced]:
    """vLLM instrumented for one test; afterwards vLLM has its own functions again."""
    seen = Traced()
    seen.instrument()
    yield seen
    traceai_vllm.uninstrument()
