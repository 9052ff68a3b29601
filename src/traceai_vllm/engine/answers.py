"""From an answer's text to reasoning, text and tool calls, with the parsers that the server itself uses.

A request's span ends before vLLM's handler makes the response, and of a streamed one the handler sees only pieces; so
the whole text is parsed here once more, when its content is captured. Where a version or a model has no parser, the
text stays as it is.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple

from traceai_vllm.content.content import report_unquoted

if TYPE_CHECKING:
    from collections.abc import Callable


class Answer(NamedTuple):
    """One answer.

    Attributes:
        text: what is shown to the user.
        reasoning: what the model thought, when it was told apart.
        tool_calls: the calls, as ``(id, name, arguments)``.
    """

    text: str | None
    reasoning: str | None = None
    tool_calls: tuple[tuple[str | None, str, Any], ...] = ()


def parsed(text: str, state: Any, handler: Any, request: Any) -> Answer:
    """Return what the text of an answer consists of.

    Args:
        text: the text.
        state: vLLM's ``RequestState`` of it.
        handler: the handler of vLLM's API server that serves the request.
        request: the body of the request, as that handler takes it.
    """
    try:
        return _parsed(text, state, handler, request)
    except Exception as error:
        report_unquoted("parsing an answer", error)
        return Answer(text)


def _parsed(text: str, state: Any, handler: Any, request: Any) -> Answer:
    make = _parser_maker(handler)
    if make is None:
        return _older_parsed(text, handler, request)
    parser = make(handler, request, _tokenizer(handler))
    if hasattr(parser, "set_prompt_token_ids") and state.prompt_token_ids is not None:
        parser.set_prompt_token_ids(state.prompt_token_ids)
    if parser.reasoning_parser is None and parser.tool_parser is None:
        # It does both at once.
        reasoning, content, calls = parser.parse(
            text,
            request,
            enable_auto_tools=getattr(handler, "enable_auto_tools", False),
            model_output_token_ids=state.detokenizer.output_token_ids,
        )
        return Answer(content, reasoning, _calls(calls))
    reasoning, content = parser.extract_reasoning(text, request)
    # Not `parser.parse`: it counts for vLLM's own metric `vllm:tool_call_parser_invocations_total`.
    return _with_tool_calls(content, reasoning, parser.tool_parser, handler, request)


def _parser_maker(handler: Any) -> Callable[[Any, Any, Any], Any] | None:
    # parser_cls: chat completions; parser: responses. 0.17 and later.
    made = getattr(handler, "parser_cls", None) or getattr(handler, "parser", None)
    if not isinstance(made, type):
        return None
    if hasattr(handler, "_make_parser"):
        return _make_for_chat
    if hasattr(handler, "_make_response_parser"):
        return _make_for_responses
    return lambda _, request, tokenizer: made(tokenizer, request.tools)


def _make_for_chat(handler: Any, request: Any, tokenizer: Any) -> Any:
    return handler._make_parser(request, tokenizer, handler._effective_chat_template_kwargs(request))


def _make_for_responses(handler: Any, request: Any, tokenizer: Any) -> Any:
    return handler._make_response_parser(request, tokenizer, handler._effective_chat_template_kwargs(request))


def _tokenizer(handler: Any) -> Any:
    renderer = getattr(handler, "renderer", None)  # 0.17
    return handler.tokenizer if renderer is None else renderer.tokenizer


def _older_parsed(text: str, handler: Any, request: Any) -> Answer:
    # To 0.16: a function from a tokenizer to a parser for each.
    reasoning, content = None, text
    make_reasoning = getattr(handler, "reasoning_parser", None)
    make_tools = getattr(handler, "tool_parser", None)
    if not callable(make_reasoning) and not callable(make_tools):
        return Answer(text)
    tokenizer = getattr(getattr(handler, "engine_client", None), "tokenizer", None) or _tokenizer(handler)
    if callable(make_reasoning):
        parser = make_reasoning(tokenizer)
        # extract_reasoning: 0.12.
        extract = getattr(parser, "extract_reasoning", None) or parser.extract_reasoning_content
        reasoning, content = extract(text, request=request)
    tool_parser = make_tools(tokenizer) if callable(make_tools) and getattr(request, "tools", None) else None
    return _with_tool_calls(content, reasoning, tool_parser, handler, request)


def _with_tool_calls(content: str | None, reasoning: str | None, parser: Any, handler: Any, request: Any) -> Answer:
    choice = getattr(request, "tool_choice", None)
    if not getattr(request, "tools", None) or choice == "none" or not content:
        return Answer(content, reasoning)
    if choice == "required":
        calls = _required_calls(content)
        return Answer(content, reasoning) if calls is None else Answer(None, reasoning, calls)
    if choice not in (None, "auto"):  # one function, by its name: the text is its arguments
        name = getattr(getattr(choice, "function", choice), "name", None)
        return Answer(None, reasoning, ((None, str(name), content),))
    if parser is None or not getattr(handler, "enable_auto_tools", True):
        return Answer(content, reasoning)
    found = parser.extract_tool_calls(content, request=request)
    if not found.tools_called:
        return Answer(content, reasoning)
    made = tuple((call.id, call.function.name, call.function.arguments) for call in found.tool_calls)
    return Answer(found.content, reasoning, made)


def _required_calls(content: str) -> tuple[tuple[str | None, str, Any], ...] | None:
    try:
        calls = json.loads(content)
    except ValueError:  # cut off at the limit of tokens: it stays a text, and is no error of ours
        return None
    return tuple((None, str(call["name"]), call.get("parameters")) for call in calls)


def _calls(calls: Any) -> tuple[tuple[str | None, str, Any], ...]:
    return tuple((call.id, call.name, call.arguments) for call in calls or ())
