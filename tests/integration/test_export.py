"""The one line in a user's own program: what it exports over OTLP is what it wrote to the store."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.trace import format_span_id, format_trace_id

import traceai_vllm
from tests.integration.conftest import Traced
from tests.integration.test_offline import params
from tests.support.otlp_receiver import OtlpReceiver, ReceivedSpan
from tests.support.rotel_receiver import RotelReceiver
from traceai_vllm.store import check, connect

PROGRAM = Path(__file__).parent / "programs" / "one_line.py"
Receiver = Callable[[], AbstractContextManager[Any]]
REQUEST_METRICS = {
    "gen_ai.server.request.duration",
    "gen_ai.server.time_to_first_token",
    "gen_ai.server.time_per_output_token",
    "gen_ai.client.token.usage",
}


def run_program(where: str, model: str, directory: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
    command = [sys.executable, str(PROGRAM), where, model, str(directory / "store"), str(directory / "answers.json")]
    result = subprocess.run(
        command, env={**clean, **environment}, capture_output=True, text=True, timeout=300, check=False
    )
    assert result.returncode == 0, result.stderr[-4000:]
    return result


def stored(directory: Path) -> dict[str, dict[str, Any]]:
    connection = connect(directory)
    rows = connection.sql(
        "SELECT span_id, trace_id, parent_span_id, name, start_time_unix_nano, end_time_unix_nano, attributes"
        " FROM spans WHERE scope = 'traceai_vllm'"
    )
    return {row[0]: dict(zip(rows.columns, row, strict=True)) for row in rows.fetchall()}


def ours(spans: list[ReceivedSpan]) -> list[ReceivedSpan]:
    # vLLM sends spans about its own start-up to the global provider, too.
    return [span for span in spans if span.scope == "traceai_vllm"]


def normal(value: Any) -> Any:
    return list(value) if isinstance(value, (list, tuple)) else value


def assert_same(received: list[ReceivedSpan], store: Path) -> None:
    """Every span arrived once, and is in the store with the same ids, times and attributes."""
    assert check(store).problems == ()
    in_store = stored(store)
    assert len(received) == len({span.span_id for span in received}) == len(in_store)
    for span in received:
        row = in_store[span.span_id]
        assert (span.trace_id, span.parent_span_id or None) == (row["trace_id"], row["parent_span_id"])
        assert (span.start_time_unix_nano, span.end_time_unix_nano) == (
            row["start_time_unix_nano"],
            row["end_time_unix_nano"],
        )
        assert {key: normal(value) for key, value in span.attributes.items()} == json.loads(row["attributes"])


@pytest.mark.parametrize(
    ("where", "in_process", "receiver", "protocol"),
    [
        ("before_import", "0", OtlpReceiver, "http/protobuf"),
        ("after_import", "0", OtlpReceiver, "grpc"),
        ("after_engine", "1", RotelReceiver, "http/protobuf"),
    ],
    ids=["before the import, http", "after the import, grpc", "after the engine (a process of its own), rotel"],
)
def test_one_line_exports_every_request_wherever_it_stands(
    one_layer_model: str, tmp_path: Path, where: str, in_process: str, receiver: Receiver, protocol: str
) -> None:
    """`instrument()` before or after `import vllm`, or after the engine exists: the same spans and metrics arrive."""
    with receiver() as collector:
        endpoint = collector.grpc_endpoint if protocol == "grpc" else collector.http_endpoint
        run_program(
            where,
            one_layer_model,
            tmp_path,
            VLLM_ENABLE_V1_MULTIPROCESSING=in_process,
            OTEL_EXPORTER_OTLP_ENDPOINT=endpoint,
            OTEL_EXPORTER_OTLP_PROTOCOL=protocol,
        )
        # The program has ended and sent everything; a receiver's log may lag behind it.
        received = ours(collector.spans(at_least=5))
        if isinstance(collector, OtlpReceiver):  # the other one tells of spans only
            assert collector.metric_names(at_least=4) >= REQUEST_METRICS

    assert_same(received, tmp_path / "store")
    prompts = json.loads((tmp_path / "answers.json").read_text())
    chats = [span for span in received if span.attributes.get("gen_ai.operation.name") == "chat"]
    assert {s.attributes["gen_ai.response.id"]: s.attributes["gen_ai.usage.input_tokens"] for s in chats} == prompts
    assert {span.attributes["route"] for span in chats} == {"support"}
    assert {span.attributes["traceai.tag.naïve"] for span in chats} == {"käse ☃"}
    assert {span.resource["service.name"] for span in received} == {"vllm"}


def test_a_dead_collector_costs_the_program_nothing_but_its_telemetry(one_layer_model: str, tmp_path: Path) -> None:
    """Nobody listens at the endpoint: the program ends well, and the store has every span all the same."""
    run_program(
        "before_import",
        one_layer_model,
        tmp_path,
        VLLM_ENABLE_V1_MULTIPROCESSING="0",
        OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:9",
    )

    assert len(stored(tmp_path / "store")) == 5


@pytest.mark.parametrize("receiver", [OtlpReceiver, RotelReceiver], ids=["protobuf receiver", "rotel"])
def test_what_a_receiver_stored_is_what_the_sdk_had(llm: Any, receiver: Receiver) -> None:
    """Name, ids, status and every attribute with its type: the receiver's spans equal the in-memory exporter's."""
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    with receiver() as collector:
        seen = Traced()
        exporter = OTLPSpanExporter(endpoint=f"{collector.http_endpoint}/v1/traces")
        seen.tracer_provider.add_span_processor(BatchSpanProcessor(exporter))
        seen.instrument()
        try:
            with traceai_vllm.tags(route="support", extra={"share": 0.5, "vip": True}):
                llm.generate(["a", "b c d"], params(n=2, temperature=1.0), use_tqdm=False)
            with pytest.raises(Exception, match="out-of-vocab"):
                llm.llm_engine.add_request("mine", "hello", params(logit_bias={10**9: 1.0}))
        finally:
            traceai_vllm.uninstrument()
        seen.tracer_provider.force_flush()
        received = {span.span_id: span for span in collector.spans(at_least=4)}
        seen.tracer_provider.shutdown()

    assert len(received) == len(seen.spans) == 4
    for span in seen.spans:
        twin = received[format_span_id(span.context.span_id)]
        assert (twin.name, twin.status) == (span.name, span.status.status_code.name)
        assert twin.trace_id == format_trace_id(span.context.trace_id)
        assert {key: normal(value) for key, value in twin.attributes.items()} == {
            key: normal(value) for key, value in (span.attributes or {}).items()
        }
