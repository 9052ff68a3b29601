"""``tags(...)``: says which route, prompt version, cohort and agent step the requests inside it belong to.

Tags live in the OpenTelemetry context, so they follow it: across ``await``, into tasks, and into threads whose context
is copied. They leave the process only on request (``propagate=True``), as W3C baggage, and then the named tags alone.

    with traceai_vllm.tags(route="support", prompt_version="v3"):
        llm.chat(messages)
"""

from __future__ import annotations

import functools
import inspect
import logging
from collections import Counter
from collections.abc import Mapping
from types import NoneType
from typing import TYPE_CHECKING, Any, TypeVar, cast

from opentelemetry import baggage, context

from traceai_vllm.content.limits import encodable
from traceai_vllm.telemetry import semconv

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextvars import Token
    from types import TracebackType

    from opentelemetry.context import Context

    TagValue = str | bool | int | float

_F = TypeVar("_F", bound="Callable[..., Any]")

_log = logging.getLogger("traceai_vllm")
_KEY = context.create_key("traceai-vllm-tags")
_GIVEN_KEY = context.create_key("traceai-vllm-evaluation-inputs")
_EMPTY: Mapping[str, Any] = {}

MAX_VALUE_LENGTH = 256
MAX_NAME_LENGTH = 64
MAX_EXTRA_TAGS = 16

_capped: Counter[str] = Counter()
_propagates = False


def tags_in(ctx: Context) -> Mapping[str, TagValue]:
    """Return the tags of a context as span attributes (attribute key to value); empty when there are none."""
    return ctx.get(_KEY, _EMPTY)  # type: ignore[return-value]  # a cast is a call, for every request


def given_in(ctx: Context) -> Mapping[str, Any]:
    """Return what ``tags(...)`` gave to evaluators, by its name: ``context``, ``schema``, ``tools``, ``expected``."""
    return cast("Mapping[str, Any]", ctx.get(_GIVEN_KEY, _EMPTY))


def with_tags(ctx: Context, found: Mapping[str, TagValue]) -> Context:
    """Return a context with these tags (attribute key to value) instead of its own."""
    return context.set_value(_KEY, found, ctx)


def propagate_by_default(on: bool) -> None:
    """Say whether ``tags(...)`` become baggage where their ``propagate`` is None."""
    global _propagates  # noqa: PLW0603 - decorators are made before anybody calls instrument()
    _propagates = on


def capped_tags() -> dict[str, int]:
    """Return how many tags were shortened or left out, by reason."""
    return dict(_capped)


def tags(
    route: str | None = None,
    prompt_version: str | None = None,
    traffic_cohort: str | None = None,
    agent_step: str | None = None,
    *,
    extra: Mapping[str, TagValue] | None = None,
    context: str | Sequence[str | Mapping[str, Any]] | None = None,
    schema: str | Mapping[str, Any] | None = None,
    tools: Sequence[Any] | None = None,
    expected: Sequence[Any] | Mapping[str, Any] | None = None,
    propagate: bool | None = None,
    **unknown: object,
) -> TagScope:
    """Tag every request made inside the returned scope; it nests, inner values win.

    Use it as a context manager or as a decorator of a plain or ``async`` function.

    Args:
        route: the application's route, e.g. ``support``.
        prompt_version: the version of the prompt, e.g. ``v3``.
        traffic_cohort: the cohort of traffic, e.g. ``mirrored-2026-05``.
        agent_step: the step of the agent, e.g. ``tool_selection``.
        extra: free tags, written as ``traceai.tag.<name>``: at most 16, names of at most 64 characters; values are
            strings (cut after 256 characters), booleans or numbers. What exceeds this is left out, counted, and
            logged once.
        context: the retrieved context that the requests inside are to be grounded in: a text, or a list of texts or
            of dictionaries with ``text`` and, if you like, ``id`` and ``title``. It is content, like the next three:
            nobody sees them unless content is captured (``instrument(capture_content=...)``), and they never leave
            this process as baggage.
        schema: the JSON schema that the answers are to meet, a dictionary or its text, where the requests themselves
            do not ask for it.
        tools: definitions of the tools that the model was told of in its prompt.
        expected: the tool calls that are right, as ``ToolSelectionAccuracy`` takes them; an empty list where none is.
        propagate: also put the four named tags into W3C baggage, which every instrumented client call inside the
            scope sends to whomever it calls. When None: after ``instrument(client=True)``, else not. A tag that is not
            sent takes the place of an outer one's value that was: then neither is.
        **unknown: not accepted; named here so that the error can say what is.

    Raises:
        TypeError: an unknown keyword, or a value that is not of the type above.
    """
    if unknown:
        raise TypeError(
            f"tags() got an unknown tag {', '.join(sorted(map(repr, unknown)))}; the named tags are "
            f"{', '.join(semconv.NAMED_TAGS)}. For others use tags(extra={{'name': 'value'}})."
        )
    _check_given(schema, expected)
    given = {"context": context, "schema": schema, "tools": tools, "expected": expected}
    named = {
        semconv.ROUTE: route,
        semconv.PROMPT_VERSION: prompt_version,
        semconv.TRAFFIC_COHORT: traffic_cohort,
        semconv.AGENT_STEP: agent_step,
    }
    return TagScope(
        {k: _named(k, v) for k, v in named.items() if v is not None},
        _extra(extra or {}),
        propagate,
        {name: value for name, value in given.items() if value is not None},
    )


class TagScope:
    """A set of tags that can be entered as a context manager or applied as a decorator; made by :func:`tags`."""

    __slots__ = ("_extra", "_given", "_named", "_propagate", "_token")

    def __init__(
        self, named: dict[str, str], extra: dict[str, TagValue], propagate: bool | None, given: dict[str, Any]
    ) -> None:
        self._named = named
        self._extra = extra
        self._given = given
        self._propagate = propagate
        self._token: Token[Context] | None = None

    def __enter__(self) -> TagScope:
        if self._token is not None:
            raise RuntimeError("this tags(...) scope is already entered; call tags(...) anew for each `with`")
        current = context.get_current()
        outer = tags_in(current)
        ctx = context.set_value(_KEY, {**outer, **self._named, **self._extra}, current)
        if self._given:
            ctx = context.set_value(_GIVEN_KEY, {**given_in(current), **self._given}, ctx)
        propagates = _propagates if self._propagate is None else self._propagate
        for name, value in self._named.items():
            if propagates:
                ctx = baggage.set_baggage(name, value, ctx)
            elif name in outer and value != outer[name] == baggage.get_baggage(name, ctx):
                ctx = baggage.remove_baggage(name, ctx)  # else it would be sent, and is no longer so
        self._token = context.attach(ctx)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        token, self._token = self._token, None
        if token is not None:
            # Not `context.detach`: it logs an error with a traceback where a stream's generator, which nobody reads any
            # more, is closed in a context of its own. Nothing is to be given back there.
            try:
                token.var.reset(token)
            except ValueError:
                pass
            except AttributeError:  # of a context that is not Python's (OTEL_PYTHON_CONTEXT)
                context.detach(token)

    def __call__(self, function: _F) -> _F:
        """Return the function with the tags around each of its calls.

        Raises:
            TypeError: the function is a generator; its body runs in its consumer's context, so use ``with`` there.
        """
        if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
            raise TypeError("tags(...) cannot decorate a generator function: use `with tags(...)` where it is consumed")
        if inspect.iscoroutinefunction(function):

            @functools.wraps(function)
            async def call_async(*args: Any, **kwargs: Any) -> Any:
                with self._fresh():
                    return await function(*args, **kwargs)

            return cast("_F", call_async)

        @functools.wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            with self._fresh():
                return function(*args, **kwargs)

        return cast("_F", call)

    def _fresh(self) -> TagScope:
        return TagScope(self._named, self._extra, self._propagate, self._given)


def _named(key: str, value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"tags({key}=...) takes a string, not {type(value).__name__}")
    return _shortened(value)


def _check_given(schema: object, expected: object) -> None:
    if not isinstance(schema, (str, Mapping, NoneType)):
        raise TypeError(f"tags(schema=...) takes a JSON schema: a dictionary or its text, not {type(schema).__name__}")
    if not isinstance(expected, (list, tuple, Mapping, NoneType)):
        raise TypeError(f"tags(expected=...) takes a list of tool calls, not {type(expected).__name__}")


def _extra(extra: Mapping[str, TagValue]) -> dict[str, TagValue]:
    kept: dict[str, TagValue] = {}
    for name, value in extra.items():
        if not isinstance(name, str) or not isinstance(value, (str, bool, int, float)):
            raise TypeError(f"tags(extra=...) takes strings, booleans and numbers by name; {name!r} is {value!r}")
        if len(name) > MAX_NAME_LENGTH:
            _count("name_too_long")
        elif len(kept) >= MAX_EXTRA_TAGS:
            _count("too_many")
        else:
            kept[semconv.TAG_PREFIX + encodable(name)] = _shortened(value) if isinstance(value, str) else value
    return kept


def _shortened(value: str) -> str:
    value = str.__str__(value)  # of an Enum, what it stands for: metrics and baggage would have its name
    value = encodable(value)  # baggage raises for others, in the middle of the user's call
    if len(value) <= MAX_VALUE_LENGTH:
        return value
    _count("value_too_long")
    return value[:MAX_VALUE_LENGTH]


def _count(reason: str) -> None:
    _capped[reason] += 1
    if _capped[reason] == 1:
        _log.warning(
            "A tag was cut or left out (%s): at most %d extra tags, names of %d and values of %d characters. "
            "Further ones are only counted.",
            reason,
            MAX_EXTRA_TAGS,
            MAX_NAME_LENGTH,
            MAX_VALUE_LENGTH,
        )
