"""What an answer says, in each dialect: text, tool calls, why it ended, tokens.

Four dialects (OpenAI chat completions, completions, responses; Anthropic messages) and embeddings, streamed or whole.
From bytes to documents is :mod:`.reading`'s work.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass
class ToolCall:
    """A tool call that the model asked for; ``arguments`` is JSON as the model wrote it. It is never executed."""

    name: str = ""
    arguments: str = ""
    id: str | None = None


@dataclass
class Choice:
    """One of the answers to a request.

    Where logprobs were asked for, ``tokens`` are those of its text, and ``likeliest`` has the likeliest tokens of each
    place with their logprobs; a place without them is empty.
    """

    text: str = ""
    reasoning: str = ""
    tool_calls: dict[int, ToolCall] = field(default_factory=dict)
    finish_reason: str | None = None
    tokens: list[str] = field(default_factory=list)
    likeliest: list[dict[str, float]] = field(default_factory=list)

    def call(self, index: Any) -> ToolCall:
        """Return the tool call of that index, which is made when it is not there yet."""
        return self.tool_calls.setdefault(_number(index), ToolCall())

    def says(self) -> tuple[Any, ...]:
        """Return what is compared: everything but ids."""
        calls = tuple((call.name, call.arguments) for _, call in sorted(self.tool_calls.items()))
        return (self.text, self.reasoning, calls, self.finish_reason)


@dataclass
class Answer:
    """What an answer says.

    Attributes:
        choices: the answers, by index.
        id: the response's id.
        model: the model name in it.
        input_tokens: prompt tokens, when the server counts them.
        output_tokens: generated tokens, when the server counts them.
        cached_tokens: prompt tokens from the cache, when the server counts them.
        content_times: of a stream, when each piece of content came, on the clock of the capture.
        error: what is wrong with it: ``invalid_response``, ``incomplete_response``, or the server's own error type.
        done: whether the end of a stream was seen.
        embeddings: the vectors, as they came.
    """

    choices: dict[int, Choice] = field(default_factory=dict)
    id: str | None = None
    model: str | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    cached_tokens: int | None = None
    content_times: list[float] = field(default_factory=list)
    error: str | None = None
    done: bool = False
    embeddings: Any = None

    def choice(self, index: Any) -> Choice:
        """Return the answer of that index, which is made when it is not there yet."""
        return self.choices.setdefault(_number(index), Choice())

    @property
    def finish_reasons(self) -> list[str]:
        """Why each answer ended."""
        return [c.finish_reason for _, c in sorted(self.choices.items()) if c.finish_reason]

    @property
    def amount(self) -> int:
        """How much content has come so far, in characters."""
        amount = 0
        for choice in self.choices.values():
            amount += len(choice.text) + len(choice.reasoning)
            for call in choice.tool_calls.values():
                amount += len(call.name) + len(call.arguments)
        return amount

    def says(self) -> tuple[Any, ...]:
        """Return what is compared: everything but ids, times and counts."""
        return (tuple(choice.says() for _, choice in sorted(self.choices.items())), self.embeddings)


def _number(index: Any) -> int:
    if not isinstance(index, int):
        raise TypeError("an index is a number")  # of others no order could be told
    return index


def _text(value: Any) -> str | None:
    # Some servers write an empty id, and some repeat the model's name as the caller wrote it, however long.
    return value[:256] if isinstance(value, str) and value else None


def _head(answer: Answer, document: Any) -> None:
    answer.id = answer.id or _text(document.get("id"))
    answer.model = answer.model or _text(document.get("model"))
    usage = document.get("usage")
    if usage:
        _usage(answer, usage)


def _usage(answer: Answer, usage: Any) -> None:
    counts = {
        "input_tokens": usage.get("prompt_tokens", usage.get("input_tokens")),
        "output_tokens": usage.get("completion_tokens", usage.get("output_tokens")),
        "cached_tokens": _details(usage).get("cached_tokens", usage.get("cache_read_input_tokens")),
    }
    for name, count in counts.items():
        if isinstance(count, int):
            setattr(answer, name, count)


def _details(usage: Any) -> Any:
    return usage.get("prompt_tokens_details") or usage.get("input_tokens_details") or {}


# --- OpenAI chat completions -------------------------------------------------------------------------------------
def _chat_event(answer: Answer, document: Any) -> None:
    _head(answer, document)
    for part in document.get("choices") or ():
        choice = answer.choice(part["index"])
        _chat_logprobs(choice, part)
        _chat_message(choice, part.get("delta") or {})
        choice.finish_reason = part.get("finish_reason") or choice.finish_reason


def _chat_whole(answer: Answer, document: Any) -> None:
    _head(answer, document)
    for part in document["choices"]:
        choice = answer.choice(part["index"])
        _chat_logprobs(choice, part)
        _chat_message(choice, part["message"])
        choice.finish_reason = part.get("finish_reason")


def _chat_logprobs(choice: Choice, part: Any) -> None:
    given = part.get("logprobs")
    with suppress(TypeError, AttributeError, KeyError):  # an answer is no worse for logprobs that cannot be read
        for token in (given and given.get("content")) or ():
            likeliest = {one["token"]: float(one["logprob"]) for one in token.get("top_logprobs") or ()}
            choice.tokens.append(token["token"])
            choice.likeliest.append(likeliest)


def _chat_message(choice: Choice, message: Any) -> None:
    choice.text += message.get("content") or message.get("refusal") or ""
    choice.reasoning += message.get("reasoning") or message.get("reasoning_content") or ""
    for position, part in enumerate(message.get("tool_calls") or ()):
        function = part.get("function") or {}
        index = part.get("index")
        call = choice.call(position if index is None else index)
        call.id = part.get("id") or call.id
        call.name += function.get("name") or ""
        call.arguments += function.get("arguments") or ""


# --- OpenAI completions ------------------------------------------------------------------------------------------
def _completion(answer: Answer, document: Any) -> None:
    _head(answer, document)
    for part in document["choices"]:
        choice = answer.choice(part["index"])
        choice.text += part.get("text") or ""
        choice.finish_reason = part.get("finish_reason") or choice.finish_reason
        given = part.get("logprobs")
        with suppress(TypeError, AttributeError):
            likeliest = [dict(each or {}) for each in (given and given.get("top_logprobs")) or ()]
            choice.tokens += (given and given.get("tokens")) or ()
            choice.likeliest += likeliest


# --- OpenAI responses --------------------------------------------------------------------------------------------
def _response_event(answer: Answer, document: Any) -> None:
    kind = document["type"]
    choice = answer.choice(0)
    if kind == "response.output_text.delta":
        choice.text += document["delta"]
    elif kind in ("response.reasoning_text.delta", "response.reasoning_summary_text.delta"):
        choice.reasoning += document["delta"]
    elif kind == "response.function_call_arguments.delta":
        choice.call(document["output_index"]).arguments += document["delta"]
    elif kind in ("response.completed", "response.incomplete", "response.failed"):
        # The last event repeats the whole answer: that is what counts.
        answer.choices.clear()
        _response_whole(answer, document["response"])
        answer.done = True


def _response_whole(answer: Answer, document: Any) -> None:
    _head(answer, document)
    choice = answer.choice(0)
    for index, item in enumerate(document["output"]):
        parts = item.get("content") or ()
        if item["type"] == "message":
            choice.text += "".join(part.get("text") or part.get("refusal") or "" for part in parts)
        elif item["type"] == "reasoning":
            choice.reasoning += "".join(part.get("text") or "" for part in (*(item.get("summary") or ()), *parts))
        elif item["type"] == "function_call":
            choice.tool_calls[index] = ToolCall(item["name"], item["arguments"], item.get("call_id"))
    status = document.get("status")
    choice.finish_reason = (document.get("incomplete_details") or {}).get("reason") or status
    if status == "failed":
        answer.error = "failed"


# --- Anthropic messages ------------------------------------------------------------------------------------------
def _message_event(answer: Answer, document: Any) -> None:
    kind = document["type"]
    choice = answer.choice(0)
    if kind == "message_start":
        _head(answer, document["message"])
    elif kind == "content_block_start":
        _message_block(choice, document["index"], document["content_block"], streamed=True)
    elif kind == "content_block_delta":
        _message_delta(choice, document["index"], document["delta"])
    elif kind == "message_delta":
        choice.finish_reason = document["delta"].get("stop_reason") or choice.finish_reason
        _usage(answer, document.get("usage") or {})
    elif kind == "message_stop":
        answer.done = True


def _message_delta(choice: Choice, index: int, delta: Any) -> None:
    choice.text += delta.get("text") or ""
    choice.reasoning += delta.get("thinking") or ""
    if delta.get("partial_json"):
        choice.call(index).arguments += delta["partial_json"]


def _message_block(choice: Choice, index: int, block: Any, *, streamed: bool) -> None:
    if block["type"] == "tool_use":
        # In a stream the arguments follow, and the block comes with an empty object.
        arguments = "" if streamed else msgspec.json.encode(block.get("input")).decode()
        choice.tool_calls[_number(index)] = ToolCall(block["name"], arguments, block.get("id"))
    else:
        choice.text += block.get("text") or ""
        choice.reasoning += block.get("thinking") or ""


def _message_whole(answer: Answer, document: Any) -> None:
    _head(answer, document)
    choice = answer.choice(0)
    for index, block in enumerate(document["content"]):
        _message_block(choice, index, block, streamed=False)
    choice.finish_reason = document.get("stop_reason")


# --- Embeddings --------------------------------------------------------------------------------------------------
def _embeddings(answer: Answer, document: Any) -> None:
    _head(answer, document)
    answer.embeddings = [entry["embedding"] for entry in document["data"]]


@dataclass(frozen=True)
class Dialect:
    """How the answers of one API are read.

    Attributes:
        operation: its name in OpenTelemetry's GenAI conventions.
        event: takes an event of a stream into an answer.
        whole: takes a whole document into an answer.
    """

    operation: str
    event: Callable[[Answer, Any], None]
    whole: Callable[[Answer, Any], None]


DIALECTS = {
    "/v1/chat/completions": Dialect("chat", _chat_event, _chat_whole),
    "/v1/completions": Dialect("text_completion", _completion, _completion),
    "/v1/responses": Dialect("chat", _response_event, _response_whole),
    "/v1/messages": Dialect("chat", _message_event, _message_whole),
    "/v1/embeddings": Dialect("embeddings", _embeddings, _embeddings),
}
