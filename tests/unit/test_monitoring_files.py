"""What `deploy/` has for a collector, Prometheus and Grafana: no test starts those, but each name in it is checked."""

from __future__ import annotations

import json
import re
import runpy
from pathlib import Path
from typing import Any

import promql_parser
import pytest
import yaml
from grafana_foundation_sdk.models.dashboard import Dashboard
from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.metrics import Meter, Observation
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.trace import TracerProvider
from prometheus_client import REGISTRY, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from traceai_vllm.gateway import GatewayConfig, create_app, durations, names
from traceai_vllm.gateway.measures import prometheus
from traceai_vllm.telemetry import semconv
from traceai_vllm.telemetry.semconv import Metric

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
DASHBOARD = DEPLOY / "grafana" / "traceai-vllm.json"
# Labels that are no attributes of spans.
LABELS = {"__name__", "le", "outcome", "reason", "signal", "where", "dimension", "passed", "gen_ai_token_type"}
CONFIG = GatewayConfig.model_validate(
    {"servers": {"a": {"url": "http://127.0.0.1:1"}}, "routes": [{"name": "all", "baseline": "a"}]}
)
METRICS = (
    *semconv.METRICS,
    *semconv.ENGINE_METRICS,
    durations.OPERATION_DURATION,
    durations.TIME_TO_FIRST_CHUNK,
)


def dashboard_queries() -> list[str]:
    panels = json.loads(DASHBOARD.read_text())["panels"]
    return [target["expr"] for panel in panels for target in panel.get("targets", ())]


def alert_queries() -> list[str]:
    groups = yaml.safe_load((DEPLOY / "prometheus" / "alerts.yml").read_text())["groups"]
    return [rule["expr"] for group in groups for rule in group["rules"]]


QUERIES = [*dashboard_queries(), *alert_queries()]


def record(meter: Meter, metric: Metric) -> None:
    """Measure something once, on an instrument of the metric's kind."""
    settings: Any = {"unit": metric.unit}
    if metric.instrument == "histogram":
        meter.create_histogram(metric.name, **settings).record(1)
    elif metric.instrument == "counter":
        meter.create_counter(metric.name, **settings).add(1)
    else:
        kind = metric.instrument.replace(" ", "_").replace("-", "_")
        getattr(meter, f"create_{kind}")(metric.name, [lambda options: [Observation(1)]], **settings)


@pytest.fixture(scope="module")
def known_series() -> set[str]:
    """What OpenTelemetry's Prometheus exporter and the gateway's operators' port call our metrics."""
    reader = PrometheusMetricReader()
    provider = MeterProvider(metric_readers=[reader], shutdown_on_exit=False)
    for metric in METRICS:
        record(provider.get_meter("test"), metric)
    exported = text_string_to_metric_families(generate_latest(REGISTRY).decode())
    provider.shutdown()
    app = create_app(
        CONFIG, tracer_provider=TracerProvider(), meter_provider=provider, logger_provider=LoggerProvider()
    )
    of_gateway = re.findall(r"# TYPE (\S+)", prometheus(app.state.runtime))
    return {sample.name for family in exported for sample in family.samples} | {*of_gateway}


def parsed(query: str) -> list[Any]:
    """Return every part of a query, with Grafana's variables filled in."""
    text = query.replace("$__rate_interval", "5m").replace("$variant", ".*").replace("$route", ".*")
    parts: list[Any] = []
    promql_parser.walk(promql_parser.parse(text), parts.append)
    return parts


@pytest.mark.parametrize("query", QUERIES)
def test_a_query_asks_for_series_that_there_are(query: str, known_series: set[str]) -> None:
    """A metric that is renamed takes its diagrams and alarms along."""
    selectors = [part for part in parsed(query) if isinstance(part, promql_parser.VectorSelector)]
    asked = [
        selector.name or next(m.value for m in selector.matchers.matchers if m.name == "__name__")
        for selector in selectors
    ]

    assert asked
    assert [name for name in asked if not any(re.fullmatch(name, known) for known in known_series)] == []


@pytest.mark.parametrize("query", QUERIES)
def test_a_query_asks_for_labels_that_there_are(query: str) -> None:
    """A label is an attribute of ours with `_` for `.`, or one of the books'."""
    attributes = (*semconv.ATTRIBUTES, *semconv.METRIC_ATTRIBUTES, *names.ATTRIBUTES)
    known = LABELS | {attribute.key.replace(".", "_") for attribute in attributes}
    asked: set[str] = set()
    for part in parsed(query):
        if isinstance(part, promql_parser.VectorSelector):
            asked |= {matcher.name for matcher in part.matchers.matchers}
        elif isinstance(part, promql_parser.AggregateExpr) and part.modifier is not None:
            asked |= {*part.modifier.labels}

    assert asked - known == set()


def test_the_dashboard_is_what_its_script_writes() -> None:
    """Nobody edits it by hand; and Grafana's own models take it back as it is."""
    written = runpy.run_path(str(ROOT / "scripts" / "write_dashboard.py"))["page"]()

    assert DASHBOARD.read_text() == written
    assert len(Dashboard.from_json(json.loads(DASHBOARD.read_text())).panels or ()) > 20


@pytest.mark.parametrize("files", [["collector.yaml"], ["collector.yaml", "tail-sampling.yaml"]], ids=len)
def test_the_collectors_pipelines_use_what_is_declared(files: list[str]) -> None:
    """A collector refuses to start with a component that is used and not configured."""
    merged: dict[str, Any] = {}
    for file in files:
        merge(merged, yaml.safe_load((DEPLOY / "collector" / file).read_text()))

    for pipeline in merged["service"]["pipelines"].values():
        for kind in ("receivers", "processors", "exporters"):
            assert [name for name in pipeline[kind] if name not in merged[kind]] == []
        # What has to be first and last (the collector's own advice).
        assert pipeline["processors"][0] == "memory_limiter"
        assert pipeline["processors"][-1] == "batch"


def merge(into: dict[str, Any], other: dict[str, Any]) -> None:
    """Merge a configuration into another as a collector does: maps are merged, all else is replaced."""
    for key, value in other.items():
        if isinstance(value, dict) and isinstance(into.get(key), dict):
            merge(into[key], value)
        else:
            into[key] = value


def test_a_collector_waits_longer_than_a_mirror() -> None:
    """A trace is judged when the candidate's answer is there, or the pair would be taken apart."""
    settings = yaml.safe_load((DEPLOY / "collector" / "tail-sampling.yaml").read_text())
    wait = settings["processors"]["tail_sampling"]["decision_wait"]

    assert float(wait.removesuffix("s")) > CONFIG.mirror.timeout_s + 5
