"""`traceai-vllm replay`: recorded requests asked again of a candidate, both answers as pairs in a store."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor

from tests.support.gateway import GatewayUnderTest
from tests.support.stub_upstream import StubUpstream
from traceai_vllm.cli.main import main
from traceai_vllm.gateway.options import Telemetry
from traceai_vllm.gateway.scoring import attach
from traceai_vllm.store import SpanStoreExporter, connect

TOOL = {"type": "function", "function": {"name": "look_up", "description": "d", "parameters": {"type": "object"}}}
CALL = {"id": "c1", "type": "function", "function": {"name": "look_up", "arguments": '{"q": "é"}'}}
BODIES: list[dict[str, Any]] = [
    {"messages": [{"role": "user", "content": "hi"}], "temperature": 0.5, "max_tokens": 7, "seed": 3},
    {
        "messages": [
            {"role": "system", "content": "be kind"},
            {"role": "user", "content": [{"type": "text", "text": "two "}, {"type": "text", "text": "parts"}]},
            {"role": "assistant", "content": "", "tool_calls": [CALL]},
            {"role": "tool", "tool_call_id": "c1", "content": "found"},
        ],
        "tools": [TOOL],
        "tool_choice": {"type": "function", "function": {"name": "look_up"}},
        "documents": [{"text": "a paragraph"}],
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": "found", "schema": {"type": "object", "required": ["é"]}, "strict": True},
        },
        "stop": ["x"],
    },
    {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:image/png;x"}}]}]},
]


@pytest.fixture
def baseline() -> Iterator[StubUpstream]:
    with StubUpstream(variant="b-") as stub:
        yield stub


@pytest.fixture
def recorded(baseline: StubUpstream, tmp_path: Path) -> Path:
    """A store with the requests as the gateway records them: two that can be replayed, and one with a picture."""
    store = tmp_path / "spans"
    config = {
        "servers": {"one": {"url": baseline.url, "model_variant": "m-bf16"}},
        "routes": [{"name": "support", "baseline": "one", "intent": "billing"}],
        "telemetry": {"content": "SPAN_ONLY"},
    }
    with GatewayUnderTest(config) as gateway:
        attach(gateway.runtime, Telemetry(store=str(store)), gateway.provider)
        for body in BODIES:
            url = gateway.url + "/v1/chat/completions"
            assert httpx.post(url, json={"model": "m", **body}, headers={"x-traffic-cohort": "eu"}).status_code == 200
        gateway.spans(at_least=2 * len(BODIES))
    gateway.provider.shutdown()
    return store


def pairs(store: Path) -> list[dict[str, Any]]:
    with connect(store) as connection:
        rows = connection.execute("SELECT attributes FROM spans WHERE kind = 'CLIENT'").fetchall()
    return [json.loads(row) for (row,) in rows]


def test_a_replay_asks_the_same_and_makes_pairs(
    recorded: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The candidate gets messages, tools, documents and parameters as users sent them; a picture is left out, named."""
    into = tmp_path / "pairs"
    with StubUpstream(variant="c-") as candidate:
        given = ["replay", str(recorded), "--to", candidate.url, "--into", str(into), "--rate", "1000"]
        assert main([*given, "--variant", "m-int4", "--format", "int4"]) == 0
        asked = [seen.json() for seen in candidate.seen]
    told = capsys.readouterr().out
    assert "2 of 3 recorded requests answered now" in told
    assert "1 cannot be replayed" in told
    assert asked[0] == {"model": "m", **BODIES[0]}
    assert asked[1] == {"model": "m", **BODIES[1]}
    found = pairs(into)
    by_arm = {arm: [a for a in found if a["traceai.pair.arm"] == arm] for arm in ("baseline", "candidate")}
    assert [len(arms) for arms in by_arm.values()] == [2, 2]
    for name in ("traceai.pair.id", "traceai.pair.prompt_hash", "traffic_cohort", "traceai.route.intent", "route"):
        assert {a[name] for a in by_arm["baseline"]} == {a[name] for a in by_arm["candidate"]}
    assert {a["model_variant"] for a in by_arm["candidate"]} == {"m-int4"}
    assert all("b-" in a["gen_ai.output.messages"] for a in by_arm["baseline"])
    assert all("c-" in a["gen_ai.output.messages"] for a in by_arm["candidate"])


def test_a_replay_goes_on_where_it_was(recorded: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What failed is asked again, what was answered is not."""
    into = ["--into", str(tmp_path / "pairs"), "--rate", "1000"]
    with StubUpstream(fault="500") as candidate:
        assert main(["replay", str(recorded), "--to", candidate.url, *into]) == 1
    with StubUpstream() as candidate:
        assert main(["replay", str(recorded), "--to", candidate.url, *into, "--limit", "1"]) == 0
        assert main(["replay", str(recorded), "--to", candidate.url, *into]) == 0
        assert main(["replay", str(recorded), "--to", candidate.url, *into]) == 0
        assert len(candidate.seen) == 2
    assert "2 had been answered before" in capsys.readouterr().out


def test_what_failed_counts_as_missing_until_it_is_answered(
    recorded: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """An answer of the next run takes its place: a candidate that was not up yet is not worse for it."""
    into, policy = tmp_path / "pairs", tmp_path / "policy.yaml"
    policy.write_text("version: 1\nmeasures: {errors: {margin: 0.05}}\n")

    def books() -> dict[str, Any]:
        capsys.readouterr()
        main(["gate", str(into), "--policy", str(policy), "--format", "json"])
        told = json.loads(capsys.readouterr().out)
        [all_traffic] = [c for c in told["cells"] if c["measure"] == "errors" and not c["scope"]]
        return {**told["books"], "errors": all_traffic["candidate"]}

    with StubUpstream(fault="500") as candidate:
        main(["replay", str(recorded), "--to", candidate.url, "--into", str(into)])
    failed = books()
    with StubUpstream() as candidate:
        main(["replay", str(recorded), "--to", candidate.url, "--into", str(into)])
    answered = books()
    assert failed["unpaired"] == {"no answer of the candidate": 2}
    assert failed["over_limit"]
    found = [answered[name] for name in ("clean_pairs", "unpaired", "repeated_answers", "errors")]
    assert found == [2, {}, 0, 0.0]


def record(store: Path, asked: list[tuple[str, bytes]], *, mirrored: bool = False) -> set[str | None]:
    """Ask a gateway that keeps what is said, and return the hashes of the prompts that it noted."""
    with StubUpstream(variant="b-") as stub, StubUpstream() as mirror:
        route = {"name": "support", "baseline": "one", **({"candidate": "two"} if mirrored else {})}
        config = {
            "servers": {"one": {"url": stub.url}, "two": {"url": mirror.url}},
            "routes": [route],
            "telemetry": {"content": "SPAN_ONLY"},
        }
        with GatewayUnderTest(config) as gateway:
            attach(gateway.runtime, Telemetry(store=str(store)), gateway.provider)
            for path, body in asked:
                headers = {"content-type": "application/json"}
                assert httpx.post(gateway.url + path, content=body, headers=headers).status_code == 200
            gateway.settled()
            gateway.spans(at_least=(3 if mirrored else 2) * len(asked))
        gateway.provider.shutdown()
    return {span.get("traceai.pair.prompt_hash") for span in pairs(store)}


def test_a_bare_prompt_is_asked_as_one(tmp_path: Path) -> None:
    """With a chat template round it, it would be another question."""
    record(tmp_path / "spans", [("/v1/completions", b'{"model": "m", "prompt": "Once upon a time", "max_tokens": 5}')])

    with StubUpstream() as candidate:
        assert main(["replay", str(tmp_path / "spans"), "--to", candidate.url, "--into", str(tmp_path / "pairs")]) == 0
        asked = [(seen.path, seen.json()) for seen in candidate.seen]

    assert asked == [("/v1/completions", {"model": "m", "prompt": "Once upon a time", "max_tokens": 5})]


def test_context_in_marked_parts_is_asked_as_it_was(tmp_path: Path) -> None:
    """Parts are not put together: a server puts a line's end between them. The mark says what is context."""
    parts = [
        {"type": "text", "text": "The wait is 90 days.", "traceai": "context"},
        {"type": "text", "text": "How long?"},
    ]
    chat = {"model": "m", "messages": [{"role": "user", "content": parts}, {"role": "user", "content": parts[:1]}]}
    record(tmp_path / "spans", [("/v1/chat/completions", json.dumps(chat).encode())], mirrored=True)

    with StubUpstream() as candidate:
        assert main(["replay", str(tmp_path / "spans"), "--to", candidate.url, "--into", str(tmp_path / "pairs")]) == 0
        assert [seen.json() for seen in candidate.seen] == [chat]


def test_a_replays_answer_is_judged_by_what_the_first_was(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`tags(context=..., schema=..., expected=...)` are never sent to a server; evaluators need them for both arms."""
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(SpanStoreExporter(tmp_path / "spans")))
    said = [{"role": "assistant", "parts": [{"type": "text", "content": "90 days."}], "finish_reason": "stop"}]
    given = {
        "gen_ai.input.messages": [{"role": "user", "parts": [{"type": "text", "content": "How long?"}]}],
        "gen_ai.output.messages": said,
        "traceai.context": [{"source": "tags", "content": "The wait is 90 days."}],
        "traceai.output_schema": {"type": "object"},
        "traceai.expected_calls": [],
    }
    attributes = {"gen_ai.operation.name": "chat", "gen_ai.request.model": "m"}
    attributes |= {key: json.dumps(value) for key, value in given.items()}
    provider.get_tracer("engine").start_span("chat m", attributes=attributes).end()
    provider.shutdown()
    into = str(tmp_path / "pairs")

    with StubUpstream() as candidate:
        assert main(["replay", str(tmp_path / "spans"), "--to", candidate.url, "--into", into]) == 0
    names = ("Groundedness", "JSONValidation", "ToolSelectionAccuracy")
    assert main(["evaluate", into, "--evaluators", *names]) == 0

    told = capsys.readouterr().out
    assert [f"{name:24} 2 scored" in told for name in names] == [True] * 3, told


def test_a_prompt_that_was_not_recorded_whole_is_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Where the gateway noted a prompt's hash, what is asked again has it too, however a client wrote its JSON."""
    chat = {"model": "m", "messages": [{"role": "user", "content": "é?"}], "tools": [TOOL]}
    lost = {**chat, "chat_template_kwargs": {"enable_thinking": False}}
    bodies = [
        json.dumps(chat).encode(),
        json.dumps(chat, ensure_ascii=False).encode(),
        json.dumps(chat, ensure_ascii=False, separators=(",", ":")).encode(),
        json.dumps(lost).encode(),
    ]
    noted = record(tmp_path / "spans", [("/v1/chat/completions", body) for body in bodies], mirrored=True)
    into = tmp_path / "pairs"

    with StubUpstream() as candidate:
        given = ["replay", str(tmp_path / "spans"), "--to", candidate.url, "--into", str(into), "--rate", "1000"]
        assert main(given) == 0

    told = capsys.readouterr().out
    assert "3 of 4 recorded requests answered now" in told
    assert "1 cannot be replayed: its prompt is not recorded as it was asked" in told
    arms = pairs(into)
    for arm in ("baseline", "candidate"):
        found = {span["traceai.pair.prompt_hash"] for span in arms if span["traceai.pair.arm"] == arm}
        assert len(found) == 3
        assert found < noted


def test_what_cannot_be_read_is_left_out_and_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Messages that the SDK's limit on attributes has cut: the others are replayed all the same."""
    monkeypatch.setenv("OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT", "100")
    asked = [{"model": "m", "messages": [{"role": "user", "content": text}]} for text in ("x" * 100, "hi")]
    record(tmp_path / "spans", [("/v1/chat/completions", json.dumps(body).encode()) for body in asked])

    with StubUpstream() as candidate:
        assert main(["replay", str(tmp_path / "spans"), "--to", candidate.url, "--rate", "5"]) == 0
        assert [seen.json() for seen in candidate.seen] == asked[1:]

    told = capsys.readouterr().out
    assert "1 of 2 recorded requests answered now" in told
    assert "1 cannot be replayed: what is recorded of it cannot be read" in told


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["--to", "http://127.0.0.1:9", "--rate", "0"], "--rate"),
        (["--to", "nonsense"], "--to nonsense: write it as http://host:port"),
        (["--to", "http://127.0.0.1:9/v1"], "--to http://127.0.0.1:9/v1: write it without /v1 at its end"),
    ],
)
def test_what_cannot_be_replayed_says_so(
    recorded: Path, given: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """On one line, with exit code 2."""
    assert main(["replay", str(recorded), *given]) == 2
    assert said in capsys.readouterr().err


def test_a_store_that_is_not_there_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With the way to make one."""
    assert main(["replay", str(tmp_path / "none"), "--to", "http://127.0.0.1:9"]) == 2
    assert "there is no span store" in capsys.readouterr().err
