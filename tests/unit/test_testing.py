"""What users test their own code with: ``capture()`` and the fixture ``traceai_spans``."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from opentelemetry import metrics, trace
from opentelemetry._logs import LogRecord

import traceai_vllm
from traceai_vllm.testing import Capture, capture


def record(captured: Capture, seconds: float, route: str = "support") -> None:
    """Record as a request of the engine does: a span, its measurements, an event."""
    tracer = captured.tracer_provider.get_tracer("traceai_vllm")
    tracer.start_span("chat llama", attributes={"gen_ai.operation.name": "chat", "route": route}).end()
    meter = captured.meter_provider.get_meter("traceai_vllm")
    meter.create_histogram("duration", unit="s").record(seconds, {"route": route})
    meter.create_counter("requests").add(1, {"route": route})


def test_vllm_is_instrumented_inside_the_block_only() -> None:
    """capture() instruments, and gives vLLM its own functions back even when the test fails."""
    instrumentor = traceai_vllm.VLLMInstrumentor()
    with pytest.raises(ZeroDivisionError), capture():
        assert instrumentor.is_instrumented_by_opentelemetry
        raise ZeroDivisionError
    assert not instrumentor.is_instrumented_by_opentelemetry


def test_instrumented_twice_is_an_error_not_an_empty_capture() -> None:
    """Inside another instrumentation nothing would be captured, so capture() says so."""
    with capture(), pytest.raises(RuntimeError, match=r"call traceai_vllm\.uninstrument\(\)"), capture():
        pass


def test_the_global_providers_are_not_touched() -> None:
    """A test that captures leaves no provider behind for the next test."""
    before = trace.get_tracer_provider(), metrics.get_meter_provider()
    with capture():
        pass
    assert (trace.get_tracer_provider(), metrics.get_meter_provider()) == before


def test_requests_are_told_from_other_spans() -> None:
    """`spans` has everything, `requests` only what vLLM's engine served."""
    with capture() as captured:
        record(captured, 0.5)
        captured.tracer_provider.get_tracer("traceai_vllm").start_span("decode").end()
        other = captured.tracer_provider.get_tracer("openai")
        other.start_span("chat gpt", attributes={"gen_ai.operation.name": "chat"}).end()
    assert [span.name for span in captured.spans] == ["chat llama", "decode", "chat gpt"]
    assert [span.name for span in captured.requests] == ["chat llama"]


def test_every_span_is_kept_whatever_the_environment_says(monkeypatch) -> None:
    """A sampler in the environment does not make tests depend on chance, nor does the SDK's own switch."""
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "always_off")
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    with capture() as captured:
        record(captured, 0.5)
    assert len(captured.requests) == 1
    assert captured.metrics()["requests"][0]["value"] == 1
    assert os.environ["OTEL_SDK_DISABLED"] == "true"


def test_metrics_are_plain_dictionaries_that_add_up() -> None:
    """Looking at the metrics does not change them, and they can be read after the block."""
    with capture() as captured:
        record(captured, 0.5)
        assert captured.metrics()["requests"] == [
            {"attributes": {"route": "support"}, "unit": "", "value": 1},
        ]
        record(captured, 2.0)
        record(captured, 1.0, route="faq")
        assert captured.metrics() == captured.metrics()
    by_route = {point["attributes"]["route"]: point for point in captured.metrics()["duration"]}
    support = by_route["support"]
    assert (support["count"], support["sum"], support["min"], support["max"]) == (2, 2.5, 0.5, 2.0)
    assert support["unit"] == "s"
    assert sum(support["bucket_counts"]) == 2
    assert len(support["bucket_counts"]) == len(support["explicit_bounds"]) + 1
    assert by_route["faq"]["count"] == 1
    assert [point["value"] for point in captured.metrics()["requests"]] == [2, 1]


def test_log_records_are_kept() -> None:
    """Events that go through the Logs API, such as evaluation results, are captured."""
    with capture() as captured:
        captured.logger_provider.get_logger("traceai_vllm").emit(LogRecord(body="evaluated"))
    assert [entry.log_record.body for entry in captured.logs] == ["evaluated"]


def test_clear_forgets_everything_so_far() -> None:
    """After clear() only what comes later is there, metrics included."""
    with capture() as captured:
        record(captured, 0.5)
        captured.clear()
        assert (captured.spans, captured.logs, captured.metrics().get("requests", [])) == ([], [], [])
        record(captured, 2.0)
        assert len(captured.spans) == 1
        [point] = captured.metrics()["duration"]
        assert (point["count"], point["sum"]) == (1, 2.0)


def test_the_fixture_captures_for_one_test(tmp_path) -> None:
    """With the plugin named in conftest.py, a test asks for `traceai_spans` and gets a fresh capture."""
    (tmp_path / "conftest.py").write_text('pytest_plugins = ["traceai_vllm.testing"]\n')
    (tmp_path / "test_mine.py").write_text("""
import pytest
import traceai_vllm

@pytest.mark.parametrize("run", [1, 2])
def test_it(traceai_spans, run):
    assert traceai_vllm.VLLMInstrumentor().is_instrumented_by_opentelemetry
    assert traceai_spans.spans == []
    traceai_spans.tracer_provider.get_tracer("traceai_vllm").start_span("chat").end()
    assert len(traceai_spans.spans) == 1
""")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert "2 passed" in done.stdout, done.stdout + done.stderr


def test_capture_alone_needs_no_pytest() -> None:
    """Programs without pytest can import the module too."""
    script = "import sys; sys.modules['pytest'] = None; from traceai_vllm.testing import capture"
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)
