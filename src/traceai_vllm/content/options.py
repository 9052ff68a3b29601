"""What is done with the content of requests: set by ``instrument(capture_content=...)`` or by the environment."""

from __future__ import annotations

import importlib
import logging
import os
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, cast

from traceai_vllm.content import patterns

if TYPE_CHECKING:
    import re
    from collections.abc import Callable, Collection

    Redact = Callable[[str], str]

_log = logging.getLogger("traceai_vllm")

VARIABLE = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"
MAX_LENGTH = 32_768


class ContentMode(Enum):
    """Where content goes. All but the last are OpenTelemetry's, with its names."""

    NO_CONTENT = "NO_CONTENT"
    """Nowhere: it is never looked at."""
    SPAN_ONLY = "SPAN_ONLY"
    """On the request's span, as JSON."""
    EVENT_ONLY = "EVENT_ONLY"
    """On a log event of its own, as structured values."""
    SPAN_AND_EVENT = "SPAN_AND_EVENT"
    """On both."""
    SCORE_ONLY = "SCORE_ONLY"
    """To the evaluators in this process; it never leaves the process."""

    @property
    def on_span(self) -> bool:
        """Whether spans carry content."""
        return self in (ContentMode.SPAN_ONLY, ContentMode.SPAN_AND_EVENT)

    @property
    def on_event(self) -> bool:
        """Whether an event is sent that carries content."""
        return self in (ContentMode.EVENT_ONLY, ContentMode.SPAN_AND_EVENT)


@dataclass(frozen=True)
class ContentOptions:
    """What is captured of the content of requests, and what is taken out of it first.

    Attributes:
        mode: where it goes.
        patterns: what is replaced in every text: names of :data:`~traceai_vllm.content.patterns.PATTERNS`, or compiled
            regular expressions of your own; ``()`` for nothing. ``"phone"`` needs
            ``pip install 'traceai-vllm[redaction]'``.
        redact: a function of yours from text to text, called for every text after the patterns, and for numbers as
            text. When it raises, or returns something else, the text is left out and the call goes on.
        max_length: how many characters each of the fields (input messages, output messages, …) may have on spans and
            events; what is longer is cut, with a mark that says by how much. Evaluators see all of it.

    Raises:
        ValueError: an unknown pattern, or a length below 1.
        ImportError: a pattern needs a library that is not installed.
    """

    mode: ContentMode = ContentMode.SPAN_ONLY
    patterns: Collection[str | re.Pattern[str]] = patterns.DEFAULT
    redact: Redact | None = field(default=None, repr=False)
    max_length: int = MAX_LENGTH

    def __post_init__(self) -> None:
        if self.max_length < 1:
            raise ValueError(f"ContentOptions(max_length={self.max_length}): at least 1 character")
        patterns.redactors(self.patterns)

    @classmethod
    def from_environment(cls) -> ContentOptions:
        """Return the options that the environment gives.

        ``OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT`` (a mode, ``true`` or ``false``),
        ``TRACEAI_VLLM_CONTENT_PATTERNS`` (``email,secret``; ``none``), ``TRACEAI_VLLM_CONTENT_REDACT``
        (``module:function``) and ``TRACEAI_VLLM_CONTENT_MAX_LENGTH``. A value that cannot be used is a warning, and
        then nothing is captured: no text gets out because of a slip of the pen.
        """
        mode = os.environ.get(VARIABLE, "").strip()
        if not mode or mode_named(mode) is ContentMode.NO_CONTENT:
            return cls(ContentMode.NO_CONTENT)
        return _from_environment(mode)


def options_from(given: bool | str | ContentMode | ContentOptions | None) -> ContentOptions | None:
    """Return the options for what ``instrument(capture_content=...)`` was given; None when nothing is captured.

    Raises:
        ValueError: a string that names no mode.
    """
    if isinstance(given, ContentOptions):
        options = given
    elif given is None:
        options = ContentOptions.from_environment()
    else:
        mode = given if isinstance(given, ContentMode) else mode_named(str(given))
        if mode is None:
            names = ", ".join(mode.name for mode in ContentMode)
            raise ValueError(f"instrument(capture_content={given!r}): use one of {names}, True or False")
        if mode is ContentMode.NO_CONTENT:
            return None
        options = _from_environment(mode.name)
    return None if options.mode is ContentMode.NO_CONTENT else options


def mode_named(name: str) -> ContentMode | None:
    """Return the mode of that name, in any case; the legacy ``true`` is the span, ``false`` is nothing."""
    key = name.strip().upper()
    if key in ("TRUE", "FALSE"):
        return ContentMode.SPAN_ONLY if key == "TRUE" else ContentMode.NO_CONTENT
    return ContentMode.__members__.get(key)


def _from_environment(mode: str) -> ContentOptions:
    names = os.environ.get("TRACEAI_VLLM_CONTENT_PATTERNS", "").strip()
    length = os.environ.get("TRACEAI_VLLM_CONTENT_MAX_LENGTH", "").strip()
    try:
        return ContentOptions(
            mode=ContentMode(mode_named(mode)),
            patterns=_pattern_names(names) if names else patterns.DEFAULT,
            redact=_function(os.environ.get("TRACEAI_VLLM_CONTENT_REDACT", "").strip()),
            max_length=int(length) if length else MAX_LENGTH,
        )
    except Exception as error:  # the user's module may raise anything when it is imported
        _log.warning(
            "%s and TRACEAI_VLLM_CONTENT_*: they cannot be used (%s: %s), so no content is captured. Everything else "
            "is traced.",
            VARIABLE,
            type(error).__name__,
            error,
        )
        return ContentOptions(ContentMode.NO_CONTENT)


def _pattern_names(text: str) -> tuple[str, ...]:
    names = tuple(filter(None, map(str.strip, text.split(","))))
    return () if names == ("none",) else names


def _function(path: str) -> Redact | None:
    if not path:
        return None
    module, _, name = path.partition(":")
    function = getattr(importlib.import_module(module), name)
    if not callable(function):
        raise TypeError(f"{path} is no function")
    return cast("Redact", function)
