"""Providers are set up from the environment, and only where the application has set none."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import pytest

# Global providers can be set once in a process, so every scenario has a process of its own.
BEGIN = """
import json, logging, os, sys
from opentelemetry import _logs, metrics, trace
from traceai_vllm.telemetry import providers
messages = []
class Keep(logging.Handler):
    def emit(self, record):
        messages.append((record.levelname, record.getMessage()))
logging.getLogger("traceai_vllm").addHandler(Keep())
logging.getLogger("traceai_vllm").setLevel(logging.INFO)
logging.getLogger().addHandler(logging.NullHandler())
"""
NOWHERE = {f"OTEL_{signal}_EXPORTER": "none" for signal in ("TRACES", "METRICS", "LOGS")}


def run(script: str, **variables: str) -> str:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", BEGIN + script],
        env={**clean, **variables},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def result(expression: str, before: str = "", **variables: str) -> Any:
    """Run ``before``, configure, and return the value of an expression."""
    script = f"{before}\nconfigured = providers.configure()\nprint(json.dumps({expression}))"
    return json.loads(run(script, **variables).splitlines()[-1])


def test_a_process_without_any_set_up_gets_all_three_providers() -> None:
    """Where the application has set nothing, all three global providers are the SDK's, and ours."""
    expression = """[
        sorted(configured.owned),
        configured.tracer_provider is trace.get_tracer_provider(),
        configured.meter_provider is metrics.get_meter_provider(),
        configured.logger_provider is _logs.get_logger_provider(),
        [type(provider).__module__.startswith("opentelemetry.sdk.") for provider in (
            configured.tracer_provider, configured.meter_provider, configured.logger_provider)],
    ]"""
    assert result(expression, **NOWHERE) == [["logs", "metrics", "traces"], True, True, True, [True] * 3]


@pytest.mark.parametrize(
    ("before", "owned"),
    [
        (
            "from opentelemetry.sdk.trace import TracerProvider\n"
            "mine = TracerProvider(); trace.set_tracer_provider(mine)",
            ["logs", "metrics"],
        ),
        (
            "from opentelemetry.sdk.metrics import MeterProvider\n"
            "mine = MeterProvider(); metrics.set_meter_provider(mine)",
            ["logs", "traces"],
        ),
        (
            "from opentelemetry.sdk._logs import LoggerProvider\n"
            "mine = LoggerProvider(); _logs.set_logger_provider(mine)",
            ["metrics", "traces"],
        ),
        ("mine = trace.NoOpTracerProvider(); trace.set_tracer_provider(mine)", ["logs", "metrics"]),
        ("mine = metrics.NoOpMeterProvider(); metrics.set_meter_provider(mine)", ["logs", "traces"]),
    ],
    ids=["tracer", "meter", "logger", "no-op tracer", "no-op meter"],
)
def test_what_the_application_has_set_is_left_alone(before, owned) -> None:
    """A provider of the application stays, even one that does nothing, and is not ours to shut down."""
    expression = """[
        sorted(configured.owned),
        mine in (configured.tracer_provider, configured.meter_provider, configured.logger_provider),
        any("the application's own provider" in text for _, text in messages),
        configured.shutdown(),
    ]"""
    assert result(expression, before, **NOWHERE) == [owned, True, True, True]


@pytest.mark.parametrize("value", ["true", "TRUE"])
def test_a_disabled_sdk_stays_disabled(value) -> None:
    """OTEL_SDK_DISABLED=true sets up nothing, says so, and every call still works."""
    expression = """[
        sorted(configured.owned), trace.get_tracer("x").start_span("s").is_recording(),
        configured.force_flush(), configured.shutdown(), messages,
    ]"""
    message = "traceai-vllm sends no telemetry: OTEL_SDK_DISABLED=true"
    assert result(expression, OTEL_SDK_DISABLED=value) == [[], False, True, True, [["INFO", message]]]


@pytest.mark.parametrize(
    ("variables", "name"),
    [
        ({}, "vllm"),
        ({"OTEL_SERVICE_NAME": "chat"}, "chat"),
        ({"OTEL_RESOURCE_ATTRIBUTES": "service.name=chat,team=search"}, "chat"),
        ({"OTEL_SERVICE_NAME": "a", "OTEL_RESOURCE_ATTRIBUTES": "service.name=b"}, "a"),
        ({"OTEL_RESOURCE_ATTRIBUTES": "team=search"}, "vllm"),
    ],
)
def test_the_service_name_comes_from_the_environment_first(variables, name) -> None:
    """All signals share one resource, named by the variables, or else by the fallback."""
    expression = """[
        configured.tracer_provider.resource.attributes["service.name"],
        configured.logger_provider.resource.attributes["service.name"],
        configured.tracer_provider.resource.attributes.get("team"),
    ]"""
    team = "search" if "team=search" in str(variables) else None
    assert result(expression, **NOWHERE, **variables) == [name, name, team]


def test_the_fallback_name_can_be_chosen() -> None:
    """The caller may say what the service is called when nobody else does."""
    script = """
configured = providers.configure(service_name_fallback="gateway")
print(configured.tracer_provider.resource.attributes["service.name"])
"""
    assert run(script, **NOWHERE) == "gateway\n"


def test_the_sdk_reads_its_own_variables() -> None:
    """Samplers, limits and intervals are the SDK's business, and work as its documentation says."""
    expression = """[
        trace.get_tracer("x").start_span("s").is_recording(),
        configured.tracer_provider.sampler.get_description(),
    ]"""
    assert result(expression, **NOWHERE, OTEL_TRACES_SAMPLER="always_off") == [False, "AlwaysOffSampler"]
    expression = """len(trace.get_tracer("x").start_span("s", attributes={"a": 1, "b": 2, "c": 3}).attributes)"""
    assert result(expression, **NOWHERE, OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT="2") == 2


@pytest.mark.parametrize(
    ("variable", "off"),
    [("OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", "traces"), ("OTEL_METRIC_EXPORT_INTERVAL", "metrics")],
)
def test_a_variable_that_the_sdk_refuses_costs_only_its_signal(variable, off) -> None:
    """Where the SDK raises, the signal is off with a warning, and the others are on."""
    expression = "[sorted(configured.owned), [text for level, text in messages if level == 'WARNING']]"
    variables = {**NOWHERE, "OTEL_METRICS_EXPORTER": "console", variable: "-7"}
    owned, warnings = result(expression, **variables)
    assert owned == sorted({"traces", "metrics", "logs"} - {off})
    assert len(warnings) == 1
    assert warnings[0].startswith(f"The OTEL_* variables for {off} cannot be used")
    assert f"{off} are off. Your program is not affected." in warnings[0]


def test_an_exporter_that_cannot_be_used_leaves_a_provider_without_one() -> None:
    """A wrong exporter name is a warning; spans still have ids and can go to the local store."""
    expression = """[
        sorted(configured.owned),
        trace.get_tracer("x").start_span("s").get_span_context().is_valid,
        [text.split(":")[0] for level, text in messages if level == "WARNING"],
    ]"""
    variables = {**NOWHERE, "OTEL_TRACES_EXPORTER": "otpl"}
    assert result(expression, **variables) == [
        ["logs", "metrics", "traces"],
        True,
        ["OTEL_TRACES_EXPORTER=otpl"],
    ]


def test_a_second_call_changes_nothing_and_says_nothing() -> None:
    """Configuring again returns what is there; where telemetry goes is logged once."""
    expression = "[providers.configure() is configured, messages]"
    variables = {**NOWHERE, "OTEL_TRACES_EXPORTER": "otlp", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318"}
    message = "traceai-vllm sends traces -> otlp (http://c:4318/v1/traces); metrics -> nowhere; logs -> nowhere"
    assert result(expression, **variables) == [True, [["INFO", message]]]


def test_a_seed_does_not_repeat_the_ids_of_spans() -> None:
    """vLLM seeds Python's random numbers when its engine is in this process: two runs must not share their ids."""
    drawn = result(
        """[format(span.get_span_context().trace_id, "032x") for span in spans]""",
        before="""
import random
tracer = trace.get_tracer("test")
class Spans:
    def __iter__(self):
        for _ in range(2):
            random.seed(0)
            yield tracer.start_span("request")
spans = Spans()
""",
        **NOWHERE,
    )
    assert len(set(drawn)) == 2
    assert "0" * 32 not in drawn


def test_a_forked_child_draws_ids_of_its_own() -> None:
    """A child has its parent's generator, and must not go on from where its parent is."""
    printed = run(
        """
from traceai_vllm.telemetry.ids import OwnIds
ids = OwnIds()
child = os.fork()
if child:
    os.waitpid(child, 0)
print(ids.generate_trace_id(), ids.generate_span_id(), flush=True)
if not child:
    os._exit(0)
"""
    )
    assert len(set(printed.split())) == 4


def test_what_is_queued_is_sent_when_the_process_ends() -> None:
    """A program that just ends loses no span and no measurement."""
    script = """
providers.configure()
trace.get_tracer("x").start_span("last words").end()
metrics.get_meter("x").create_counter("last.count").add(1)
"""
    printed = run(script, **NOWHERE | {"OTEL_TRACES_EXPORTER": "console", "OTEL_METRICS_EXPORTER": "console"})
    assert '"name": "last words"' in printed
    assert '"name": "last.count"' in printed


def test_flush_and_shutdown_send_what_is_queued() -> None:
    """Flushing sends at once; after shutdown nothing more is sent and nothing breaks."""
    script = """
configured = providers.configure()
tracer = trace.get_tracer("x")
tracer.start_span("first").end()
print("flushed", configured.force_flush(20_000))
tracer.start_span("second").end()
print("shut down", configured.shutdown(20_000), configured.shutdown(20_000))
logging.disable()
tracer.start_span("third").end()
"""
    printed = run(script, **NOWHERE | {"OTEL_TRACES_EXPORTER": "console"})
    names = [line for line in printed.splitlines() if line.startswith(("flushed", "shut", '    "name"'))]
    assert names == ['    "name": "first",', "flushed True", '    "name": "second",', "shut down True True"]


def test_a_forked_child_sends_what_it_queued_too() -> None:
    """A worker that is forked after the set-up flushes its own spans when it ends."""
    script = """
import warnings
warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12: forks beside threads
providers.configure()
child = os.fork()
trace.get_tracer("x").start_span("parent" if child else "child").end()
if child:
    assert os.waitpid(child, 0)[1] == 0
"""
    # Only the flush at exit can have printed them: the batch processor's own schedule comes too late.
    late = {"OTEL_TRACES_EXPORTER": "console", "OTEL_BSP_SCHEDULE_DELAY": "600000"}
    printed = run(script, **NOWHERE | late)
    assert printed.count('"name": "child"') == 1
    assert printed.count('"name": "parent"') == 1
