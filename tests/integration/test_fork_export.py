"""A process that forks after `instrument()`: parent and child export what is theirs, and nothing twice."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.support.otlp_receiver import OtlpReceiver

PROGRAM = """
import multiprocessing, os, sys
import traceai_vllm
traceai_vllm.instrument()
from opentelemetry import metrics, trace
tracer, counter = trace.get_tracer("traceai_vllm"), metrics.get_meter("traceai_vllm").create_counter("requests")

def work(name):
    with tracer.start_as_current_span(name):
        counter.add(1, {"who": name})

if sys.argv[1] == "work first":
    work("before")
child = multiprocessing.get_context("fork").Process(target=work, args=("child",))
child.start()
child.join()
assert child.exitcode == 0
work("parent")
"""


@pytest.mark.parametrize("when", ["fork first", "work first"])
def test_parent_and_child_export_their_own(when) -> None:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
    with OtlpReceiver() as receiver:
        environment = {**clean, "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.http_endpoint}
        subprocess.run([sys.executable, "-c", PROGRAM, when], env=environment, check=True, timeout=60)
        spans = receiver.spans(at_least=2)
        points = receiver.points("requests")
    expected = ["child", "parent"] if when == "fork first" else ["before", "child", "parent"]
    assert sorted(span.name for span in spans) == expected
    instances = {span.name: span.resource["service.instance.id"] for span in spans}
    assert instances["child"] != instances["parent"]
    latest = {(resource["service.instance.id"], p.attributes["who"]): p.value for resource, p in points}
    totals = {name: sum(v for (_, who), v in latest.items() if who == name) for name in expected}
    assert totals == dict.fromkeys(expected, 1)
