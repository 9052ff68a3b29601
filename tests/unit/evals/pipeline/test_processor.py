"""The evaluator span processor: every span goes on once, with scores where there are any, and never late for long."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest
from opentelemetry.context import get_current
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter, SimpleLogRecordProcessor
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import Link, SpanKind, Status, StatusCode

from tests.support.records import finished_record, in_memory_metrics, points
from traceai_vllm import tags
from traceai_vllm.content import Content
from traceai_vllm.evals import EvaluationResult, Groundedness, JSONValidation, ToolSelectionAccuracy
from traceai_vllm.evals.pipeline import EvaluatorSpanProcessor, Selection
from traceai_vllm.evals.pipeline.runner import CircuitBreaker, Runner
from traceai_vllm.evals.slices import SliceSettings
from traceai_vllm.evals.untraced import COHORT
from traceai_vllm.telemetry.spans import SpanBuilder

if TYPE_CHECKING:
    from collections.abc import Iterator

ANSWER = "Claims are paid after 90 days."
MESSAGES = json.dumps([{"role": "assistant", "parts": [{"type": "text", "content": ANSWER}], "finish_reason": "stop"}])


class Length:
    """Scores 1.0 for answers of at least ten characters."""

    name = "Length"

    def evaluate(self, *, response: str) -> EvaluationResult:
        return EvaluationResult(
            self.name, float(len(response) >= 10), "long enough", 0.5, explanation=f"It says {response!r}."
        )


class Crashing:
    name = "Crashing"

    def evaluate(self, *, response: str) -> float:
        raise RuntimeError(f"cannot read {response}")


class Lying:
    name = "Lying"

    def evaluate(self, *, response: str) -> float:
        return 17.0


class Hanging:
    """Comes back when it is told to."""

    name = "Hanging"

    def __init__(self) -> None:
        self.released = threading.Event()
        self.entered = threading.Event()

    def evaluate(self, *, response: str) -> float:
        self.entered.set()
        self.released.wait()
        return 1.0


class Setting:
    """A tracer provider whose spans pass the evaluators on their way to memory."""

    def __init__(self, *evaluators: Any, **options: Any) -> None:
        self.exporter = InMemorySpanExporter()
        self.logs = InMemoryLogRecordExporter()
        loggers = LoggerProvider(shutdown_on_exit=False)
        loggers.add_log_record_processor(SimpleLogRecordProcessor(self.logs))
        meters, self.reader = in_memory_metrics()
        self.processor = EvaluatorSpanProcessor(
            SimpleSpanProcessor(self.exporter),
            evaluators=evaluators,
            meter_provider=meters,
            logger_provider=loggers,
            **options,
        )
        self.provider = TracerProvider(shutdown_on_exit=False)
        self.provider.add_span_processor(self.processor)
        self.tracer = self.provider.get_tracer("test")

    def request(self, **attributes: Any) -> None:
        """End the span of a request that carries its answer."""
        given = {"gen_ai.operation.name": "chat", "gen_ai.output.messages": MESSAGES, **attributes}
        self.tracer.start_span("chat m", attributes=given).end()

    def exported(self) -> list[dict[str, Any]]:
        assert self.processor.force_flush(10_000)
        return [dict(span.attributes or {}) for span in self.exporter.get_finished_spans()]


@pytest.fixture
def hanging() -> Iterator[Hanging]:
    evaluator = Hanging()
    yield evaluator
    evaluator.released.set()


def test_scores_travel_with_the_span() -> None:
    """The exported span has the scores, and is in all else the one that ended."""
    setting = Setting(Length())
    with setting.tracer.start_as_current_span("caller"):
        setting.request(**{"gen_ai.response.id": "r1"})

    setting.exported()
    caller, request = sorted(setting.exporter.get_finished_spans(), key=lambda span: span.name != "caller")
    assert request.attributes is not None
    assert request.attributes["gen_ai.evaluation.Length.score"] == 1.0
    assert request.attributes["gen_ai.evaluation.Length.label"] == "long enough"
    assert request.attributes["gen_ai.evaluation.Length.passed"] is True
    assert request.attributes["traceai.evaluation.status"] == "ok"
    assert request.attributes["gen_ai.response.id"] == "r1"
    assert request.parent is not None
    assert request.parent.span_id == caller.get_span_context().span_id
    assert request.end_time is not None
    assert request.start_time is not None
    assert request.end_time >= request.start_time


def test_all_else_of_the_span_stays_as_it_was() -> None:
    """Ids, times, events, links, status, resource, scope: the copy differs in scores alone."""
    plain, setting = InMemorySpanExporter(), Setting(Length())
    setting.provider.add_span_processor(SimpleSpanProcessor(plain))
    other = setting.tracer.start_span("other")
    span = setting.provider.get_tracer("scope", "1.2", attributes={"a": "b"}).start_span(
        "chat m",
        kind=SpanKind.SERVER,
        links=[Link(other.get_span_context(), {"why": "retry"})],
        attributes={"gen_ai.operation.name": "chat", "gen_ai.output.messages": MESSAGES, "many": tuple("abc")},
        start_time=1,
    )
    span.add_event("first token", {"n": 1}, timestamp=2)
    span.set_status(Status(StatusCode.ERROR, "too long"))
    span.end(end_time=3)

    setting.exported()
    (before,), (after,) = plain.get_finished_spans(), setting.exporter.get_finished_spans()
    was, became = json.loads(before.to_json()), json.loads(after.to_json())
    added = {key: became["attributes"].pop(key) for key in [*became["attributes"]] if key not in was["attributes"]}
    assert was == became
    assert (before.instrumentation_scope, before.resource) == (after.instrumentation_scope, after.resource)
    assert all(key.startswith(("gen_ai.evaluation.Length.", "traceai.evaluation.")) for key in added)


@pytest.mark.internal_errors_expected
def test_a_processor_behind_that_raises_takes_no_span_from_the_others() -> None:
    """Neither when spans end, nor when they are flushed."""

    class Broken(SpanProcessor):
        def on_end(self, span: ReadableSpan) -> None:
            raise RuntimeError("on_end")

        def force_flush(self, timeout_millis: int = 30_000) -> bool:
            raise RuntimeError("force_flush")

        def shutdown(self) -> None:
            raise RuntimeError("shutdown")

    exporter = InMemorySpanExporter()
    behind = BatchSpanProcessor(exporter, schedule_delay_millis=60_000)
    processor = EvaluatorSpanProcessor(Broken(), behind, evaluators=[Length()])
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(processor)
    attributes = {"gen_ai.operation.name": "chat", "gen_ai.output.messages": MESSAGES}
    provider.get_tracer("test").start_span("chat m", attributes=attributes).end()

    assert processor.force_flush(10_000) is False
    (span,) = exporter.get_finished_spans()
    assert (span.attributes or {})["gen_ai.evaluation.Length.score"] == 1.0
    processor.shutdown()


def test_inputs_that_nobody_can_judge_do_not_silence_an_evaluator() -> None:
    """A few requests with a broken schema are errors of theirs: the next one is judged."""
    runner = Runner([JSONValidation()], failures=3)
    broken = {"response": "{}", "schema": {"$ref": "https://example.com/schema"}}

    assert [runner.run(broken)[0].status for _ in range(5)] == ["error"] * 5
    assert runner.run({"response": "{}", "schema": {}})[0].status == "ok"


def test_a_circuit_closes_when_the_evaluator_works_again() -> None:
    """After its rest one call is tried: a failure opens it again, a success closes it for all."""
    now = 0.0
    breaker = CircuitBreaker(3, 60.0, lambda: now)
    for _ in range(3):
        assert breaker.allows()
        breaker.failed()
    assert not breaker.allows()
    now = 61.0
    assert [breaker.allows(), breaker.allows()] == [True, False]
    breaker.failed()
    now = 120.0
    assert not breaker.allows()
    now = 122.0
    assert breaker.allows()
    breaker.succeeded()
    assert [breaker.allows(), breaker.allows()] == [True, True]


def test_other_libraries_spans_are_judged_by_what_tags_gave() -> None:
    """Context, schema and calls of the scope in which a span began, wherever it ends, and of no other."""
    setting = Setting(Groundedness(), JSONValidation(), ToolSelectionAccuracy())
    given = {"gen_ai.operation.name": "chat", "gen_ai.output.messages": MESSAGES}
    with tags(context=["Claims are paid after 180 days."], schema={"type": "object"}, expected=[]):
        span = setting.tracer.start_span("chat m", attributes=given)
        with tags(context="Claims are paid after 90 days."):
            setting.request()
    span.end()
    setting.request()

    inner, outer, none = setting.exported()
    assert inner["gen_ai.evaluation.Groundedness.passed"] is True
    assert outer["gen_ai.evaluation.Groundedness.passed"] is False
    for attributes in (inner, outer):
        assert attributes["gen_ai.evaluation.JSONValidation.label"] == "malformed"
        assert attributes["gen_ai.evaluation.ToolSelectionAccuracy.label"] == "no_call"
    assert not any(key.startswith("gen_ai.evaluation") for key in none)
    assert "traceai.context" not in outer


FORKING = """
import json, os, sys
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from traceai_vllm.evals import JSONValidation
from traceai_vllm.evals.pipeline import EvaluatorSpanProcessor

exporter, provider = InMemorySpanExporter(), TracerProvider(shutdown_on_exit=False)
processor = EvaluatorSpanProcessor(
    SimpleSpanProcessor(exporter), evaluators=[JSONValidation({})], processes=int(sys.argv[1])
)
provider.add_span_processor(processor)
messages = json.dumps([{"role": "assistant", "parts": [{"type": "text", "content": "{}"}]}])

def scored():
    attributes = {"gen_ai.operation.name": "chat", "gen_ai.output.messages": messages}
    provider.get_tracer("test").start_span("chat m", attributes=attributes).end()
    assert provider.force_flush(25_000)
    (span,) = exporter.get_finished_spans()
    exporter.clear()
    return span.attributes["traceai.evaluation.status"] == "ok"

assert scored()
child = os.fork()
if not child:
    fine = scored()
    processor.shutdown()
    os._exit(0 if fine else 1)
assert os.waitpid(child, 0)[1] == 0
assert scored()
provider.shutdown()
"""


@pytest.mark.parametrize("processes", [0, 1])
def test_a_forked_child_scores_its_own_spans_and_leaves_its_parent_alone(processes: int) -> None:
    """Threads do not survive a fork, and the processes that score are the parent's."""
    subprocess.run([sys.executable, "-c", FORKING, str(processes)], check=True, timeout=60)


def test_an_event_is_linked_to_the_span() -> None:
    """The Logs API carries one event per score, in the span's trace."""
    setting = Setting(Length())
    setting.request(**{"gen_ai.response.id": "r1"})
    setting.exported()

    (span,) = setting.exporter.get_finished_spans()
    (log,) = setting.logs.get_finished_logs()
    record = log.log_record
    assert record.event_name == "gen_ai.evaluation.result"
    assert (record.trace_id, record.span_id) == (span.get_span_context().trace_id, span.get_span_context().span_id)
    assert dict(record.attributes or {}) == {
        "gen_ai.evaluation.name": "Length",
        "gen_ai.evaluation.score.value": 1.0,
        "gen_ai.evaluation.score.label": "long enough",
        "gen_ai.response.id": "r1",
    }


@pytest.mark.parametrize("explain", [False, True])
def test_explanations_quote_the_answer_and_are_exported_only_where_that_is_wanted(explain: bool) -> None:
    """Content that is only scored does not leave the process by way of an explanation."""
    setting = Setting(Length(), explain=explain)
    setting.request()

    (attributes,) = setting.exported()
    (log,) = setting.logs.get_finished_logs()
    assert (ANSWER in str(attributes.get("gen_ai.evaluation.Length.explanation"))) is explain
    assert (ANSWER in str(log.log_record.attributes)) is explain


class Quoting:
    """Quotes half a surrogate pair, as an argument of a tool call in JSON may have it."""

    name = "Quoting"

    def evaluate(self, *, response: str) -> dict[str, Any]:
        return {"score": 0.0, "label": "\ud83d", "explanation": "the argument a is \ud83d"}


def test_what_no_exporter_can_encode_does_not_cost_the_explanation() -> None:
    """OTLP's would drop the attribute, with a stack trace for each span."""
    setting = Setting(Quoting(), explain=True)
    setting.request()

    (attributes,) = setting.exported()
    (log,) = setting.logs.get_finished_logs()
    said = [attributes["gen_ai.evaluation.Quoting.explanation"], attributes["gen_ai.evaluation.Quoting.label"]]
    assert [text.encode() for text in said] == [b"the argument a is ?", b"?"]
    assert all(str(value).encode() for value in (log.log_record.attributes or {}).values())


def test_a_failing_and_a_lying_evaluator_have_a_status_and_no_score() -> None:
    """An evaluator's failure is never a score, and keeps no other evaluator's from the span."""
    setting = Setting(Crashing(), Lying(), Length())
    setting.request()

    (attributes,) = setting.exported()
    assert attributes["traceai.evaluation.status"] == "error"
    assert attributes["traceai.evaluation.failures"] == ("Crashing:error", "Lying:error")
    assert attributes["gen_ai.evaluation.Length.score"] == 1.0
    assert not any(key.startswith(("gen_ai.evaluation.Crashing", "gen_ai.evaluation.Lying")) for key in attributes)


def test_a_hanging_evaluator_is_given_up_and_then_left_alone(hanging: Hanging) -> None:
    """Its time-out is a status; after some in a row it is not called any more for a while."""
    setting = Setting(hanging, Length(), timeout_s=0.02)
    for _ in range(8):
        setting.request()

    statuses = Counter(attributes["traceai.evaluation.status"] for attributes in setting.exported())
    assert statuses == {"timeout": 5, "circuit_open": 3}
    assert all(attributes["gen_ai.evaluation.Length.score"] == 1.0 for attributes in setting.exported())


def test_a_full_queue_lets_spans_pass_unscored(hanging: Hanging) -> None:
    """What finds no room is exported at once and says so; what waits is evaluated later."""
    setting = Setting(hanging, queue_size=2, timeout_s=30)
    setting.request()
    assert hanging.entered.wait(10)
    for _ in range(4):
        setting.request()

    passed = [dict(span.attributes or {}) for span in setting.exporter.get_finished_spans()]
    assert [attributes["traceai.evaluation.status"] for attributes in passed] == ["queue_full"] * 3
    hanging.released.set()
    assert Counter(a["traceai.evaluation.status"] for a in setting.exported()) == {"queue_full": 3, "ok": 2}


def test_ten_thousand_spans_pass_a_small_queue_and_bad_evaluators_each_once(hanging: Hanging) -> None:
    """Whatever evaluators do: none is lost, none is doubled, and shutdown keeps its time."""

    class Slow:
        name = "Slow"

        def evaluate(self, *, response: str) -> float:
            threading.Event().wait(0.001)
            return 1.0

    setting = Setting(Slow(), Crashing(), hanging, queue_size=100, workers=2, timeout_s=0.05, shutdown_timeout_s=1.0)
    for number in range(10_000):
        setting.request(number=number)

    ended = threading.Thread(target=setting.processor.shutdown, daemon=True)
    ended.start()
    ended.join(10)

    assert not ended.is_alive()
    numbers = Counter((span.attributes or {})["number"] for span in setting.exporter.get_finished_spans())
    assert len(numbers) == 10_000
    assert set(numbers.values()) == {1}
    found = points(setting.reader)
    assert sum(point.value for point in found["traceai.evaluation.requests"]) == 10_000


def test_at_shutdown_what_cannot_be_evaluated_in_time_is_exported_all_the_same(hanging: Hanging) -> None:
    """Also the one in the evaluator's hands; when that comes back later, it is not exported again."""
    setting = Setting(hanging, timeout_s=30, shutdown_timeout_s=0.05)
    setting.request()
    setting.request()
    assert hanging.entered.wait(10)

    setting.processor.shutdown()

    statuses = [(span.attributes or {})["traceai.evaluation.status"] for span in setting.exporter.get_finished_spans()]
    assert statuses == ["shutdown", "shutdown"]
    assert setting.processor.force_flush(0)  # nothing waits any more
    hanging.released.set()
    setting.processor.shutdown()
    assert len(setting.exporter.get_finished_spans()) == 2


def test_force_flush_keeps_its_deadline(hanging: Hanging) -> None:
    """It says that it is not done, instead of waiting for an evaluator."""
    setting = Setting(hanging, timeout_s=30)
    setting.request()

    assert setting.processor.force_flush(20) is False
    hanging.released.set()
    assert setting.processor.force_flush(10_000) is True
    assert len(setting.exporter.get_finished_spans()) == 1


def test_other_spans_pass_at_once() -> None:
    """A span that is no request of a model, or has no answer with it, is not held up and not marked."""
    setting = Setting(Length())
    setting.tracer.start_span("GET /").end()
    setting.tracer.start_span("embeddings m", attributes={"gen_ai.operation.name": "embeddings"}).end()
    setting.tracer.start_span("chat m", attributes={"gen_ai.operation.name": "chat"}).end()

    assert len(setting.exporter.get_finished_spans()) == 3
    assert not any("traceai.evaluation.status" in attributes for attributes in setting.exported())


def test_requests_are_selected_by_route_and_cohort_and_errors_always() -> None:
    """Rates of 0 and 1 decide as they say; an error is evaluated whatever the rate."""
    chosen = Selection(rate=0.0, routes={"support": 1.0}, cohorts={"mirrored": 1.0, "shadow": 0.0})
    setting = Setting(Length(), selection=chosen)
    setting.request(route="search")
    setting.request(route="support", traffic_cohort="shadow")
    setting.request(traffic_cohort="mirrored")
    setting.request(route="search", **{"error.type": "cancelled"})

    evaluated = ["gen_ai.evaluation.Length.score" in attributes for attributes in setting.exported()]
    assert sorted(evaluated) == [False, True, True, True]


@pytest.mark.parametrize("options", [{"rate": 1.5}, {"routes": {"a": -1}}, {"cohorts": {"b": 2}}])
def test_a_rate_that_is_none_is_refused(options: dict[str, Any]) -> None:
    """The error names the rate."""
    with pytest.raises(ValueError, match="from 0 to 1"):
        Selection(**options)


def test_two_evaluators_of_one_name_are_refused() -> None:
    """Their scores would overwrite each other."""
    with pytest.raises(ValueError, match="Length, Length"):
        Setting(Length(), Length())


def test_measurements_are_by_evaluator_variant_route_and_cohort() -> None:
    """Scores have the dimensions that a comparison needs."""
    setting = Setting(Length())
    setting.request(model_variant="m-int4", quantization_format="int4", route="support", traffic_cohort="mirrored")
    setting.exported()

    (score,) = points(setting.reader)["traceai.evaluation.score"]
    assert dict(score.attributes) == {
        "gen_ai.evaluation.name": "Length",
        "model_variant": "m-int4",
        "quantization_format": "int4",
        "route": "support",
        "traffic_cohort": "mirrored",
    }
    (count,) = points(setting.reader)["traceai.evaluation.count"]
    assert (count.value, count.attributes["passed"]) == (1, True)


class Captured:
    """Stands for the references of a captured request."""

    def __init__(self, content: Content) -> None:
        self._content = content

    def read(self) -> Content:
        return self._content


def test_content_that_is_only_scored_is_not_on_the_span() -> None:
    """The record hands it to the evaluators of this process, past the span."""
    setting = Setting(Length())
    content = Content(output_messages=json.loads(MESSAGES))
    with tags(route="support"):
        record = finished_record(content=Captured(content))

    SpanBuilder(setting.tracer, hand_over=True).emit(record)

    (attributes,) = setting.exported()
    assert attributes["gen_ai.evaluation.Length.score"] == 1.0
    assert ANSWER not in str(attributes)


def test_json_is_validated_only_where_json_was_asked_for() -> None:
    """Prose is no malformed JSON unless somebody wanted JSON."""
    setting = Setting(JSONValidation())
    setting.request()
    setting.request(**{"gen_ai.output.type": "json"})

    scores = [attributes.get("gen_ai.evaluation.JSONValidation.score") for attributes in setting.exported()]
    assert scores.count(None) == 1
    assert scores.count(0.0) == 1


def test_a_cut_answer_is_not_evaluated() -> None:
    """JSON that was cut at the limit for span attributes cannot be read; that is no error and no score."""
    setting = Setting(Length())
    setting.request(**{"gen_ai.output.messages": MESSAGES[:-20]})

    (attributes,) = setting.exported()
    assert not any(key.startswith("gen_ai.evaluation") for key in attributes)


def test_the_cost_of_an_evaluation_is_on_the_span() -> None:
    """Where the evaluator says what it has cost."""

    class Judge:
        name = "Judge"

        def evaluate(self, *, response: str) -> EvaluationResult:
            return EvaluationResult(self.name, 1.0, "good", 0.5, details={"cost_usd": 0.002})

    setting = Setting(Judge(), Length())
    setting.request()

    (exported,) = setting.exported()

    assert exported["gen_ai.evaluation.Judge.cost_usd"] == 0.002
    assert "gen_ai.evaluation.Length.cost_usd" not in exported


def test_slices_travel_with_the_span() -> None:
    """Each evaluated request has its slices, from its words, its tokens and its tag; others have none."""
    setting = Setting(Length(), slices=SliceSettings(regulated_routes=["claims"]))
    asked = json.dumps([{"role": "user", "parts": [{"type": "text", "content": "Ask Dr Okonkwo about it, please."}]}])
    setting.request(
        **{"gen_ai.input.messages": asked, "gen_ai.usage.input_tokens": 9_000, "route": "claims"},
        **{"traceai.tag.slices": "-regulated,vip"},
    )
    setting.request()

    with_slices, without = setting.exported()

    assert with_slices["traceai.slices"] == ("long_context", "rare_entity", "vip")
    assert "gen_ai.evaluation.Length.score" in with_slices
    assert "traceai.slices" not in without


def test_a_judges_requests_are_not_evaluated() -> None:
    """Where a server traces them all the same, they do not call the judge again."""
    setting = Setting(Length())
    setting.request(traffic_cohort=COHORT)
    (exported,) = setting.exported()

    assert "traceai.evaluation.status" not in exported


def test_slices_need_no_content() -> None:
    """A request of which only the record's numbers are known has the slices that they tell, and no status."""
    setting = Setting(Length())
    with tags(extra={"slices": "vip"}):
        record = finished_record(input_tokens=5_000, context=get_current())
    SpanBuilder(setting.tracer, hand_over=True).emit(record)

    (exported,) = setting.exported()

    assert exported["traceai.slices"] == ("long_context", "vip")
    assert "traceai.evaluation.status" not in exported
