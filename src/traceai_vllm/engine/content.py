"""Where the content of a request is found in vLLM: references are kept while it runs, and read when it has ended.

A conversation is known where it is handed over (``LLM.chat``, a handler of the API server); of other requests vLLM
keeps the prompt's text. Answers are what vLLM's detokenizer holds at the end. Nothing here runs per token.
"""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

from opentelemetry import context as otel_context

from traceai_vllm.content import messages
from traceai_vllm.content.content import Content
from traceai_vllm.telemetry.tags import context_in

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from opentelemetry.context import Context

    from traceai_vllm.content.content import ContentReader

_KEY = otel_context.create_key("traceai-vllm-conversations")


class Conversations:
    """What one call hands over: one conversation, or several of which the i-th admitted request has the i-th.

    Args:
        given: a conversation (a list of messages) or a list of them.
        tools: the tools that all of them may use.
    """

    __slots__ = ("_each", "tools")

    def __init__(self, given: Any, tools: Any) -> None:
        many = isinstance(given, (list, tuple)) and bool(given) and isinstance(given[0], (list, tuple))
        self._each: Iterator[Any] = iter(given if many else [given])
        self.tools = tools

    def next(self) -> Any:
        """Return the next conversation; None when there is none. A copy: a caller may add to its list meanwhile."""
        conversation = next(self._each, None)
        return list(conversation) if isinstance(conversation, (list, tuple)) else None


def with_conversations(ctx: Context, wrapped: Any, args: Any, kwargs: Any) -> Context:
    """Return a context whose requests have the conversations of a call of ``LLM.chat`` or ``enqueue_chat``."""
    given = _arguments(wrapped, args, kwargs)
    return otel_context.set_value(_KEY, Conversations(given.get("messages"), given.get("tools")), ctx)


def _arguments(wrapped: Any, args: Any, kwargs: Any) -> Mapping[str, Any]:
    # Everything after the messages has moved between versions.
    if len(args) > 1:
        return inspect.signature(wrapped).bind_partial(*args, **kwargs).arguments
    return {"messages": args[0], **kwargs} if args else kwargs


class RequestContent:
    """References to what one request was given and what came of it.

    Args:
        reader: the settings of the capture.
        ctx: the context of the caller.
    """

    __slots__ = ("_answers", "_context", "_conversation", "_made", "_read", "_reader", "_tools")

    def __init__(self, reader: ContentReader, ctx: Context) -> None:
        self._reader = reader
        self._context = ctx
        self._answers: list[tuple[Any, str]] = []
        self._conversation: Any = None
        self._tools: Any = None
        self._made: Content | None = None
        self._read = False
        call = ctx.get(_KEY)
        if isinstance(call, Conversations):
            self._conversation, self._tools = call.next(), call.tools

    def answered(self, state: Any, finish_reason: str | None) -> None:
        """Take note of an answer that ended, with vLLM's ``RequestState`` of it."""
        self._answers.append((state, finish_reason or "error"))

    def read(self) -> Content | None:
        """Return the content; made once. None when it cannot be read."""
        if not self._read:
            self._read = True
            self._made = self._reader.read(self._content)
            self._answers.clear()
            self._conversation = self._tools = None
        return self._made

    def _content(self) -> Content:
        content = Content()
        content.output_messages = [
            messages.output_message(state.detokenizer.output_text, reason)
            for state, reason in sorted(self._answers, key=_index)
            if hasattr(state.detokenizer, "output_text")  # not with detokenize=False, and not for pooling
        ]
        if self._conversation is not None:
            content.input_messages = messages.input_messages(self._conversation)
            content.tool_definitions = messages.tool_definitions(self._tools)
            content.context = messages.marked_context(self._conversation)
        else:
            content.input_messages = self._prompt()
        content.context += messages.context_documents(context_in(self._context), "tags")
        return content

    def _prompt(self) -> list[messages.Message]:
        # The prompt's text is there when it came as text; tokens are not decoded for this.
        text = next((state.prompt for state, _ in self._answers), None)
        return messages.input_messages(text) if isinstance(text, str) else []


def _index(answer: tuple[Any, str]) -> int:
    return int(answer[0].request_index)
