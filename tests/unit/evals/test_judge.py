"""The LLM judge, against a real server that speaks OpenAI's protocol."""

import json
import pickle
import threading
import time

import openai
import pytest
from openai.resources.chat.completions import Completions
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from tests.support.records import in_memory_tracing
from tests.support.stub_upstream import HANG, StubUpstream
from traceai_vllm.evals import EvaluationError, Groundedness, HallucinationScore
from traceai_vllm.evals.backends import JudgeUsage, LLMJudge

ANSWER = "Plan B covers dental claims after 90 days. It needs no form."
CONTEXT = ["Plan B covers dental claims after 180 days.", "No form is needed."]
VERDICTS = {
    "1": {"verdict": "unsupported", "words": "after 90 days", "reason": "it is 180 days"},
    "2": {"verdict": "supported", "words": "", "reason": ""},
}


@pytest.fixture
def stub():
    with StubUpstream(tokens=40, content=json.dumps(VERDICTS)) as server:
        yield server


def judge(stub, **options):
    return LLMJudge(stub.url + "/v1", model="m", **{"timeout_s": 10.0, "retries": 0, **options})


def test_its_verdicts_become_a_score_with_the_words_and_the_cost(stub):
    backend = judge(stub, price_per_million=(2.0, 10.0))
    result = Groundedness(checker=backend).evaluate(response=ANSWER, context=CONTEXT, question="When?")
    assert result.score < 0.5
    assert result.label == "partly_grounded"
    assert [ANSWER[start:end] for start, end in result.unsupported] == ["after 90 days"]
    assert "it is 180 days" in result.explanation
    assert result.details["judge"] == {
        "calls": 1,
        "input_tokens": 5,
        "output_tokens": 40,
        "cost_usd": pytest.approx((5 * 2 + 40 * 10) / 1e6),
    }
    assert result.details["cost_usd"] == backend.usage.cost_usd
    HallucinationScore(checker=backend).evaluate(response=ANSWER, context=CONTEXT)
    assert backend.usage.calls == 2
    assert backend.usage.cost_usd == pytest.approx(2 * (5 * 2 + 40 * 10) / 1e6)


def test_it_asks_for_json_with_one_verdict_for_each_sentence(stub):
    judge(stub).check(ANSWER, "\n\n".join(CONTEXT), "When?")
    (seen,) = stub.seen
    body = seen.json()
    schema = body["response_format"]["json_schema"]["schema"]
    assert body["response_format"]["type"] == "json_schema"
    assert schema["required"] == ["1", "2"]
    assert schema["properties"]["1"]["properties"]["verdict"]["enum"] == ["supported", "unsupported"]
    given = json.loads(body["messages"][1]["content"])
    assert given["statements"] == {"1": "Plan B covers dental claims after 90 days.", "2": "It needs no form."}
    assert given["question"] == "When?"


def test_a_long_answer_is_judged_in_parts(stub):
    stub.behaviour.content = json.dumps({str(n): VERDICTS["2"] for n in range(1, 25)})
    found = judge(stub).check("It needs no form. " * 60, "No form is needed.")
    assert len(found) == 60
    assert len(stub.seen) == 3
    assert found.details["judge"]["calls"] == 3


def test_its_calls_are_not_traced_here(stub, monkeypatch):
    provider, exporter = in_memory_tracing()
    tracer = provider.get_tracer("instrumentation")
    create = Completions.create

    def instrumented(self, **arguments):  # as instrumentations do that do not ask whether they are suppressed
        with tracer.start_as_current_span(f"chat {arguments['model']}"):
            return create(self, **arguments)

    monkeypatch.setattr(Completions, "create", instrumented)
    with tracer.start_as_current_span("user"):
        judge(stub).check(ANSWER, CONTEXT[0])
        users = openai.OpenAI(base_url=stub.url + "/v1", api_key="none")
        users.chat.completions.create(model="users", messages=[{"role": "user", "content": "Hello"}])
    assert [span.name for span in exporter.get_finished_spans()] == ["chat users", "user"]


def test_its_calls_are_not_traced_by_the_server(stub):
    judge(stub).check(ANSWER, CONTEXT[0])
    headers = dict(stub.seen[0].headers)
    context = TraceContextTextMapPropagator().extract(headers)
    # Any OpenTelemetry SDK with its default sampler, which asks the caller's trace context.
    span = TracerProvider(shutdown_on_exit=False).get_tracer("server").start_span("POST", context)
    assert not span.is_recording()
    assert headers["x-traffic-cohort"] == "evaluation"


def test_a_failure_that_passes_is_tried_again(stub):
    stub.behaviour.fault = "500"

    def mend():
        deadline = time.monotonic() + 20
        while not stub.seen and time.monotonic() < deadline:
            time.sleep(0.005)
        stub.behaviour.fault = None

    thread = threading.Thread(target=mend)
    thread.start()
    assert len(judge(stub, retries=3).check(ANSWER, CONTEXT[0])) == 2
    thread.join()
    assert len(stub.seen) >= 2


@pytest.mark.parametrize(
    ("fault", "content", "said"),
    [
        ("500", None, "status 500"),
        ("400", None, "status 400 .*'m' its model.*response_format"),
        (HANG, None, "within 0.3 s"),
        ("garbage", None, "does not answer with JSON"),
        (None, "I think it is fine.", "response_format"),
        (None, '{"1": {"verdict": "maybe"}}', "response_format"),
        (None, '{"1": {"verdict": "supported"}}', "response_format"),
        (None, "[]", "response_format"),
    ],
)
def test_a_failure_is_an_error_and_no_score(stub, fault, content, said):
    stub.behaviour.fault, stub.behaviour.content = fault, content
    with pytest.raises(EvaluationError, match=said) as raised:
        judge(stub, timeout_s=0.3).check(ANSWER, CONTEXT[0])
    assert ANSWER not in str(raised.value)


def test_the_pipeline_waits_for_all_its_tries():
    checker = LLMJudge("http://127.0.0.1:9/v1", model="m", timeout_s=7.0, retries=2)
    assert [evaluator(checker=checker).timeout_s for evaluator in (Groundedness, HallucinationScore)] == [21.0, 21.0]


def test_a_web_page_is_no_verdict(stub, monkeypatch):
    monkeypatch.setattr(Completions, "create", lambda *args, **kwargs: "<html>Welcome</html>")  # as the client gives it
    with pytest.raises(EvaluationError, match="/v1"):
        judge(stub).check(ANSWER, CONTEXT[0])


def test_an_endpoint_that_is_not_there():
    with pytest.raises(EvaluationError, match="APIConnectionError"):
        LLMJudge("http://127.0.0.1:9/v1", model="m", retries=0).check(ANSWER, CONTEXT[0])
    with pytest.raises(ValueError, match="timeout_s"):
        LLMJudge("http://127.0.0.1:9/v1", model="m", timeout_s=0)


def test_it_can_be_sent_to_another_process_after_use(stub):
    backend = judge(stub)
    backend.check(ANSWER, CONTEXT[0])
    assert len(pickle.loads(pickle.dumps(backend)).check(ANSWER, CONTEXT[0])) == 2


def test_usages_add_up():
    assert JudgeUsage(1, 2, 3, 0.5) + JudgeUsage(1, 1, 1, 0.25) == JudgeUsage(2, 3, 4, 0.75)
