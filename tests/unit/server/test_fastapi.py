"""One SERVER span per HTTP request, by OpenTelemetry's instrumentation, whichever way in turned it on."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from fastapi import BackgroundTasks, FastAPI, Request, WebSocket
from fastapi.responses import FileResponse, JSONResponse, Response, StreamingResponse
from opentelemetry import context, propagate
from opentelemetry.context import Context
from opentelemetry.propagators.textmap import TextMapPropagator, default_getter
from opentelemetry.trace import NonRecordingSpan, SpanContext, SpanKind, StatusCode, TraceFlags, set_span_in_context
from starlette.testclient import TestClient

import traceai_vllm
from tests.unit.server.asgi import call
from tests.unit.server.conftest import application
from traceai_vllm.server import ServerOptions
from traceai_vllm.server.served import served_in
from traceai_vllm.telemetry.tags import tags_in
from traceai_vllm.testing import capture

TRACE_ID = "0af7651916cd43dd8448eb211c80319c"
TRACEPARENT = f"00-{TRACE_ID}-b7ad6b7169203331-01"
FIRST_CHUNK = "gen_ai.response.time_to_first_chunk"


def test_a_streamed_response_is_one_server_span_with_the_time_to_its_first_chunk(captured, app) -> None:
    """Not one per chunk; it joins the caller's trace."""
    with TestClient(app) as client:
        client.post("/v1/chat/completions", headers={"traceparent": TRACEPARENT})
    (span,) = captured.spans
    assert (span.name, span.kind) == ("POST /v1/chat/completions", SpanKind.SERVER)
    assert format(span.context.trace_id, "032x") == TRACE_ID
    assert 0 < span.attributes[FIRST_CHUNK] < (span.end_time - span.start_time) / 1e9


def test_a_response_without_a_body_has_no_first_chunk(captured) -> None:
    """The server sends an empty part then, which is nothing that a client could read."""
    app = FastAPI()

    @app.get("/nothing")
    async def nothing() -> Response:
        return Response(status_code=204)

    with TestClient(app) as client:
        assert client.get("/nothing").status_code == 204
    (span,) = captured.spans
    assert FIRST_CHUNK not in span.attributes


def test_health_checks_and_scrapes_have_no_span(captured, client) -> None:
    for path in ("/health", "/ping", "/metrics", "/metrics/", "/load", "/version"):
        client.get(path)
    client.get("/healthy")
    assert [span.attributes["http.target"] for span in captured.spans] == ["/healthy"]


def test_a_failure_is_an_error_with_the_class_of_the_exception(captured, client) -> None:
    assert client.get("/boom").status_code == 500
    (span,) = captured.spans
    assert (span.status.status_code, span.attributes["error.type"]) == (StatusCode.ERROR, "RuntimeError")
    assert span.attributes["http.status_code"] == 500


@pytest.mark.parametrize("status", [500, 503])
def test_an_answer_that_says_500_is_an_error_with_the_status_as_its_type(captured, status) -> None:
    """vLLM's handlers of exceptions make such answers: no exception comes to a middleware."""
    app = FastAPI()

    @app.post("/answer")
    async def answer() -> JSONResponse:
        return JSONResponse({"error": "the engine is dead"}, status_code=status)

    asyncio.run(call(app, "/answer"))
    (span,) = captured.spans
    assert (span.status.status_code, span.attributes["error.type"]) == (StatusCode.ERROR, str(status))


@pytest.mark.parametrize("streamed", [False, True])
def test_what_is_known_at_the_end_of_a_response_is_still_on_its_span(captured, streamed) -> None:
    """Usage, for one; it is asked for once, with the last part, and lets go of the request and its body then."""
    app, asked, requests = FastAPI(), [], []

    @app.post("/answer")
    async def answer() -> Any:
        requests.append(served_in(context.get_current()))
        requests[0].at_end = lambda span: asked.append(span.set_attribute("known", "late"))

        async def chunks() -> Any:
            for text in ("a", "b", "c"):
                yield text
                assert asked == []

        return StreamingResponse(chunks()) if streamed else "abc"

    asyncio.run(call(app, "/answer"))
    (span,) = captured.spans
    assert span.attributes["known"] == "late"
    assert len(asked) == 1
    assert requests[0].at_end is None


def test_a_refused_request_has_a_span_without_an_error_of_the_server(captured, client) -> None:
    client.get("/nowhere")
    (span,) = captured.spans
    assert (span.status.status_code, span.attributes["http.status_code"]) == (StatusCode.UNSET, 404)


@pytest.mark.parametrize("when", ["before", "after"])
def test_an_application_that_is_instrumented_already_is_not_doubled(when) -> None:
    """`opentelemetry-instrument` or a line of the user's, and ours: one span per request."""
    from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor

    app = application()
    with capture() as captured:
        if when == "before":
            FastAPIInstrumentor.instrument_app(app, tracer_provider=captured.tracer_provider)
        with TestClient(app) as client:
            client.post("/v1/chat/completions", headers={"x-route": "support"})
            if when == "after":
                FastAPIInstrumentor.instrument_app(app, tracer_provider=captured.tracer_provider)
            assert client.get("/tags", headers={"x-route": "support"}).json()["route"] == "support"
    assert len(captured.spans) == 2


def test_uninstrument_takes_the_span_and_the_tags_away_again(app) -> None:
    with capture() as captured, TestClient(app) as client:
        client.get("/tags")
    with TestClient(app) as client:
        assert client.get("/tags", headers={"x-route": "support"}).json() == {"operation": None}
    assert len(captured.spans) == 1


def test_a_second_instrument_gives_an_application_its_spans_back(app) -> None:
    """With the settings of the second, also where the application served requests in between."""
    client = TestClient(app)
    with capture() as captured:
        client.get("/tags")
    client.get("/tags")
    with capture(server=ServerOptions(headers={"route": "x-feature"})) as again:
        assert client.get("/tags", headers={"x-feature": "support"}).json()["route"] == "support"
    assert (len(captured.spans), len(again.spans)) == (1, 1)


def test_server_false_leaves_applications_alone(app) -> None:
    with capture(server=False) as captured, TestClient(app) as client:
        assert client.get("/tags", headers={"x-route": "support"}).json() == {"operation": None}
    assert captured.spans == []


@pytest.mark.parametrize("server", [{"trust_callers": False}, "off", 0])
def test_what_is_no_option_of_the_server_is_refused(server) -> None:
    """It would be taken for True, and callers be believed; nothing is turned on then."""
    with pytest.raises(TypeError, match=r"server=\.\.\.\) takes True, False or ServerOptions, not"):
        traceai_vllm.instrument(server=server)
    assert not traceai_vllm.VLLMInstrumentor().is_instrumented_by_opentelemetry


def test_an_untrusted_caller_gets_a_trace_of_its_own(app) -> None:
    """And the application still sees the headers as they came."""

    @app.get("/seen")
    async def seen(request: Request) -> list[str]:
        return sorted({*request.headers} & {"traceparent", "baggage", "x-route"})

    sent = {"traceparent": TRACEPARENT, "baggage": "route=a", "x-route": "b"}
    with capture(server=ServerOptions(trust_callers=False)) as captured, TestClient(app) as client:
        assert client.get("/seen", headers=sent).json() == ["baggage", "traceparent", "x-route"]
        assert client.get("/tags", headers=sent).json() == {"operation": None}
    assert len(captured.spans) == 2
    for span in captured.spans:
        assert span.parent is None
        assert format(span.context.trace_id, "032x") != TRACE_ID


class OtherHeaders(TextMapPropagator):
    """Takes a trace from another header than W3C's, which need not be one that it writes."""

    fields = frozenset()

    def __init__(self, header: str, fields: set[str]) -> None:
        self.header, self.fields = header, fields

    def extract(self, carrier, context=None, getter=default_getter):
        (found,) = getter.get(carrier, self.header) or [None]
        parent = SpanContext(int(found, 16), 1, is_remote=True, trace_flags=TraceFlags(1)) if found else None
        return set_span_in_context(NonRecordingSpan(parent), context) if parent else context or Context()

    def inject(self, carrier, context=None, setter=None) -> None: ...


@pytest.mark.parametrize(
    ("header", "fields"), [("x-b3-traceid", {"b3"}), ("x-amzn-trace-id", set()), ("X-Ours", {"X-Ours"})]
)
def test_an_untrusted_caller_is_not_believed_in_another_format_either(app, monkeypatch, header, fields) -> None:
    """`OTEL_PROPAGATORS=b3` reads more headers than it says that it writes; an application may have its own."""
    monkeypatch.setattr(propagate, "_HTTP_TEXT_FORMAT", OtherHeaders(header, fields))
    for trusted in (True, False):
        with capture(server=ServerOptions(trust_callers=trusted)) as captured, TestClient(app) as client:
            client.get("/tags", headers={header: TRACE_ID})
        (span,) = captured.spans
        assert (format(span.context.trace_id, "032x") == TRACE_ID) is trusted


def test_without_their_instrumentation_the_trace_is_joined_all_the_same(app, captured, monkeypatch) -> None:
    """The package is an extra: without it there is no SERVER span, and a warning says so."""
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with TestClient(app) as client:
        assert client.get("/trace", headers={"traceparent": TRACEPARENT}).json() == TRACE_ID
        assert client.get("/tags", headers={"baggage": "route=support"}).json()["route"] == "support"
    assert captured.spans == []


def test_opentelemetrys_own_switch_is_obeyed(app, captured, monkeypatch) -> None:
    """No SERVER span where the operator has disabled them; the trace and the tags are taken all the same."""
    monkeypatch.setenv("OTEL_PYTHON_DISABLED_INSTRUMENTATIONS", "redis, fastapi")
    with TestClient(app) as client:
        assert client.get("/trace", headers={"traceparent": TRACEPARENT}).json() == TRACE_ID
        assert client.get("/tags", headers={"x-route": "support"}).json()["route"] == "support"
    assert captured.spans == []


@pytest.mark.parametrize(
    ("path", "operation"),
    [
        ("/v1/chat/completions", "chat"),
        ("/v1/audio/transcriptions", "transcription"),
        ("/v2/rerank", "rerank"),
        ("/classify", "classify"),
        ("/pooling", None),
        ("/mine", None),
    ],
)
@pytest.mark.parametrize("root_path", ["", "/behind/a/proxy"])
def test_the_url_says_the_operation(captured, path, operation, root_path) -> None:
    app, seen = FastAPI(root_path=root_path), []

    @app.post(path)
    async def endpoint() -> None:
        served = served_in(context.get_current())
        seen.append(served and served.operation)

    messages = asyncio.run(call(app, root_path + path, root_path=root_path))
    assert (messages[0]["status"], seen) == (200, [operation])


def test_a_websocket_has_its_callers_tags_and_trace(captured) -> None:
    """vLLM's realtime API is one; it has no response that begins or ends."""
    app = FastAPI()

    @app.websocket("/v1/realtime")
    async def realtime(socket: WebSocket) -> None:
        await socket.accept()
        await socket.send_json(dict(tags_in(context.get_current())))
        await socket.close()

    with (
        TestClient(app) as client,
        client.websocket_connect("/v1/realtime", headers={"x-route": "voice", "traceparent": TRACEPARENT}) as socket,
    ):
        assert socket.receive_json() == {"route": "voice"}
    (span,) = captured.spans
    assert (span.kind, format(span.context.trace_id, "032x")) == (SpanKind.SERVER, TRACE_ID)


@pytest.mark.parametrize("name", [b"host", b"user-agent", b"traceparent", b"baggage", b"x-other"])
def test_bytes_that_their_middleware_cannot_read_do_not_fail_the_request(captured, name) -> None:
    """OpenTelemetry's ASGI middleware raises for them; the application answers, and sees them as they came."""
    app, seen = FastAPI(), []

    @app.post("/echo")
    async def echo(request: Request) -> None:
        seen.append((dict(request.scope["headers"])[name], request.scope["query_string"]))

    odd = b"\xff\\u12"
    messages = asyncio.run(call(app, "/echo", 9, headers=[(name, odd)], query_string=b"a=" + odd))
    assert messages[0]["status"] == 200
    assert seen == [(odd, b"a=" + odd)]
    assert len(captured.spans) == 1


@pytest.mark.parametrize("capture_content", [False, True])
def test_a_query_is_content(capture_content) -> None:
    """What stands in a URL's query was written by a caller; the application sees it all the same."""
    app, seen = FastAPI(), []

    @app.post("/ask")
    async def ask(request: Request, question: str) -> None:
        seen.append((question, request.url.query))

    with capture(capture_content=capture_content) as captured:
        asyncio.run(call(app, "/ask", query_string=b"question=canary"))
    (span,) = captured.spans
    assert seen == [("canary", "question=canary")]
    assert ("canary" in span.to_json()) == capture_content


def failing_application() -> FastAPI:
    app = FastAPI()

    @app.post("/fail")
    async def fail(request: Request) -> None:
        raise KeyError((await request.body()).decode())

    @app.post("/stream")
    async def stream(request: Request) -> StreamingResponse:
        question = (await request.body()).decode()

        async def chunks() -> Any:
            yield "first"
            raise RuntimeError(f"cannot parse {question}")

        return StreamingResponse(chunks())

    return app


@pytest.mark.parametrize("capture_content", [False, "EVENT_ONLY", True])
@pytest.mark.parametrize("theirs", [False, True])
@pytest.mark.parametrize(("path", "error"), [("/fail", "KeyError"), ("/stream", "RuntimeError")])
def test_what_an_exception_says_is_content(path, error, theirs, capture_content) -> None:
    """It may quote the request, and so may the values in a stack trace's lines. Its class is always there."""
    from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor

    app = failing_application()
    with capture(capture_content=capture_content) as captured:
        if theirs:  # as under `opentelemetry-instrument`
            FastAPIInstrumentor.instrument_app(app, tracer_provider=captured.tracer_provider)
        TestClient(app, raise_server_exceptions=False).post(path, content="canary")
    (span,) = captured.spans
    assert ("canary" in span.to_json()) == (capture_content is True)
    assert (span.status.status_code, span.attributes["error.type"]) == (StatusCode.ERROR, error)
    assert {event.attributes["exception.type"] for event in span.events} == {error}


@pytest.mark.parametrize("theirs", ["", "with a provider", "before there was a provider"])
@pytest.mark.parametrize("capture_content", [None, True])
def test_a_background_task_that_fails_has_the_class_alone_on_its_span(capture_content, theirs, monkeypatch) -> None:
    """OpenTelemetry's instrumentation gives each task of a response a span of its own, beside the SERVER span."""
    from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor

    app = FastAPI()

    @app.post("/ask")
    async def ask(tasks: BackgroundTasks) -> None:
        tasks.add_task(int, "canary")

    FastAPIInstrumentor.uninstrument_app(FastAPI())  # their hook on tasks is one for all applications: the first one's
    with capture(capture_content=capture_content) as captured:
        if theirs == "with a provider":
            FastAPIInstrumentor.instrument_app(app, tracer_provider=captured.tracer_provider)
        elif theirs:
            monkeypatch.setattr("opentelemetry.trace._TRACER_PROVIDER", None)
            FastAPIInstrumentor.instrument_app(app)
            monkeypatch.setattr("opentelemetry.trace._TRACER_PROVIDER", captured.tracer_provider)
        TestClient(app, raise_server_exceptions=False).post("/ask")
    FastAPIInstrumentor.uninstrument_app(app)
    _, span = captured.spans
    assert (span.name, span.status.status_code) == ("BackgroundTask int", StatusCode.ERROR)
    assert ("canary" in span.to_json()) == (capture_content is True)
    assert [event.attributes["exception.type"] for event in span.events] == ["ValueError"]


def test_exceptions_in_a_mounted_application_say_nothing_either(captured) -> None:
    app = FastAPI()
    app.mount("/inner", failing_application())
    with TestClient(app, raise_server_exceptions=False) as client:
        client.post("/inner/stream", content="canary")
    assert captured.spans
    assert not any("canary" in span.to_json() for span in captured.spans)


def test_the_description_of_a_failure_is_its_class(captured) -> None:
    with TestClient(failing_application(), raise_server_exceptions=False) as client:
        client.post("/stream")
    (span,) = captured.spans
    assert span.status.description == "RuntimeError"


@pytest.mark.parametrize("theirs", [False, True])
def test_an_application_that_has_served_before_is_left_as_it_is(theirs) -> None:
    """Its middleware is built, ours is not in it: nothing may be kept from it then."""
    from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor

    app, seen = FastAPI(), []

    @app.post("/ask")
    async def ask(question: str, request: Request) -> None:
        seen.append((question, "traceparent" in request.headers))

    headers = [(b"traceparent", TRACEPARENT.encode())]
    if theirs:
        FastAPIInstrumentor.instrument_app(app)
    asyncio.run(call(app, "/ask", query_string=b"question=a"))
    with capture(server=ServerOptions(trust_callers=False)):
        asyncio.run(call(app, "/ask", query_string=b"question=b", headers=headers))
    assert seen == [("a", False), ("b", True)]


def test_long_urls_and_headers_do_not_fill_the_memory_with_waiting_spans() -> None:
    """vLLM's server takes them at any length. Of a megabyte the span has some thousand characters."""
    app, seen = FastAPI(), []

    @app.post("/{path:path}")
    async def echo(request: Request, path: str) -> None:
        seen.append((len(path), len(request.headers["user-agent"]), len(request.headers["x-long"])))

    size = 1_000_000
    headers = [(b"user-agent", b"a" * size), (b"x-long", b"b" * size), (b"traceparent", TRACEPARENT.encode())]
    with capture(capture_content=True) as captured:
        asyncio.run(call(app, "/" + "c" * size, headers=headers, query_string=b"d" * size))
    (span,) = captured.spans
    assert seen == [(size, size, size)]
    assert format(span.context.trace_id, "032x") == TRACE_ID
    assert len(span.to_json()) < 12_000


def test_made_up_hosts_are_shown_up_to_a_number(captured, app) -> None:
    """Under `opentelemetry-instrument` there are metrics by host; a client may write any name there."""
    for number in range(150):
        asyncio.run(call(app, "/nowhere", headers=[(b"host", b"host-%d" % number)]))
    asyncio.run(call(app, "/nowhere", headers=[(b"host", b"host-0")]))
    hosts = [span.attributes.get("http.server_name") for span in captured.spans]
    assert hosts[:100] == [f"host-{number}" for number in range(100)]
    assert hosts[100:] == [None] * 50 + ["host-0"]


def test_a_client_that_leaves_in_mid_stream_is_an_error_of_the_span(captured) -> None:
    app = FastAPI()

    @app.post("/stream")
    async def stream() -> StreamingResponse:
        async def chunks() -> Any:
            yield "first"
            await asyncio.Event().wait()

        return StreamingResponse(chunks())

    asyncio.run(call(app, "/stream", leave_after=1))
    (span,) = captured.spans
    assert (span.status.status_code, span.attributes["error.type"]) == (StatusCode.ERROR, "cancelled")
    assert span.attributes[FIRST_CHUNK] > 0


def test_a_file_that_the_server_sends_by_itself_is_no_error(captured) -> None:
    """Some servers take its path (`http.response.pathsend`): there is no last part of a body then."""
    app = FastAPI()

    @app.post("/file")
    async def file() -> FileResponse:
        return FileResponse(__file__)

    messages = asyncio.run(call(app, "/file", extensions={"http.response.pathsend": {}}))
    assert [message["type"] for message in messages] == ["http.response.start", "http.response.pathsend"]
    (span,) = captured.spans
    assert span.status.status_code == StatusCode.UNSET
    assert "error.type" not in span.attributes


def test_a_response_that_was_sent_to_its_end_is_no_error(captured, app) -> None:
    """Even though the server says at once that the connection is over."""
    asyncio.run(call(app, "/v1/chat/completions", leave_after=4))
    (span,) = captured.spans
    assert span.status.status_code == StatusCode.UNSET
    assert "error.type" not in span.attributes
