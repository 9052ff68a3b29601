"""A server that speaks OpenAI's and Anthropic's protocols without a model, at a fixed token rate, and can be broken.

    with StubUpstream() as stub:
        requests.post(stub.url + "/v1/chat/completions", json=...)

The answer depends on the request alone (its words come back), so that two ways to the same stub give the same bytes.
As a program, for benchmarks: ``python -m tests.support.stub_upstream --port 8001 --tokens 20 --gap-ms 1``.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import threading
import time
from dataclasses import dataclass, field
from typing import Any

import httptools
import uvloop

HANG = "hang"
LINGER = "linger"  # the stream's last event is sent, its end is not
FAULTS = ("400", "500", "slow", HANG, LINGER, "hang_mid_stream", "garbage", "killed", "truncated", "error_event")


@dataclass
class Seen:
    """A request as the stub got it."""

    method: str
    path: str
    headers: list[tuple[str, str]]
    body: bytes
    cancelled: bool = False

    def header(self, name: str) -> str | None:
        return next((value for key, value in self.headers if key == name), None)

    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Behaviour:
    """How the stub answers; it can be changed while it runs."""

    tokens: int = 8
    gap_s: float = 0.0
    whole_at_once: bool = False
    fault: str | None = None
    slow_s: float = 30.0
    variant: str = ""
    content: str | None = None  # the text of a chat answer, in place of its words
    raw: bytes | None = None  # what every answer is, to the byte, head and all
    keep: bool = True
    paused: bool = False
    seen: list[Seen] = field(default_factory=list)


class StubUpstream:
    """The stub in a thread of this process, on a free port of 127.0.0.1."""

    def __init__(self, port: int = 0, **behaviour: Any) -> None:
        self.behaviour = Behaviour(**behaviour)
        self._port = port
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: uvloop.run(self._serve()), daemon=True)

    def __enter__(self) -> StubUpstream:
        self._thread.start()
        assert self._ready.wait(10)
        return self

    def __exit__(self, *args: object) -> None:
        self.stop()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    @property
    def paused(self) -> bool:
        """Whether a client has been slow enough to fill its socket."""
        return self.behaviour.paused

    @property
    def seen(self) -> list[Seen]:
        return self.behaviour.seen

    def stop(self) -> None:
        """Refuse new connections and cut the old ones, as a killed process does."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stopped.set)
            self._thread.join(10)

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._stopped = asyncio.Event()
        connections: set[_Connection] = set()
        server = await self._loop.create_server(
            lambda: _Connection(self.behaviour, connections), "127.0.0.1", self._port
        )
        self._port = server.sockets[0].getsockname()[1]
        self._ready.set()
        await self._stopped.wait()
        server.close()
        for connection in list(connections):
            connection.transport.abort()


class _Connection(asyncio.Protocol):
    transport: asyncio.Transport

    def __init__(self, behaviour: Behaviour, connections: set[_Connection]) -> None:
        self._behaviour = behaviour
        self._connections = connections
        self._parser = httptools.HttpRequestParser(self)
        self._task: asyncio.Task[None] | None = None
        self._seen: Seen | None = None

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self._connections.add(self)

    def pause_writing(self) -> None:
        self._behaviour.paused = True

    def connection_lost(self, exc: Exception | None) -> None:
        self._connections.discard(self)
        if self._task is not None and not self._task.done():
            if self._seen is not None:
                self._seen.cancelled = True
            self._task.cancel()

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_message_begin(self) -> None:
        self._url, self._headers, self._body = b"", [], []

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers.append((name.decode().lower(), value.decode("latin-1")))

    def on_body(self, body: bytes) -> None:
        self._body.append(body)

    def on_message_complete(self) -> None:
        seen = Seen(self._parser.get_method().decode(), self._url.decode(), self._headers, b"".join(self._body))
        if self._behaviour.keep:
            self._behaviour.seen.append(seen)
        self._seen = seen
        self._task = asyncio.ensure_future(self._answer(seen))

    async def _answer(self, seen: Seen) -> None:
        behaviour = self._behaviour
        if behaviour.raw is not None:
            self.transport.write(behaviour.raw)
            return
        if behaviour.fault == "slow":
            await asyncio.sleep(behaviour.slow_s)
        elif behaviour.fault == HANG:
            await asyncio.Event().wait()
        elif behaviour.fault in ("400", "500"):
            self._whole(b'{"error":{"message":"broken","type":"internal_error"}}', int(behaviour.fault))
            return
        elif behaviour.fault == "garbage":
            self._whole(b"\x00\xff<html>{]", 200)
            return
        path = seen.path.partition("?")[0]
        # An OTLP receiver too, for benchmarks: what is sent elsewhere is taken and forgotten.
        body = json.loads(seen.body) if seen.body and path != "/v1/traces" else {}
        if body.get("stream"):
            await self._stream(list(stream_of(path, body, behaviour)))
        else:
            if behaviour.gap_s and not behaviour.whole_at_once:
                await asyncio.sleep(behaviour.gap_s * behaviour.tokens)
            self._whole(document_of(path, body, behaviour), 200)

    def _whole(self, content: bytes, status: int) -> None:
        self.transport.write(
            b"HTTP/1.1 %d OK\r\ncontent-type: application/json\r\nx-stub: 1\r\nconnection: keep-alive\r\n"
            b"content-length: %d\r\n\r\n%s" % (status, len(content), content)
        )

    async def _stream(self, events: list[bytes]) -> None:
        fault, gap = self._behaviour.fault, self._behaviour.gap_s
        self.transport.write(
            b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\nx-stub: 1\r\n"
            b"transfer-encoding: chunked\r\n\r\n"
        )
        due = time.monotonic()
        for index, event in enumerate(events):
            if index == len(events) // 2 and fault is not None and await self._break_mid_stream(fault):
                return
            self.transport.write(b"%x\r\n%s\r\n" % (len(event), event))
            if gap:
                due += gap
                await asyncio.sleep(max(0.0, due - time.monotonic()))
        if fault == LINGER:
            await asyncio.Event().wait()
        self.transport.write(b"0\r\n\r\n")

    async def _break_mid_stream(self, fault: str) -> bool:
        if fault == "hang_mid_stream":
            await asyncio.Event().wait()
        elif fault == "killed":
            self.transport.abort()
        elif fault == "truncated":
            self.transport.write(b"0\r\n\r\n")
        elif fault == "error_event":
            event = b'data: {"error":{"message":"engine died","type":"EngineDeadError"}}\n\n'
            self.transport.write(b"%x\r\n%s\r\n0\r\n\r\n" % (len(event), event))
        else:
            return False
        return True


def words_of(body: dict[str, Any], behaviour: Behaviour) -> list[str]:
    digest = hashlib.sha256(
        json.dumps([body.get("messages"), body.get("prompt"), body.get("input")]).encode()
    ).hexdigest()
    return [f"{behaviour.variant}{digest[i % 60 : i % 60 + 3]} " for i in range(behaviour.tokens)]


def _sse(document: Any, event: str | None = None) -> bytes:
    name = f"event: {event}\n" if event else ""
    return f"{name}data: {json.dumps(document)}\n\n".encode()


def _usage(behaviour: Behaviour) -> dict[str, int]:
    return {"prompt_tokens": 5, "completion_tokens": behaviour.tokens, "total_tokens": 5 + behaviour.tokens}


def stream_of(path: str, body: dict[str, Any], behaviour: Behaviour) -> Any:
    """Yield the events of a streamed answer."""
    words, model = words_of(body, behaviour), body.get("model")
    if path == "/v1/chat/completions":
        head = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": model}
        for delta in _chat_deltas(words, body):
            yield _sse({**head, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]})
        reason = "tool_calls" if body.get("tools") else "stop"
        yield _sse({**head, "choices": [{"index": 0, "delta": {}, "finish_reason": reason}]})
        if (body.get("stream_options") or {}).get("include_usage"):
            yield _sse({**head, "choices": [], "usage": _usage(behaviour)})
        yield b"data: [DONE]\n\n"
    elif path == "/v1/completions":
        head = {"id": "cmpl-1", "object": "text_completion", "created": 1, "model": model}
        for i, word in enumerate(words):
            reason = "length" if i == len(words) - 1 else None
            yield _sse({**head, "choices": [{"index": 0, "text": word, "finish_reason": reason}]})
        yield b"data: [DONE]\n\n"
    elif path == "/v1/responses":
        for word in words:
            yield _sse(
                {"type": "response.output_text.delta", "output_index": 0, "delta": word}, "response.output_text.delta"
            )
        whole = json.loads(document_of(path, body, behaviour))
        yield _sse({"type": "response.completed", "response": whole}, "response.completed")
    elif path == "/v1/messages":
        message = {"id": "msg_1", "model": model, "usage": {"input_tokens": 5, "output_tokens": 0}}
        yield _sse({"type": "message_start", "message": message}, "message_start")
        block = {"type": "text", "text": ""}
        yield _sse({"type": "content_block_start", "index": 0, "content_block": block}, "content_block_start")
        for word in words:
            delta = {"type": "text_delta", "text": word}
            yield _sse({"type": "content_block_delta", "index": 0, "delta": delta}, "content_block_delta")
        usage = {"output_tokens": behaviour.tokens}
        yield _sse({"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": usage}, "message_delta")
        yield _sse({"type": "message_stop"}, "message_stop")


def _chat_deltas(words: list[str], body: dict[str, Any]) -> Any:
    yield {"role": "assistant", "content": ""}
    if not body.get("tools"):
        yield from ({"content": word} for word in words)
        return
    name = body["tools"][0]["function"]["name"]
    function = {"name": name, "arguments": ""}
    yield {"tool_calls": [{"index": 0, "id": "call_1", "type": "function", "function": function}]}
    text = json.dumps({"say": "".join(words)})
    for start in range(0, len(text), 7):
        yield {"tool_calls": [{"index": 0, "function": {"arguments": text[start : start + 7]}}]}


def document_of(path: str, body: dict[str, Any], behaviour: Behaviour) -> bytes:
    """Return an answer that is not streamed."""
    text, model, usage = "".join(words_of(body, behaviour)), body.get("model"), _usage(behaviour)
    if path == "/v1/chat/completions":
        text = text if behaviour.content is None else behaviour.content
        choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
        made: Any = {
            "id": "chatcmpl-1",
            "object": "chat.completion",
            "model": model,
            "choices": [choice],
            "usage": usage,
        }
    elif path == "/v1/completions":
        choice = {"index": 0, "text": text, "finish_reason": "length"}
        made = {"id": "cmpl-1", "object": "text_completion", "model": model, "choices": [choice], "usage": usage}
    elif path == "/v1/responses":
        output = [{"type": "message", "content": [{"type": "output_text", "text": text}]}]
        counts = {"input_tokens": 5, "output_tokens": behaviour.tokens}
        made = {"id": "resp_1", "model": model, "status": "completed", "output": output, "usage": counts}
    elif path == "/v1/messages":
        counts = {"input_tokens": 5, "output_tokens": behaviour.tokens}
        content = [{"type": "text", "text": text}]
        made = {"id": "msg_1", "model": model, "content": content, "stop_reason": "end_turn", "usage": counts}
    elif path == "/v1/embeddings":
        made = {"object": "list", "model": model, "data": [{"index": 0, "embedding": [0.5, len(text)]}], "usage": usage}
    elif path == "/v1/models":
        made = {"object": "list", "data": [{"id": "stub", "object": "model"}]}
    else:
        made = {}
    return json.dumps(made).encode()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--tokens", type=int, default=8)
    parser.add_argument("--gap-ms", type=float, default=0.0)
    parser.add_argument("--whole-at-once", action="store_true", help="the gap is for streams alone")
    parser.add_argument("--fault", choices=FAULTS)
    parser.add_argument("--variant", default="", help="goes before each word of the answers")
    given = parser.parse_args()
    gap_s, at_once = given.gap_ms / 1000, given.whole_at_once
    stub = StubUpstream(
        given.port,
        tokens=given.tokens,
        gap_s=gap_s,
        whole_at_once=at_once,
        fault=given.fault,
        variant=given.variant,
        keep=False,
    )
    with stub:
        stub._thread.join()


if __name__ == "__main__":
    main()
