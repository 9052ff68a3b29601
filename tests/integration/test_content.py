"""Content capture on real vLLM: off unless asked for, and then in the GenAI conventions' form, redacted and capped."""

from __future__ import annotations

import contextlib
import json
import logging
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import traceai_vllm
from tests.integration.conftest import Run
from tests.integration.test_async import collect
from tests.integration.test_async import params as async_params
from tests.integration.test_offline import params
from traceai_vllm.content import Content, ContentMode, ContentOptions
from traceai_vllm.content.redaction import FAILED
from traceai_vllm.testing import Capture, capture

CONTENT = (
    "gen_ai.input.messages",
    "gen_ai.output.messages",
    "gen_ai.system_instructions",
    "gen_ai.tool.definitions",
    "traceai.context",
    "traceai.output_schema",
    "traceai.expected_calls",
)
WEATHER = {
    "type": "function",
    "function": {"name": "weather", "description": "Weather of a city", "parameters": {"type": "object"}},
}
CONVERSATION = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": [{"type": "text", "text": "Paris has 2 million inhabitants.", "traceai": "context"}]},
    {"role": "user", "content": "How warm is it there?"},
    {
        "role": "assistant",
        "content": "",
        "tool_calls": [
            {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": '{"at": "Paris"}'}}
        ],
    },
    {"role": "tool", "tool_call_id": "c1", "content": "21 degrees"},
]


def content_of(span: Any) -> dict[str, Any]:
    return {key: json.loads(span.attributes[key]) for key in CONTENT if key in span.attributes}


def text(role: str, content: str) -> dict[str, Any]:
    return {"role": role, "parts": [{"type": "text", "content": content}]}


def test_a_chat_is_on_its_span(llm: Any) -> None:
    """Messages of every role, tools, tool calls, marked and tagged context, and the answer: as JSON."""
    with capture(capture_content="span_only") as captured, traceai_vllm.tags(context=["France is in Europe."]):
        [output] = llm.chat(CONVERSATION, params(), tools=[WEATHER], use_tqdm=False)

    [request] = captured.requests
    answer = {**text("assistant", output.outputs[0].text), "finish_reason": "length"}
    assert content_of(request) == {
        "gen_ai.input.messages": [
            text("system", "Be brief."),
            text("user", "Paris has 2 million inhabitants."),
            text("user", "How warm is it there?"),
            {
                "role": "assistant",
                "parts": [
                    {"type": "text", "content": ""},
                    {"type": "tool_call", "id": "c1", "name": "weather", "arguments": {"at": "Paris"}},
                ],
            },
            {"role": "tool", "parts": [{"type": "tool_call_response", "id": "c1", "response": "21 degrees"}]},
        ],
        "gen_ai.output.messages": [answer],
        "gen_ai.tool.definitions": [
            {
                "type": "function",
                "name": "weather",
                "description": "Weather of a city",
                "parameters": {"type": "object"},
            }
        ],
        "traceai.context": [
            {"source": "message", "content": "Paris has 2 million inhabitants."},
            {"source": "tags", "content": "France is in Europe."},
        ],
    }
    assert captured.logs == []
    [batch] = [span for span in captured.spans if span not in captured.requests]
    assert content_of(batch) == {}


def test_what_an_answer_is_judged_by_comes_from_the_request_or_from_tags(llm: Any) -> None:
    """The schema that vLLM was given, or the application's word; tools and the calls that are right by tags alone."""
    from vllm.sampling_params import StructuredOutputsParams

    held = params(structured_outputs=StructuredOutputsParams(json={"type": "object", "maxProperties": 1}))
    due = [{"name": "weather", "arguments": {"at": "Paris"}}]
    with capture(capture_content="span_only") as captured:
        llm.generate("Say it in JSON.", held, use_tqdm=False)
        with traceai_vllm.tags(schema={"type": "array"}, tools=[WEATHER], expected=due), traceai_vllm.tags(route="r"):
            llm.generate("Say it in JSON.", held, use_tqdm=False)
        with traceai_vllm.tags(expected=[]):
            llm.generate("Hello", params(), use_tqdm=False)

    by_request, by_tags, no_call = map(content_of, captured.requests)
    assert by_request["traceai.output_schema"] == {"type": "object", "maxProperties": 1}
    assert "traceai.expected_calls" not in by_request
    assert by_tags["traceai.output_schema"] == {"type": "array"}
    assert by_tags["traceai.expected_calls"] == due
    assert [tool["name"] for tool in by_tags["gen_ai.tool.definitions"]] == ["weather"]
    assert no_call["traceai.expected_calls"] == []


def test_each_request_of_a_call_has_its_own_conversation(llm: Any) -> None:
    """One call with many conversations: the i-th request says the i-th, and answers it."""
    conversations = [[{"role": "user", "content": f"question {i}"}] for i in range(8)]
    with capture(capture_content=True) as captured:
        outputs = llm.chat(conversations, params(max_tokens=3), use_tqdm=False)
        enqueued = llm.enqueue_chat(conversations[:2], params(max_tokens=3), use_tqdm=False)
        conversations[0].append({"role": "user", "content": "too late"})
        llm.wait_for_completion(use_tqdm=False)

    assert len(enqueued) == 2
    said = {
        span.attributes["gen_ai.response.id"]: (
            content_of(span)["gen_ai.input.messages"],
            content_of(span)["gen_ai.output.messages"][0]["parts"][0]["content"],
        )
        for span in captured.requests
    }
    for i, output in enumerate(outputs):
        assert said[output.request_id] == ([text("user", f"question {i}")], output.outputs[0].text)
    assert [request[0] for request in said.values()][8:] == [[text("user", f"question {i}")] for i in range(2)]


def test_prompts_are_there_as_far_as_vllm_has_them(llm: Any) -> None:
    """A text is what the user says; tokens that came as tokens are not decoded; answers always are."""
    tokens = {"prompt_token_ids": [5, 6, 7]}
    with capture(capture_content=True) as captured:
        outputs = llm.generate(["hello", {"prompt": "good morning"}, tokens], params(stop=["XYZ"]), use_tqdm=False)
        llm.generate("hello", params(detokenize=False), use_tqdm=False)

    found = {span.attributes["gen_ai.response.id"]: content_of(span) for span in captured.requests}
    inputs = [found[output.request_id].get("gen_ai.input.messages") for output in outputs]
    assert inputs == [[text("user", "hello")], [text("user", "good morning")], None]
    for output in outputs:
        [answer] = found[output.request_id]["gen_ai.output.messages"]
        assert "".join(part["content"] for part in answer["parts"]) == output.outputs[0].text
    assert [span.attributes.get("gen_ai.request.stop_sequences") for span in captured.requests] == [("XYZ",)] * 3 + [
        None
    ]
    assert "gen_ai.output.messages" not in captured.requests[-1].attributes


def test_each_of_several_answers_is_a_message(llm: Any) -> None:
    """`n=3`: in the order of their indices, each with the reason why it ended."""
    stop = params(n=3, temperature=1.0, seed=7, max_tokens=20, stop=["a", "e", "i", "o", " "])
    with capture(capture_content=True) as captured:
        [output] = llm.generate("hello", stop, use_tqdm=False)

    [request] = captured.requests
    said = [
        ("".join(part["content"] for part in message["parts"]), message["finish_reason"])
        for message in content_of(request)["gen_ai.output.messages"]
    ]
    assert said == [(answer.text, answer.finish_reason) for answer in output.outputs]


def test_an_event_has_the_content_as_values(llm: Any) -> None:
    """EVENT_ONLY: nothing on the span; the event lies in its trace and says what it was about."""
    with capture(capture_content="EVENT_ONLY") as captured, traceai_vllm.tags(route="support"):
        [output] = llm.chat(CONVERSATION, params(), tools=[WEATHER], use_tqdm=False)

    [request] = captured.requests
    assert content_of(request) == {}
    [log] = captured.logs
    event = log.log_record
    assert event.event_name == "gen_ai.client.inference.operation.details"
    assert (event.trace_id, event.span_id) == (request.context.trace_id, request.context.span_id)
    assert event.attributes["gen_ai.output.messages"][0]["parts"][0]["content"] == output.outputs[0].text
    assert event.attributes["gen_ai.tool.definitions"][0]["name"] == "weather"
    assert event.attributes["gen_ai.input.messages"][3]["parts"][1]["arguments"]["at"] == "Paris"
    named = {"gen_ai.operation.name": "chat", "route": "support", "gen_ai.response.id": output.request_id}
    assert named.items() <= dict(event.attributes).items()


def test_both_places_say_the_same(llm: Any) -> None:
    """SPAN_AND_EVENT."""
    with capture(capture_content="SPAN_AND_EVENT") as captured:
        llm.chat(CONVERSATION, params(), use_tqdm=False)

    [request], [log] = captured.requests, captured.logs
    plain = json.loads(json.dumps({key: log.log_record.attributes[key] for key in content_of(request)}, default=dict))
    assert plain == content_of(request) != {}


def test_a_dropped_sample_has_an_event_and_no_work_for_its_span(llm: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Events do not depend on sampling; where only spans carry content, nothing is read for those sampled off."""
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.sampling import ALWAYS_OFF

    read = []
    monkeypatch.setattr("traceai_vllm.content.content.ContentReader.read", lambda self, source: read.append(source))
    traceai_vllm.instrument(tracer_provider=TracerProvider(sampler=ALWAYS_OFF), capture_content="SPAN_ONLY")
    llm.generate("hello", params(), use_tqdm=False)
    traceai_vllm.uninstrument()
    assert read == []


def test_what_is_redacted_and_cut_says_so(llm: Any) -> None:
    """Patterns, a function, a limit per field; the span counts what was replaced and what is missing."""
    options = ContentOptions(redact=lambda said: said.replace("Ann", "[name]"), max_length=200)
    conversation = [
        {"role": "user", "content": "Earlier: " + "x" * 500},
        {"role": "user", "content": "Ann is ann@example.org, card 4111 1111 1111 1111."},
    ]
    with capture(capture_content=options) as captured:
        llm.chat(conversation, params(), use_tqdm=False)

    [request] = captured.requests
    older, newest = content_of(request)["gen_ai.input.messages"]
    assert newest == text("user", "[name] is [email], card [payment_card].")
    kept, mark = re.fullmatch(r"(Earlier: x+)…\[(\d+) characters left out\]", older["parts"][0]["content"]).groups()
    assert len(kept) + int(mark) == 509
    assert request.attributes["traceai.content.left_out"] == int(mark)
    assert request.attributes["traceai.content.redactions"] == 3


def test_a_redaction_that_fails_lets_nothing_through(llm: Any, caplog: pytest.LogCaptureFixture) -> None:
    """The call is as it was, its texts are left out, and no log quotes them."""

    def redact(said: str) -> str:
        raise RuntimeError(said)

    with capture(capture_content=ContentOptions(ContentMode.SPAN_AND_EVENT, redact=redact)) as captured:
        [output] = llm.chat([{"role": "user", "content": "canary"}], params(), use_tqdm=False)

    assert output.outputs[0].text
    [request] = captured.requests
    assert content_of(request)["gen_ai.input.messages"] == [text("user", FAILED)]
    assert content_of(request)["gen_ai.output.messages"][0]["parts"][0]["content"] == FAILED
    assert "canary" not in exported(captured) + caplog.text


def test_scored_only_is_exported_nowhere(llm: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """SCORE_ONLY: whoever gets the record can read everything; span, event, metrics and store have nothing."""
    from traceai_vllm.telemetry.pipeline import Pipeline

    seen: list[Content] = []
    finish = Pipeline.finish

    def scoring(self: Any, request: Any) -> None:
        finish(self, request)
        seen.append(request.record().content.read())

    monkeypatch.setattr(Pipeline, "finish", scoring)
    with capture(capture_content="SCORE_ONLY", store=tmp_path) as captured:
        [output] = llm.chat([{"role": "user", "content": "canary"}], params(), use_tqdm=False)

    [content] = seen
    assert content.input_messages == [text("user", "canary")]
    assert content.output_messages[0]["parts"][0]["content"] == output.outputs[0].text
    assert "canary" not in exported(captured) + stored(tmp_path)
    assert output.outputs[0].text not in exported(captured) + stored(tmp_path)


def test_an_asynchronous_stream_is_captured_whole(async_engine: Any, run: Run) -> None:
    """What was streamed in pieces, and what had come of it when its consumer left."""

    async def leave() -> str:
        seen = ""
        async for output in async_engine.generate("good morning", async_params(max_tokens=200), "left"):
            seen += output.outputs[0].text
            if len(seen) > 3:
                return seen
        raise AssertionError

    with capture(capture_content=True) as captured:
        pieces = run(collect(async_engine.generate("hello", async_params(), "whole")))
        seen = run(leave())
        run(async_engine.abort("left"))

    whole, left = (content_of(span) for span in captured.requests)
    assert whole["gen_ai.input.messages"] == [text("user", "hello")]
    assert whole["gen_ai.output.messages"] == [
        {**text("assistant", "".join(piece.outputs[0].text for piece in pieces)), "finish_reason": "length"}
    ]
    [answer] = left["gen_ai.output.messages"]
    assert answer["parts"][0]["content"].startswith(seen)
    assert answer["finish_reason"] == "abort"


def test_answers_are_parsed_as_the_server_parses_them(llm: Any, smol_model: str) -> None:
    """vLLM's own reasoning and tool parsers tell thought, text and calls apart; its own counter stays as it was."""
    from transformers import AutoTokenizer
    from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest
    from vllm.parser import ParserManager

    from traceai_vllm.engine.answers import Answer, parsed

    parser_cls = ParserManager.get_parser(
        tool_parser_name="hermes", reasoning_parser_name="granite", enable_auto_tools=True
    )
    handler = SimpleNamespace(
        parser_cls=parser_cls,
        enable_auto_tools=True,
        renderer=SimpleNamespace(tokenizer=AutoTokenizer.from_pretrained(smol_model)),
        _make_parser=lambda request, tokenizer, kwargs: parser_cls(tokenizer, request.tools),
        _effective_chat_template_kwargs=lambda request: {},
    )
    state = SimpleNamespace(prompt_token_ids=[1, 2, 3], detokenizer=SimpleNamespace(output_token_ids=[4, 5]))
    call = '<tool_call>\n{"name": "weather", "arguments": {"at": "Paris"}}\n</tool_call>'
    thought = "Here is my thought process: I look. Here is my response: Wait. "

    def of(said: str, **options: Any) -> Answer:
        messages = [{"role": "user", "content": "hi"}]
        return parsed(said, state, handler, ChatCompletionRequest(model="m", messages=messages, **options))

    answer = of(thought + call, tools=[WEATHER])
    assert answer.reasoning.strip() == "I look."
    assert answer.text.strip() == "Wait."
    [(_, name, arguments)] = answer.tool_calls
    assert (name, json.loads(arguments)) == ("weather", {"at": "Paris"})
    assert of("plain", tools=[WEATHER]).text == "plain"
    assert of(call).text == call  # no tools were offered
    required = of('[{"name": "weather", "parameters": {"at": "Rome"}}]', tools=[WEATHER], tool_choice="required")
    assert required.tool_calls == ((None, "weather", {"at": "Rome"}),)
    named = {"type": "function", "function": {"name": "weather"}}
    assert of('{"at": "Rome"}', tools=[WEATHER], tool_choice=named).tool_calls == ((None, "weather", '{"at": "Rome"}'),)


CANARY = "canary7391"


def exported(captured: Capture) -> str:
    """Return everything that left: spans with their events and status, metrics, logs."""
    return "\n".join(
        [
            *(span.to_json() for span in captured.spans),
            *(f"{span.status.description} {span.events}" for span in captured.spans),
            repr(captured.metrics()),
            *(
                repr((log.log_record.body, log.log_record.attributes, log.log_record.event_name))
                for log in captured.logs
            ),
        ]
    )


def stored(directory: Path) -> str:
    return "\n".join(path.read_bytes().decode("latin-1") for path in directory.rglob("*") if path.is_file())


def test_nothing_of_the_content_leaves_when_capture_is_off(
    llm: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A canary in every field that takes a caller's words, in calls that work and in calls that fail."""
    from vllm.sampling_params import StructuredOutputsParams

    def canary(field: str) -> str:
        return f"{CANARY} {field}"

    conversation = [
        {"role": "system", "content": canary("system")},
        {"role": "user", "name": canary("name"), "content": [{"type": "text", "text": canary("user")}]},
        {
            "role": "assistant",
            "content": canary("assistant"),
            "reasoning": canary("reasoning"),
            "tool_calls": [
                {
                    "id": canary("id"),
                    "type": "function",
                    "function": {"name": canary("function"), "arguments": json.dumps({CANARY: canary("arguments")})},
                }
            ],
        },
        {"role": "tool", "tool_call_id": canary("id"), "content": canary("result")},
    ]
    tool = {"type": "function", "function": {"name": CANARY, "description": canary("tool"), "parameters": {CANARY: {}}}}
    schema = {"type": "object", "description": canary("schema"), "properties": {CANARY: {"type": "integer"}}}
    failing: list[Any] = [
        lambda: llm.chat(
            conversation, params(), chat_template=f"{{{{ raise_exception('{CANARY}') }}}}", use_tqdm=False
        ),
        lambda: llm.chat([{"role": canary("role"), "content": {"type": CANARY}}], params(), use_tqdm=False),
        lambda: llm.chat([{"role": "user", "content": [{"type": CANARY}]}], params(), use_tqdm=False),
        lambda: llm.chat(
            [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": f"https://{CANARY}.invalid"}}]}],
            params(),
            use_tqdm=False,
        ),
        lambda: llm.generate(f"{CANARY} " * 2000, params(), use_tqdm=False),
        lambda: llm.generate({CANARY: CANARY}, params(), use_tqdm=False),
        lambda: llm.generate(
            CANARY, params(structured_outputs=StructuredOutputsParams(regex=f"({CANARY}")), use_tqdm=False
        ),
        lambda: llm.generate(CANARY, params(bad_words=[CANARY], logit_bias={10**9: 1.0}), use_tqdm=False),
    ]
    texts = [canary("tags"), {"text": canary("document"), "title": canary("title")}]
    with (
        capture(store=tmp_path) as captured,
        caplog.at_level(logging.DEBUG, "traceai_vllm"),
        traceai_vllm.tags(context=texts, schema=schema, tools=[tool], expected=[{"name": CANARY, "arguments": {}}]),
    ):
        llm.chat(
            conversation,
            params(stop=[canary("stop")], bad_words=[CANARY], extra_args={CANARY: CANARY}),
            tools=[tool],
            chat_template_kwargs={"documents": [{"text": canary("documents")}], CANARY: CANARY},
            use_tqdm=False,
        )
        llm.generate(canary("prompt"), params(structured_outputs=StructuredOutputsParams(json=schema)), use_tqdm=False)
        salted = {"prompt": canary("prompt"), "cache_salt": canary("salt")}
        llm.generate(salted, params(n=2, temperature=1.0), use_tqdm=False)
        for call in failing:
            with contextlib.suppress(Exception):  # whatever vLLM raises, if it does in this version
                call()

    assert len(captured.requests) >= 3
    assert sum(span.status.status_code.name == "ERROR" for span in captured.spans) > len(failing) / 2
    found = [line for line in (exported(captured) + stored(tmp_path)).splitlines() if CANARY in line]
    assert found == []
    ours = [record.getMessage() for record in caplog.records if record.name.startswith("traceai")]
    assert not any(CANARY in line for line in ours)
