"""Cohort slices: the kinds of requests on which quantization is known to do harm, each by a rule that can be read.

    from traceai_vllm.evals.slices import SliceSettings, slices_of

    slices_of(SlicedRequest(text="¿Cuál es el período de espera para mi reclamación?", input_tokens=9_000))
    # ('long_context', 'multilingual')

Slices come from the request alone, never from an answer: both answers to one request are in the same slices.
"""

from __future__ import annotations

import re
import unicodedata
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
_CODE_LINE = re.compile(
    r"^[ \t]{0,40}(?:"
    r"(?:def|class|fn|func|function|public|private|static|const|let|var|import|from|using|package|#include)\b"
    r"[^\n]{0,200}[({;:=\"'<]|(?:SELECT|INSERT INTO|UPDATE|CREATE TABLE)\b|[\w.]{1,60}\([^\n]{0,120}\);?$|"
    r"[^\n]{0,80}(?:\w\(|[=\[\]]|\+\+|::|->|\breturn\b)[^\n]{0,80}[;{]$)",
    re.M,
)
_CODE_LINES = 2
# One of these is enough: what stands in code and hardly in prose, by a mark without which it is not looked for.
_CODE = {
    mark: re.compile(pattern, re.M)
    for mark, pattern in {
        "`": r"^ {0,3}```|(?<!`)`[^`\n]{1,80}`(?!`)",
        "~~~": r"^ {0,3}~~~",
        "(": r"\b(?:def|func|fn|function) \w{1,60}\(|\b(?:print|printf|main|len)\(|"
        r"[A-Za-z_]\.[A-Za-z_]\w{0,40}\([^()\n]{0,120}\)",
        ";": r"\bfor ?\([^()\n]{0,80};[^()\n]{0,80};",
        "=": r"\b(?:const|let|var) \w{1,60} ?=|\) ?=>",
        "FROM": r"\bSELECT\b[^\n]{1,200}\bFROM\b",
        "INTO": r"\bINSERT INTO\b",
        "TABLE": r"\bCREATE TABLE\b",
        "#include": r"^[ \t]*#include ?<",
        "import": r"^[ \t]*(?:import [\w.]{1,60}(?: as \w{1,40})?|from [\w.]{1,60} import [^\n]{1,100})[ \t]*$",
        ">": r"</?(?:div|span|body|table|tr|td|ul|li|img|script|style|input|button|br)\b[^<>\n]{0,200}>",
        "Error": r"(?<=[A-Za-z])Error\b",
        "Exception": r"(?<=[A-Za-z])Exception\b",
        "Traceback": r"\bTraceback \(most recent call last\)",
    }.items()
}
# These are looked for in the text in small letters, which is faster than without regard to case.
# What is asked for by its name alone.
_CODING_NAME = re.compile(
    r"(?<![a-z0-9_])(?:javascript|typescript|js|c\+\+|c#|golang|kotlin|php|sql|mysql|postgres(?:ql)?|powershell|"
    r"regex(?:es|p)?|regular expressions?|dockerfile|html|css|yaml|numpy|pandas|pytorch|tensorflow|fastapi|"
    r"node\.js|react (?:component|hook|app)s?|async/await|stack ?trace|segfault|leetcode|quicksort|merge sort|"
    r"binary search|linked list|time complexity|makefile|select \* from|"
    r"refactor|debug|unit tests?|source code|(?:bash|shell|python|sql) (?:script|query|one-liner)s?|"
    r"(?:git|npm|pip|yarn|docker|kubectl|cargo|conda) (?:install|run|commit|push|pull|clone|rebase|merge|checkout|"
    r"build|get|logs|exec)|curl -\w+)(?![a-z0-9_])",
)
_CODING_REQUEST = re.compile(
    r"\b(?:write|implement|create|give me|need) (?:me )?(?:an?|the|some|this) (?:[\w-]{1,20} ){0,2}"
    r"(?:function|algorithm|one-liner)\b(?! about)|"
    r"\b(?:explain|fix|review|optimi[sz]e|test|document|run) (?:this|my|the following) code\b",
)
# These have other meanings too, and need a word of programming near them, on either side.
_LANGUAGE = re.compile(r"(?<![a-z0-9_])(?:python|java|rust|swift|ruby|bash|perl|scala|matlab|flask)(?![a-z0-9_])")
_CODING = re.compile(
    r"\b(?:code|functions?|script|query|programs?|class|method|snippet|bug|exception|compile|implement|strings?|arrays?|"
    r"lists?|loop|file|parse|json|csv|api|library|package|errors?|struct|dictionar(?:y|ies)|requests?|app|funktion|skript|"
    r"programma?|programme|funci[oó]n|função|funzione|c[oó]digo|fonction)\b|函数|代码|脚本|関数|コード|함수|코드|функци|код"
)
_NEAR = 60
_END = re.compile(r"[.?!\n]")
_IN_LANGUAGE = re.compile(
    r"\b(?:in|with|using|en|con|avec|mit) (?:[Pp]ython|Rust|Perl|Scala|[Bb]ash|MATLAB|[Mm]atlab)\b"
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
        text = unicodedata.normalize("NFC", request.text[: settings.max_characters])
        found.update(_by_text(text, settings))
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
    small = text.lower()
    if any(mark in text and pattern.search(text) for mark, pattern in _CODE.items()):
        return True
    if _IN_LANGUAGE.search(text) or _CODING_NAME.search(small) or _CODING_REQUEST.search(small):
        return True
    if any(_is_near_coding(small, language) for language in _LANGUAGE.finditer(small)):
        return True
    lines = islice(_CODE_LINE.finditer(text), _CODE_LINES)
    return sum(1 for _ in lines) == _CODE_LINES


def _is_near_coding(text: str, language: re.Match[str]) -> bool:
    """Whether a word of programming stands near a language's name, in the same sentence."""
    before = _END.split(text[max(0, language.start() - _NEAR) : language.start()])[-1]
    after = _END.split(text[language.end() : language.end() + _NEAR])[0]
    return _CODING.search(before) is not None or _CODING.search(after) is not None


def _has_rare_names(text: str, language: Language | None, settings: SliceSettings) -> bool:
    code = language.code if language else next(iter(settings.languages), "en")
    names = {text[start:end] for start, end in rare_names(text, below=settings.rare_zipf, language=code)}
    return len(names) >= settings.rare_names


def _overrides(text: str | None) -> tuple[list[str], set[str]]:
    names = [name.strip() for name in (text or "").split(",")[:_MAX_OVERRIDES]]
    added = [name for name in names if not name.startswith("-") and _NAME.fullmatch(name)]
    return added, {name[1:].strip() for name in names if name.startswith("-")}
