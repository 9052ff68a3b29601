"""Events and measurements of evaluations, with the OpenTelemetry that is installed."""

from __future__ import annotations

from typing import Any

import pytest
from opentelemetry._logs import NoOpLogger
from opentelemetry.metrics import NoOpMeter

from traceai_vllm.evals.pipeline.reporting import Reporter
from traceai_vllm.telemetry import metrics, semconv


def test_where_histograms_take_no_boundaries_evaluators_run_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before opentelemetry-api 1.30 they do not, and vLLM 0.8.5 holds it below 1.27: no span was ever scored there."""
    made: list[str] = []

    class OldMeter(NoOpMeter):
        def create_histogram(self, name: str, unit: str = "", description: str = "") -> Any:
            made.append(name)
            return super().create_histogram(name, unit, description)

    monkeypatch.setattr(metrics, "_TAKES_BOUNDARIES", False)

    Reporter(NoOpLogger("test"), OldMeter("test"), explain=False)

    assert made == [semconv.EVALUATION_SCORE.name]
