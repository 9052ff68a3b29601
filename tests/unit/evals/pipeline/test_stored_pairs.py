"""`traceai-vllm evaluate STORE --paired`: what the candidates' answers lost, beside the other scores."""

import json

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor

from traceai_vllm.cli.main import main
from traceai_vllm.evals.paired import CHECKS, PairedSettings
from traceai_vllm.evals.pipeline.stored_pairs import evaluate_pairs
from traceai_vllm.store import SpanStoreExporter, connect

DISCLAIMER = "This is not legal advice."
SETTINGS = PairedSettings(required_wording={"claims": [DISCLAIMER]})


def stored(directory, *answers):
    """Store answers: pair, arm, and text or the parts of a message."""
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(SpanStoreExporter(directory)))
    for pair, arm, text in answers:
        parts = [{"type": "text", "content": text}] if isinstance(text, str) else text
        message = {"role": "assistant", "parts": parts}
        attributes = {
            "gen_ai.operation.name": "chat",
            "gen_ai.output.messages": json.dumps([message]),
            "traceai.pair.id": pair,
            "traceai.pair.arm": arm,
            "route": "claims",
        }
        provider.get_tracer("test").start_span("chat m", attributes=attributes).end()
    provider.shutdown()


def mirrored(directory, *answers):
    """Store the engines' answers to requests that a proxy mirrored: trace, response id, variant, text, pair id."""
    directory.mkdir(exist_ok=True)
    lines = []
    for place, (trace, response, variant, text, pair) in enumerate(answers):
        message = {"role": "assistant", "parts": [{"type": "text", "content": text}]}
        attributes = {
            "model_variant": variant,
            "gen_ai.response.id": response,
            "gen_ai.output.messages": json.dumps([message]),
            **({"traceai.pair.id": pair} if pair else {}),
        }
        ids = {"trace_id": f"{trace:032x}", "span_id": f"{place + 1:016x}"}
        lines.append(json.dumps({"format_version": 1, **ids, "attributes": attributes}) + "\n")
    (directory / "spans-20261127T000000.000000Z-1-0a1b2c3d.jsonl").write_text("".join(lines))
    return directory


def test_pairs_that_a_proxy_mirrored_are_checked_where_both_variants_are_named(tmp_path):
    """As compare pairs them: by trace and response id, unless a span of the trace says what is a pair."""
    store = mirrored(
        tmp_path / "spans",
        (1, "one", "bf16", "Claim AB-1293 is paid.", None),
        (1, "one", "int4", "Claim AB-1239 is paid.", None),
        (1, "two", "bf16", "Claim AB-1 is paid.", None),
        (1, "two", "int4", "Claim AB-1 is paid.", None),
        (1, "three", "bf16", "Not mirrored.", None),
        (2, "one", "bf16", "Another trace.", None),
        (3, "four", "bf16", "Claim AB-2 is paid.", "pair"),
        (3, "four", "int4", "Claim AB-3 is paid.", "pair"),
        (3, "four", "int4", "A span below.", None),
    )
    assert evaluate_pairs(store, PairedSettings()).spans == 0

    named = PairedSettings(baseline="bf16", candidate="int4")
    assert evaluate_pairs(store, named).spans == 3
    assert evaluate_pairs(store, named).spans == 0
    scores = connect(store).execute(
        """SELECT span_id::BIGINT, score FROM evaluations
        WHERE evaluator = 'IdentifierAgreement' AND label <> 'reference' ORDER BY ALL"""
    )
    assert scores.fetchall() == [(2, 0.0), (4, 1.0), (8, 0.0)]

    with pytest.raises(ValueError, match="name both variants"):
        PairedSettings(baseline="bf16")


def rows(directory, evaluator):
    query = """SELECT attributes->>'$."traceai.pair.arm"', score, label, passed
        FROM evaluations JOIN spans USING (trace_id, span_id)
        WHERE evaluator = $1 AND evaluations.status = 'ok' ORDER BY ALL"""
    return connect(directory).execute(query, [evaluator]).fetchall()


@pytest.fixture
def store(tmp_path):
    stored(
        tmp_path,
        ("1", "baseline", f"After 90 days. {DISCLAIMER}"),
        ("1", "candidate", "After 90 days."),
        ("1", "baseline_repeat", f"In 90 days. {DISCLAIMER}"),
        ("2", "baseline", "Claim AB-1293 is paid."),
        ("2", "candidate", "Claim AB-1239 is paid."),
        ("3", "baseline", "Alone."),
        ("4", "candidate", "Alone."),
    )
    return tmp_path


def test_each_pair_is_checked_and_its_baseline_is_the_reference(store):
    summary = evaluate_pairs(store, SETTINGS)
    assert summary.spans == 3
    assert rows(store, "RequiredWording") == [
        ("baseline", 1.0, "reference", True),
        ("baseline_repeat", 1.0, "kept", True),
        ("candidate", 0.0, "lost", False),
    ]
    assert ("candidate", 0.0, "altered", False) in rows(store, "IdentifierAgreement")
    assert summary.counts["RequiredWording"] == {"ok": 2, "not_applicable": 1}


def test_tool_calls_are_compared_with_the_baselines(tmp_path):
    def calls(**arguments):
        return [{"type": "tool_call", "name": "wait", "arguments": arguments}]

    nine = calls(days=9)
    stored(tmp_path, ("1", "baseline", nine), ("1", "candidate", calls(days=90)), ("1", "baseline_repeat", nine))
    stored(tmp_path, ("2", "baseline", nine), ("2", "candidate", "I wait."))
    stored(tmp_path, ("3", "baseline", "No."), ("3", "candidate", "None."))
    summary = evaluate_pairs(tmp_path, SETTINGS)
    assert rows(tmp_path, "ToolCallAgreement") == [
        ("baseline", 1.0, "reference", True),
        ("baseline", 1.0, "reference", True),
        ("baseline_repeat", 1.0, "correct", True),
        ("candidate", 0.0, "missing_call", False),
        ("candidate", 0.0, "wrong_value", False),
    ]
    assert summary.counts["ToolCallAgreement"] == {"ok": 3, "not_applicable": 1}


def test_a_pair_that_cannot_be_read_leaves_the_others_checked(store):
    stored(store, ("0", "baseline", [{"type": ["text"]}]), ("0", "candidate", "No."))
    summary = evaluate_pairs(store, SETTINGS)
    assert summary.counts["RequiredWording"] == {"ok": 2, "not_applicable": 1, "error": 1}


def test_it_goes_on_with_what_is_new(store):
    evaluate_pairs(store, SETTINGS)
    stored(store, ("5", "candidate", "No."), ("5", "baseline", "Yes."))
    seen = []
    assert evaluate_pairs(store, SETTINGS, progress=lambda done, total: seen.append((done, total))).spans == 1
    assert seen == [(1, 1)]
    assert evaluate_pairs(store, SETTINGS).spans == 0
    assert len(rows(store, "NoLooping")) == 3 + 2 + 2


def test_the_command_prints_both(store, tmp_path, capsys):
    settings = tmp_path / "paired.json"
    settings.write_text(json.dumps({"required_wording": {"claims": [DISCLAIMER]}}))
    command = ["evaluate", str(store), "--evaluators", "JSONValidation"]
    assert main([*command, "--paired", str(settings)]) == 0
    printed = capsys.readouterr().out
    assert "7 answers evaluated" in printed
    assert "3 pairs evaluated" in printed
    assert all(name in printed for name in CHECKS)
    assert main([*command, "--paired"]) == 0
    settings.write_text('{"wording": []}')
    assert main([*command, "--paired", str(settings)]) == 2
    assert "has no settings of paired checks" in capsys.readouterr().err
