"""Requests as they were recorded on spans with content, and the bodies that ask them again."""

from __future__ import annotations

import json
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from traceai_vllm.content.messages import CONTEXT, MARK
from traceai_vllm.gateway import names
from traceai_vllm.gateway.body import Body
from traceai_vllm.store import connect
from traceai_vllm.telemetry import semconv

if TYPE_CHECKING:
    from pathlib import Path

# In a trace with arms of the gateway, the servers' spans below them are the same requests again.
_QUERY = f"""
SELECT trace_id, span_id, name, start_time_unix_nano, end_time_unix_nano, attributes,
  scope = 'traceai_vllm.gateway' AND operation = 'text_completion'
FROM spans
WHERE operation IN ('chat', 'text_completion')
  AND attributes->>'$."{semconv.INPUT_MESSAGES}"' IS NOT NULL
  AND coalesce(attributes->>'$."{names.PAIR_ARM}"', 'baseline') = 'baseline'
  AND error_type IS NULL
QUALIFY (scope = 'traceai_vllm.gateway') >= bool_or(scope = 'traceai_vllm.gateway') OVER (PARTITION BY trace_id)
ORDER BY start_time_unix_nano, span_id
"""
_PARAMETERS = {
    semconv.REQUEST_TEMPERATURE: "temperature",
    semconv.REQUEST_TOP_P: "top_p",
    semconv.REQUEST_TOP_K: "top_k",
    semconv.REQUEST_MAX_TOKENS: "max_tokens",
    semconv.REQUEST_SEED: "seed",
    semconv.REQUEST_FREQUENCY_PENALTY: "frequency_penalty",
    semconv.REQUEST_PRESENCE_PENALTY: "presence_penalty",
    semconv.REQUEST_CHOICE_COUNT: "n",
    semconv.REQUEST_STOP_SEQUENCES: "stop",
}
_JUDGED_BY = (semconv.RETRIEVED_CONTEXT, semconv.OUTPUT_SCHEMA, semconv.EXPECTED_CALLS)
# As clients write JSON: Python's json, httpx and browsers. The hash of a prompt is that of its bytes.
_SPELLINGS: tuple[dict[str, Any], ...] = (
    {"ensure_ascii": False},
    {"ensure_ascii": False, "separators": (",", ":")},
    {"ensure_ascii": True},
)
# Whatever stands in a span: attributes may be cut by a limit of the SDK's, or written by others.
_UNREADABLE = (ValueError, TypeError, KeyError, AttributeError, RecursionError)


class NotReplayable(ValueError):
    """The request was not recorded whole; the message says what is missing."""


@dataclass(frozen=True)
class Recorded:
    """A request, with what its span says.

    Attributes:
        trace_id: 32 hexadecimal digits.
        span_id: 16 hexadecimal digits.
        name: the span's name.
        start_ns: when it began, nanoseconds since the epoch.
        end_ns: when it ended.
        attributes: the span's attributes.
        bare_prompt: whether a bare prompt was sent to ``/v1/completions``, as a gateway's span tells; an engine's does
            not, where ``LLM.chat`` is a completion too.
    """

    trace_id: str
    span_id: str
    name: str
    start_ns: int
    end_ns: int
    attributes: dict[str, Any]
    bare_prompt: bool = False

    @property
    def judged_by(self) -> dict[str, Any]:
        """What ``tags(...)`` gave to evaluators with it, which is not sent: the replay's answer is judged by it too."""
        return {key: self.attributes[key] for key in _JUDGED_BY if key in self.attributes}

    @property
    def path(self) -> str:
        """Where it is asked again."""
        return "/v1/completions" if self.bare_prompt else "/v1/chat/completions"

    @property
    def pair_id(self) -> str:
        """What its answer and that of its replay share; the same each time that it is replayed."""
        return sha256(f"replay {self.trace_id} {self.span_id}".encode()).hexdigest()[:32]

    def body(self, model: str | None) -> bytes:
        """Return the body that asks the same again, at :attr:`path`.

        Args:
            model: the model to ask for; as it was recorded when None.

        Raises:
            NotReplayable: something of the request was cut off, is no text, or was not recorded.
        """
        try:
            return self._body(model)
        except NotReplayable:
            raise
        except _UNREADABLE:
            raise NotReplayable("what is recorded of it cannot be read, or was cut on its way to the store") from None

    def _body(self, model: str | None) -> bytes:
        attributes = self.attributes
        if attributes.get(semconv.CONTENT_LEFT_OUT):
            raise NotReplayable("its content was cut when it was recorded")
        content: dict[str, Any] = {"model": model or attributes.get(semconv.REQUEST_MODEL)}
        content |= self._prompt() if self.bare_prompt else self._conversation()
        if attributes.get(semconv.OUTPUT_TYPE) == "json":
            content["response_format"] = _response_format(attributes)
        content.update({name: attributes[key] for key, name in _PARAMETERS.items() if key in attributes})
        asked = attributes.get(names.PAIR_PROMPT_HASH)
        for body in (json.dumps(content, **spelling).encode() for spelling in _SPELLINGS):
            if asked is None or Body(body).prompt_hash() == asked:
                return body
        raise NotReplayable("its prompt is not recorded as it was asked: redacted, or with fields that no span holds")

    def _prompt(self) -> dict[str, Any]:
        parts = [part for message in _json(self.attributes, semconv.INPUT_MESSAGES) for part in message["parts"]]
        if len(parts) != 1 or parts[0]["type"] != "text":
            raise NotReplayable("its prompt is not one text")
        return {"prompt": _text(parts[0])}

    def _conversation(self) -> dict[str, Any]:
        attributes = self.attributes
        content: dict[str, Any] = {}
        system = "".join(map(_text, _json(attributes, semconv.SYSTEM_INSTRUCTIONS)))
        content["messages"] = [{"role": "system", "content": system}] if system else []
        context = _json(attributes, semconv.RETRIEVED_CONTEXT)
        marked = {each.get("content") for each in context if each.get("source") == "message"}
        for message in _json(attributes, semconv.INPUT_MESSAGES):
            content["messages"] += _messages(message, marked)
        tools = [_tool(tool) for tool in _json(attributes, semconv.TOOL_DEFINITIONS)]
        documents = [_document(each) for each in context if each.get("source") == "documents"]
        for name, value in (("tools", tools), ("documents", documents)):
            if value:
                content[name] = value
        choice = attributes.get(semconv.TOOL_CHOICE)
        if tools and isinstance(choice, str):
            content["tool_choice"] = json.loads(choice)
        return content


def recorded_in(store: Path) -> list[Recorded]:
    """Return the requests in a store that carry their content and were answered, oldest first.

    Raises:
        FileNotFoundError: there is no store.
        ImportError: DuckDB is not installed.
    """
    with connect(store) as connection:
        rows = connection.execute(_QUERY).fetchall()
    return [
        Recorded(trace_id, span_id, name, start_ns, end_ns, json.loads(attributes), bool(bare_prompt))
        for trace_id, span_id, name, start_ns, end_ns, attributes, bare_prompt in rows
    ]


def replayed_in(store: Path, arm: str = "candidate") -> set[str]:
    """Return the pair ids in a store that have an answer of an arm; none when there is no store yet."""
    if not store.is_dir():
        return set()
    query = f"""SELECT attributes->>'$."{names.PAIR_ID}"' FROM spans
        WHERE attributes->>'$."{names.PAIR_ARM}"' = ? AND error_type IS NULL"""
    with connect(store) as connection:
        return {pair_id for (pair_id,) in connection.execute(query, [arm]).fetchall()}


def _json(attributes: dict[str, Any], key: str) -> list[Any]:
    value = attributes.get(key)
    return json.loads(value) if isinstance(value, str) else []


def _response_format(attributes: dict[str, Any]) -> dict[str, Any]:
    text = attributes.get(semconv.OUTPUT_SCHEMA)
    schema = json.loads(text) if isinstance(text, str) else None
    if isinstance(schema, str):  # vLLM takes a schema as text too
        schema = json.loads(schema)
    if not isinstance(schema, dict):
        return {"type": "json_object"}
    if "json_schema" in schema or schema.get("type") == "json_object":
        return schema
    if schema.get("type") == "json_schema":  # of the responses API
        return {"type": "json_schema", "json_schema": {key: item for key, item in schema.items() if key != "type"}}
    return {"type": "json_schema", "json_schema": {"name": "recorded", "schema": schema}}


def _messages(message: dict[str, Any], marked: set[Any]) -> list[dict[str, Any]]:
    texts, calls, made = [], [], []
    for part in message.get("parts", ()):
        if part["type"] == "text":
            texts.append(_text(part))
        elif part["type"] == "tool_call":
            calls.append(_call(part))
        elif part["type"] == "tool_call_response":
            answer = part.get("response")
            text = answer if isinstance(answer, str) else json.dumps(answer, ensure_ascii=False)
            made.append({"role": "tool", "tool_call_id": part.get("id", ""), "content": text})
        elif part["type"] != "reasoning":
            raise NotReplayable(f"a part of it is {part['type']}, which is not recorded")
    if texts or calls or not made:
        said: dict[str, Any] = {"role": message.get("role", "user"), "content": _content(texts, marked)}
        made.insert(0, {**said, "tool_calls": calls} if calls else said)
    return made


def _content(texts: list[str], marked: set[Any]) -> str | list[dict[str, Any]]:
    # Several parts stay several: servers put something between them, vLLM a line's end.
    if len(texts) < 2 and marked.isdisjoint(texts):
        return "".join(texts)
    return [{"type": "text", "text": text, **({MARK: CONTEXT} if text in marked else {})} for text in texts]


def _text(part: dict[str, Any]) -> str:
    return str(part.get("content", ""))


def _call(part: dict[str, Any]) -> dict[str, Any]:
    arguments = part.get("arguments")
    text = arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)
    return {"id": part.get("id", ""), "type": "function", "function": {"name": part["name"], "arguments": text}}


def _tool(tool: dict[str, Any]) -> dict[str, Any]:
    function = {key: tool[key] for key in ("name", "description", "parameters") if key in tool}
    return {"type": "function", "function": function}


def _document(document: dict[str, Any]) -> dict[str, Any]:
    named: dict[str, Any] = {key: document[key] for key in ("id", "title") if key in document}
    return {**named, "text": document.get("content", "")}
