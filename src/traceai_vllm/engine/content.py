"""Where the content of a request is found in vLLM: references are kept while it runs, and read when it has ended.

A conversation is known where it is handed over (``LLM.chat``, a handler of the API server); of other requests vLLM
keeps the prompt's text. Answers are what vLLM's detokenizer holds at the end. Nothing here runs per token.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from opentelemetry import context as otel_context

from traceai_vllm.content import messages
from traceai_vllm.content.content import Content
from traceai_vllm.engine.answers import parsed
from traceai_vllm.server.served import served_in
from traceai_vllm.telemetry.tags import given_in

if TYPE_CHECKING:
    from collections.abc import Iterator

    from opentelemetry.context import Context

    from traceai_vllm.content.content import ContentReader

_KEY = otel_context.create_key("traceai-vllm-call")


class Call:
    """What one call hands over: one conversation, or several of which the i-th admitted request has the i-th.

    Args:
        given: a conversation (a list of messages) or a list of them.
        tools: the tools that all of them may use.
        instructions: what was sent apart from the messages.
        documents: retrieved context.

    Attributes:
        handler: the handler of vLLM's API server that serves it, which knows how to parse the answers.
        request: the body as that handler takes it.
    """

    __slots__ = ("_each", "documents", "handler", "instructions", "request", "tools")

    def __init__(self, given: Any, tools: Any, instructions: Any = None, documents: Any = None) -> None:
        many = isinstance(given, (list, tuple)) and bool(given) and isinstance(given[0], (list, tuple))
        self._each: Iterator[Any] = iter(given if many else [given])
        self.tools = tools
        self.instructions = instructions
        self.documents = documents
        self.handler: Any = None
        self.request: Any = None

    def next(self) -> Any:
        """Return the next conversation; None when there is none. A copy: a caller may add to its list meanwhile."""
        conversation = next(self._each, None)
        return list(conversation) if isinstance(conversation, (list, tuple)) else conversation


def with_request(ctx: Context, handler: Any, request: Any) -> Context:
    """Return a context whose engine request has the content of an HTTP request's body.

    Args:
        ctx: the context of the HTTP request.
        handler: the handler of vLLM's API server.
        request: the parsed body: of chat completions, responses or Anthropic messages; of others the prompt's text
            says it all.
    """
    call = ctx.get(_KEY)
    if not isinstance(call, Call):
        given = next((getattr(request, name) for name in ("messages", "input") if hasattr(request, name)), None)
        if given is None:
            return ctx
        instructions = getattr(request, "instructions", None) or getattr(request, "system", None)
        call = Call(given, getattr(request, "tools", None), instructions, getattr(request, "documents", None))
        ctx = otel_context.set_value(_KEY, call, ctx)
    # The handler of Anthropic messages hands its request on to the one of chat completions, in that one's form.
    call.handler, call.request = handler, request
    served = served_in(ctx)
    if served is not None:
        served.call = call  # for an engine request that is made when the handler has returned (streamed responses)
    return ctx


def with_conversations(ctx: Context, wrapped: Any, args: Any, kwargs: Any) -> Context:
    """Return a context whose requests have the conversations of a call of ``LLM.chat`` or ``enqueue_chat``."""
    given = _arguments(wrapped, args, kwargs)
    return otel_context.set_value(_KEY, Call(given.get("messages"), given.get("tools")), ctx)


def _arguments(wrapped: Any, args: Any, kwargs: Any) -> Mapping[str, Any]:
    # Everything after the messages has moved between versions.
    if len(args) > 1:
        try:
            return inspect.signature(wrapped).bind_partial(*args, **kwargs).arguments
        except TypeError:  # a call that vLLM is about to refuse, with its own words
            return {}
    return {"messages": args[0], **kwargs} if args else kwargs


class RequestContent:
    """References to what one request was given and what came of it.

    Args:
        reader: the settings of the capture.
        ctx: the context of the caller.

    Attributes:
        stop_sequences: the stop strings that it was given.
        output_schema: the JSON schema that its answer is held to; None when there is none.
    """

    __slots__ = (
        "_answers",
        "_call",
        "_context",
        "_conversation",
        "_made",
        "_read",
        "_reader",
        "output_schema",
        "stop_sequences",
    )

    def __init__(self, reader: ContentReader, ctx: Context) -> None:
        self._reader = reader
        self._context = ctx
        self._answers: list[tuple[Any, str]] = []
        self._made: Content | None = None
        self._read = False
        self.stop_sequences: tuple[str, ...] = ()
        self.output_schema: Any = None
        self._call = _call_in(ctx)
        self._conversation = None if self._call is None else self._call.next()

    def answered(self, state: Any, finish_reason: str | None) -> None:
        """Take note of an answer that ended, with vLLM's ``RequestState`` of it."""
        self._answers.append((state, finish_reason or "error"))

    def read(self) -> Content | None:
        """Return the content; made once. None when it cannot be read."""
        if not self._read:
            self._read = True
            self._made = self._reader.read(self._content)
            self._answers.clear()
            self._conversation = self._call = None
        return self._made

    def _content(self) -> Content:
        content = Content(stop_sequences=list(self.stop_sequences), output_schema=self.output_schema)
        content.output_messages = [
            self._output(state, reason)
            for state, reason in sorted(self._answers, key=_index)
            if hasattr(state.detokenizer, "output_text")  # not with detokenize=False, and not for pooling
        ]
        call = self._call
        if call is not None and self._conversation is not None:
            content.input_messages = messages.input_messages(self._conversation)
            content.system_instructions = messages.system_instructions(call.instructions)
            content.tool_definitions = messages.tool_definitions(call.tools)
            content.tool_choice = messages.tool_choice(getattr(call.request, "tool_choice", None), call.tools)
            content.context = messages.context_documents(call.documents, "documents")
            content.context += messages.marked_context(self._conversation)
        else:
            content.input_messages = self._prompt()
        self._add_given(content, given_in(self._context))
        return content

    def _add_given(self, content: Content, given: Mapping[str, Any]) -> None:
        """Add what ``tags(...)`` gave to evaluators; the application's own word on a schema is the last."""
        content.context += messages.context_documents(given.get("context"), "tags")
        content.tool_definitions = content.tool_definitions or messages.tool_definitions(given.get("tools"))
        content.output_schema = given.get("schema", content.output_schema)
        expected = given.get("expected")
        if expected is not None:
            content.expected_calls = messages.plain([expected] if isinstance(expected, Mapping) else expected)

    def _output(self, state: Any, reason: str) -> messages.Message:
        text = state.detokenizer.output_text
        if self._call is None or self._call.handler is None:
            return messages.output_message(text, reason)
        answer = parsed(text, state, self._call.handler, self._call.request)
        return messages.output_message(answer.text, reason, answer.reasoning, answer.tool_calls)

    def _prompt(self) -> list[messages.Message]:
        # The prompt's text is there when it came as text; tokens are not decoded for this.
        text = next((state.prompt for state, _ in self._answers), None)
        return messages.input_messages(text) if isinstance(text, str) else []


def _call_in(ctx: Context) -> Call | None:
    call = ctx.get(_KEY)
    if not isinstance(call, Call):
        served = served_in(ctx)
        call = None if served is None else served.call
    return call if isinstance(call, Call) else None


def _index(answer: tuple[Any, str]) -> int:
    return int(answer[0].request_index)
