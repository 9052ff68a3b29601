"""The body of a request: only the top level of its JSON is taken apart, what is inside stays as the caller wrote it."""

from __future__ import annotations

import contextlib
import re
from hashlib import sha256
from typing import Any

import msgspec

_decode_fields = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_decode = msgspec.json.Decoder().decode
_encode = msgspec.json.Encoder().encode
# RecursionError: nested so deeply that it cannot be read.
_UNREADABLE = (msgspec.MsgspecError, RecursionError, UnicodeDecodeError)

# What the model is given to answer, in all dialects.
_PROMPT = (
    "messages",
    "prompt",
    "prompt_embeds",
    "input",
    "system",
    "instructions",
    "suffix",
    "tools",
    "tool_choice",
    "functions",
    "function_call",
    "response_format",
    "text",
    "documents",
    "chat_template",
    "chat_template_kwargs",
    "structured_outputs",
)
SAMPLING = (
    "temperature",
    "top_p",
    "top_k",
    "min_p",
    "n",
    "best_of",
    "seed",
    "stop",
    "stop_sequences",
    "max_tokens",
    "max_completion_tokens",
    "max_output_tokens",
    "min_tokens",
    "frequency_penalty",
    "presence_penalty",
    "repetition_penalty",
    "logit_bias",
    "ignore_eos",
    "dimensions",
)
_MODEL_LENGTH = 256
_CONVERSATION = ("messages", "input")
# The type of a part that is no text, in all dialects; inside a text its quotation marks are escaped.
_MEDIA = re.compile(rb'"type"\s*:\s*"(?:input_)?(?:image|audio|video|file|document)')
# Kinds of tools that the client runs, if anybody; the others run inside the server.
_CLIENT_TOOLS = ("function", "custom", None)


class Body:
    """A body, and what is asked of it.

    Args:
        raw: its bytes. When they are no JSON object, all fields are absent and it is passed on as it is.
    """

    __slots__ = ("_metadata", "fields", "raw")

    def __init__(self, raw: bytes) -> None:
        self.raw = raw
        self.fields: dict[str, msgspec.Raw] = {}
        self._metadata: dict[str, Any] | None = None
        if raw:
            with contextlib.suppress(*_UNREADABLE):
                self.fields = _decode_fields(raw)

    def get(self, name: str) -> Any:
        """Return the value of a field; None when it is absent or too deeply nested to be read."""
        field = self.fields.get(name)
        if field is None:
            return None
        try:
            return _decode(field)
        except _UNREADABLE:
            return None

    def text(self, name: str) -> str | None:
        """Return the value of a field that is a string; None for others."""
        value = self.get(name)
        return value if isinstance(value, str) else None

    @property
    def model(self) -> str | None:
        """The model that is asked for, as long as spans may have it: a caller may write megabytes there."""
        name = self.text("model")
        return None if name is None else name[:_MODEL_LENGTH]

    @property
    def metadata(self) -> dict[str, Any]:
        """What the caller says of the request itself; empty where that is no object. Read once: every route may ask."""
        if self._metadata is None:
            given = self.get("metadata")
            self._metadata = given if isinstance(given, dict) else {}
        return self._metadata

    @property
    def stream(self) -> bool:
        """Whether a streamed answer is asked for."""
        return self.get("stream") is True

    @property
    def prompt_bytes(self) -> int:
        """The length of the prompt: bytes of the JSON of all fields that the model is given."""
        return sum(len(bytes(self.fields[name])) for name in _PROMPT if name in self.fields)

    @property
    def is_text_alone(self) -> bool:
        """Whether the prompt is all here and all text: its bytes say how many tokens it has."""
        if self.refers_to_state() or "prompt_embeds" in self.fields:
            return False
        return not any(_MEDIA.search(self.fields[name]) for name in _CONVERSATION if name in self.fields)

    def prompt_hash(self) -> str:
        """Return a hash over the fields that the model is given; equal hashes mean the same question."""
        return _hash(self, _PROMPT)

    def sampling_parameters(self) -> dict[str, Any]:
        """Return the sampling parameters that were given."""
        return {name: self.get(name) for name in SAMPLING if name in self.fields}

    def stop_strings(self) -> list[str]:
        """Return the stop strings; whatever else stands in their place is left out."""
        given = self.get("stop") or self.get("stop_sequences")
        each = given if isinstance(given, list) else [given]
        return [text for text in each if isinstance(text, str)]

    def with_model(self, model: str | None) -> Body:
        """Return the body with another model name; itself for None, or when that is its name already."""
        if model is None or not self.fields or self.get("model") == model:
            return self
        return self.with_field("model", model)

    def with_field(self, name: str, value: Any) -> Body:
        """Return the body with another value of one field."""
        return self._with({**self.fields, name: msgspec.Raw(_encode(value))})

    def without(self, names: tuple[str, ...]) -> Body:
        """Return the body without some fields."""
        if not any(name in self.fields for name in names):
            return self
        return self._with({name: value for name, value in self.fields.items() if name not in names})

    def runs_server_tools(self) -> bool:
        """Whether the server may itself run a tool for this request: web search, code, MCP."""
        if self.get("mcp_servers"):
            return True
        tools = self.get("tools")
        if not isinstance(tools, list):
            return False
        return any(not isinstance(tool, dict) or tool.get("type") not in _CLIENT_TOOLS for tool in tools)

    def refers_to_state(self) -> bool:
        """Whether it goes on from what one server alone has kept: an earlier response, or a conversation."""
        return any(self.get(name) is not None for name in ("previous_response_id", "conversation"))

    def _with(self, fields: dict[str, msgspec.Raw]) -> Body:
        return Body(_encode(fields))


def differing_fields(one: Body, other: Body) -> list[str]:
    """Return which of the fields that decide over the answer are not the same, byte for byte."""
    names = (*_PROMPT, *SAMPLING)
    return [name for name in names if _bytes(one, name) != _bytes(other, name)]


def _bytes(body: Body, name: str) -> bytes | None:
    field = body.fields.get(name)
    return None if field is None else bytes(field)


def _hash(body: Body, names: tuple[str, ...]) -> str:
    digest = sha256()
    for name in names:
        value = _bytes(body, name)
        if value is not None:
            digest.update(b"%s:%d:" % (name.encode(), len(value)))
            digest.update(value)
    return digest.hexdigest()[:32]
