"""Cohort slices: the kinds of requests on which quantization is known to do harm, each by a rule that can be read.

    from traceai_vllm.evals.slices import SliceSettings, slices_of

    slices_of(SlicedRequest(text="¿Cuál es el período de espera para mi reclamación?", input_tokens=9_000))
    # ('long_context', 'multilingual')

Slices come from the request alone, never from an answer: both answers to one request are in the same slices.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

from traceai_vllm.evals.errors import MissingExtra
from traceai_vllm.evals.languages import Language, language_of, same_language
from traceai_vllm.evals.missing import say_once
from traceai_vllm.evals.phrases import phrase
from traceai_vllm.evals.rare_names import rare_names

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

LONG_CONTEXT = "long_context"
CODE = "code"
MULTILINGUAL = "multilingual"
TOOL_CALLING = "tool_calling"
REGULATED = "regulated"
RARE_ENTITY = "rare_entity"
SLICES = (LONG_CONTEXT, CODE, MULTILINGUAL, TOOL_CALLING, REGULATED, RARE_ENTITY)

_MAX_OVERRIDES = 16
_NAME = re.compile(r"[A-Za-z0-9_.:/-]{1,64}")
_FENCE = re.compile(r"^[ ]{0,3}(?:```|~~~)", re.M)
_CODE_LINE = re.compile(
    r"^[ \t]{0,40}(?:"
    r"(?:def|class|fn|func|function|public|private|static|const|let|var|import|from|using|package|#include)\b"
    r"[^\n]{0,200}[({;:=\"'<]|(?:SELECT|INSERT INTO|UPDATE|CREATE TABLE)\b|[\w.]{1,60}\([^\n]{0,120}\);?$|"
    r"[^\n]{0,120}[;{]$|Traceback \(most recent call last\))",
    re.M,
)
_CODE_LINES = 2
_LANGUAGE = re.compile(
    r"\b(?:python|javascript|typescript|java|c\+\+|c#|rust|golang|kotlin|swift|php|ruby|sql|bash|powershell|regex|"
    r"dockerfile|html|css|yaml)(?!\w)",
    re.I,
)
_CODING = re.compile(
    r"\b(?:code|function|script|query|program|class|method|snippet|bug|debug|exception|traceback|compile|implement|"
    r"refactor|unit tests?|regular expression)\b",
    re.I,
)


@dataclass(frozen=True)
class SliceSettings:
    """The thresholds of the slices.

    Attributes:
        long_context_tokens: a prompt of so many tokens is long.
        languages: the languages that the application mostly gets, as ISO 639-1 codes; any other is multilingual.
        min_letters: text with fewer letters has no language that could be told.
        min_confidence: how sure the language identification must be, from 0 to 1.
        regulated_words: words and phrases that make a request regulated, such as ``diagnosis`` or ``legal advice``.
        regulated_routes: routes on which every request is.
        rare_names: so many rare names make a request one about rare entities.
        rare_zipf: a name is rare when its word is rarer than this, on the Zipf scale (3: once in a million words).
        max_characters: so much of a text is looked at.

    Raises:
        ValueError: a threshold is out of its range; or a text stands where a list of texts belongs.
    """

    long_context_tokens: int = 4_000
    languages: Collection[str] = ("en",)
    min_letters: int = 20
    min_confidence: float = 0.7
    regulated_words: Sequence[str] = ()
    regulated_routes: Collection[str] = ()
    rare_names: int = 1
    rare_zipf: float = 3.0
    max_characters: int = 20_000

    def __post_init__(self) -> None:
        if min(self.long_context_tokens, self.min_letters, self.rare_names, self.max_characters) < 1:
            raise ValueError("SliceSettings: numbers of tokens, letters, names and characters are at least 1")
        if not 0.0 <= self.min_confidence <= 1.0:
            raise ValueError(f"SliceSettings: min_confidence is from 0 to 1, not {self.min_confidence!r}")
        for name in ("languages", "regulated_words", "regulated_routes"):
            if isinstance(getattr(self, name), str):
                raise ValueError(f"SliceSettings: {name} takes a list of texts: [{getattr(self, name)!r}]")


@dataclass(frozen=True, slots=True)
class SlicedRequest:
    """What slices are told from; what is unknown stays None, and slices that need it are not claimed.

    Attributes:
        text: what the user wrote, newest message first; None when content is not captured.
        input_tokens: length of the prompt in tokens.
        offers_tools: whether the model was offered tools.
        route: the application's route.
        overrides: slices to add, and with a ``-`` before them to leave out, with commas between: the tag ``slices``, as
            in ``tags(extra={"slices": "regulated,-code"})``. A slice of your own may be added too.
    """

    text: str | None = None
    input_tokens: int | None = None
    offers_tools: bool = False
    route: str | None = None
    overrides: str | None = None


_DEFAULTS = SliceSettings()


def slices_of(request: SlicedRequest, settings: SliceSettings = _DEFAULTS) -> tuple[str, ...]:
    """Return the slices that a request is in, in the order of :data:`SLICES`, slices of your own behind them.

    Without the extra ``evals``, languages and rare names are not told; a warning says so once.

    Args:
        request: the request.
        settings: the thresholds.
    """
    found = {*_by_numbers(request, settings)}
    if request.text and request.text.strip():
        found.update(_by_text(request.text[: settings.max_characters], settings))
    added, removed = _overrides(request.overrides)
    found = (found | {*added}) - removed
    return tuple([name for name in SLICES if name in found] + sorted(found.difference(SLICES)))


def _by_numbers(request: SlicedRequest, settings: SliceSettings) -> Iterator[str]:
    if request.input_tokens is not None and request.input_tokens >= settings.long_context_tokens:
        yield LONG_CONTEXT
    if request.offers_tools:
        yield TOOL_CALLING
    if request.route is not None and request.route in settings.regulated_routes:
        yield REGULATED


def _by_text(text: str, settings: SliceSettings) -> Iterator[str]:
    if _has_code(text):
        yield CODE
    if any(pattern.search(text) for pattern in map(phrase, settings.regulated_words) if pattern):
        yield REGULATED
    try:
        language = language_of(text, min_letters=settings.min_letters)
        sure = language if language and language.confidence >= settings.min_confidence else None
        if sure and not any(same_language(sure.code, own) for own in settings.languages):
            yield MULTILINGUAL
        if _has_rare_names(text, sure, settings):
            yield RARE_ENTITY
    except MissingExtra as error:
        say_once("the slices multilingual and rare_entity are not told", error)


def _has_code(text: str) -> bool:
    lines = islice(_CODE_LINE.finditer(text), _CODE_LINES)
    return bool(
        _FENCE.search(text) or sum(1 for _ in lines) == _CODE_LINES or (_LANGUAGE.search(text) and _CODING.search(text))
    )


def _has_rare_names(text: str, language: Language | None, settings: SliceSettings) -> bool:
    code = language.code if language else next(iter(settings.languages), "en")
    names = {text[start:end] for start, end in rare_names(text, below=settings.rare_zipf, language=code)}
    return len(names) >= settings.rare_names


def _overrides(text: str | None) -> tuple[list[str], set[str]]:
    names = [name.strip() for name in (text or "").split(",")[:_MAX_OVERRIDES]]
    added = [name for name in names if not name.startswith("-") and _NAME.fullmatch(name)]
    return added, {name[1:].strip() for name in names if name.startswith("-")}
