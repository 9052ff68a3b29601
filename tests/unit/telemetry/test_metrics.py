"""From a record to measurements: names, boundaries and dimensions of the conventions, and caps that hold."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry import context as otel_context

from tests.support.records import finished_record, in_memory_metrics, in_memory_tracing, points
from traceai_vllm import tags
from traceai_vllm.telemetry import metrics, semconv
from traceai_vllm.telemetry.metrics import CappedDimension, RequestMetrics
from traceai_vllm.telemetry.spans import SpanBuilder


def recorded(*records: Any) -> dict[str, list[Any]]:
    provider, reader = in_memory_metrics()
    metrics = RequestMetrics(provider.get_meter("test"))
    for record in records:
        metrics.record(record, None)
    return points(reader)


def test_a_finished_request_is_measured_under_the_conventions_names() -> None:
    """Duration, time to first token, time per output token and tokens, with variant, route and cohort on each point."""
    with tags(route="support", traffic_cohort="mirrored", prompt_version="v3"):
        record = finished_record(context=otel_context.get_current())

    found = recorded(record)

    shared = {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "vllm",
        "gen_ai.request.model": "llama-3.1-70b",
        "model_variant": "llama-3.1-70b-awq",
        "quantization_format": "int4",
        "route": "support",
        "traffic_cohort": "mirrored",
    }
    for name, value in (
        ("gen_ai.server.request.duration", 2.0),
        ("gen_ai.server.time_to_first_token", 0.5),
        ("gen_ai.server.time_per_output_token", 1.5 / 4),
    ):
        (point,) = found[name]
        assert (point.sum, point.count) == (pytest.approx(value), 1)
        assert dict(point.attributes) == shared
    usage = {point.attributes["gen_ai.token.type"]: point for point in found["gen_ai.client.token.usage"]}
    assert {kind: point.sum for kind, point in usage.items()} == {"input": 7, "output": 5}
    assert all(dict(p.attributes) == {**shared, "gen_ai.token.type": kind} for kind, p in usage.items())


@pytest.mark.parametrize(
    "metric",
    [m for m in semconv.METRICS if m.name.startswith("gen_ai.") and m.instrument == "histogram"],
    ids=lambda m: m.name,
)
def test_histograms_have_the_conventions_boundaries(metric: semconv.Metric) -> None:
    """Buckets are the GenAI conventions', not the SDK's default ones, which end at 10 seconds of milliseconds."""
    (point, *_) = recorded(finished_record())[metric.name]

    assert tuple(point.explicit_bounds) == metric.boundaries


def test_an_error_is_a_dimension_of_the_duration_only() -> None:
    """Error rates come from the duration's count; tokens are not split by error; the times are of successes alone."""
    found = recorded(finished_record(error_type="cancelled"))

    assert found["gen_ai.server.request.duration"][0].attributes["error.type"] == "cancelled"
    assert all("error.type" not in point.attributes for point in found["gen_ai.client.token.usage"])
    assert not {"gen_ai.server.time_to_first_token", "gen_ai.server.time_per_output_token"} & found.keys()


@pytest.mark.parametrize(
    "changes",
    [{"output_tokens": 1}, {"time_to_first_token": None}, {"choices": 2}],
    ids=["one token", "no first token", "several answers"],
)
def test_time_per_output_token_is_left_out_where_it_means_nothing(changes: dict[str, Any]) -> None:
    """One token has no time between tokens, and parallel answers have no single one."""
    assert "gen_ai.server.time_per_output_token" not in recorded(finished_record(**changes))


def test_an_embedding_counts_input_tokens_only() -> None:
    """Pooling requests generate nothing."""
    found = recorded(finished_record(operation="embeddings", output_tokens=None, time_to_first_token=None))

    assert [p.attributes["gen_ai.token.type"] for p in found["gen_ai.client.token.usage"]] == ["input"]


def test_routes_past_the_cap_become_other_and_are_counted() -> None:
    """However many routes callers invent, the number of series stays bounded, no request is lost, and it is said."""
    records = []
    for i in range(130):
        with tags(route=f"route-{i}"):
            records.append(finished_record(context=otel_context.get_current()))

    found = recorded(*records)

    durations = found["gen_ai.server.request.duration"]
    assert len(durations) == 101
    assert sum(p.count for p in durations) == 130
    assert {p.attributes["route"]: p.count for p in durations}["other"] == 30
    capped = {p.attributes["dimension"]: p.value for p in found["traceai.metrics.capped_values"]}
    assert capped == {"route": 30, "traffic_cohort": 0}


def test_capped_values_are_still_counted_after_a_second_instrument() -> None:
    """With the same provider, the SDK goes on with the callback that it knows."""
    provider, reader = in_memory_metrics()
    for made in (105, 110):
        metrics = RequestMetrics(provider.get_meter("test"))
        for number in range(made):
            with tags(route=f"route-{number}"):
                metrics.record(finished_record(context=otel_context.get_current()), None)
    capped = {p.attributes["dimension"]: p.value for p in points(reader)["traceai.metrics.capped_values"]}
    assert capped["route"] == 5 + 10


@given(st.lists(st.text(max_size=3)), st.integers(min_value=1, max_value=5))
def test_a_capped_dimension_keeps_its_first_values_and_counts_the_rest(values: list[str], limit: int) -> None:
    """At most `limit` values pass; each value is treated the same way every time."""
    counts: Counter[str] = Counter()
    dimension = CappedDimension(limit, counts, "route")

    results = [dimension(value) for value in values]

    kept = list(dict.fromkeys(values))[:limit]
    assert results == [value if value in kept else "other" for value in values]
    assert counts["route"] == sum(value not in kept for value in values)


def test_points_carry_the_requests_span_as_exemplar() -> None:
    """From a slow bucket one gets to the trace of a request that fell into it."""
    tracing, _ = in_memory_tracing()
    provider, reader = in_memory_metrics()
    record = finished_record()
    span = SpanBuilder(tracing.get_tracer("test")).emit(record)

    RequestMetrics(provider.get_meter("test")).record(record, span)

    (point,) = points(reader)["gen_ai.server.request.duration"]
    assert [e.trace_id for e in point.exemplars] == [span.get_span_context().trace_id]


def test_where_histograms_take_no_context_requests_are_measured_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before opentelemetry-api 1.28 they do not: vLLM 0.8.5 holds it below 1.27, and had no metrics of ours at all."""

    made: list[float] = []

    class OldHistogram:
        def record(self, amount: float, attributes: Any = None) -> None:
            made.append(amount)

    monkeypatch.setattr(metrics, "_TAKES_CONTEXT", False)
    monkeypatch.setattr(metrics, "histogram", lambda *_: OldHistogram())

    recorded(finished_record())

    assert made == [0.5, pytest.approx(1.5 / 4), 7, 5, 2.0]
