"""Names that are rare: what a model with less precision forgets first.

Frequencies are wordfreq's, on the Zipf scale: the base-10 logarithm of a word's uses in a billion words (van Heuven,
Mandera, Keuleers and Brysbaert, "SUBTLEX-UK", 2014).
"""

from __future__ import annotations

import functools
import re
from typing import TYPE_CHECKING, Any

from traceai_vllm.evals.errors import optional
from traceai_vllm.evals.result import TextRange

if TYPE_CHECKING:
    from collections.abc import Iterator

# A capital, or a capital inside, after something that ends no sentence: there an ordinary word is written small.
_NAME = re.compile(r"(?<=[^\W_][ ,(/-])[^\W\d_]*[A-ZÀ-ÖØ-Þ][^\W\d_]+")
_SHORTEST = 4
_LONGEST = 40
# In these every noun is written with a capital.
_NOUNS_ARE_CAPITAL = frozenset({"de", "lb"})
# Their word lists need a tokenizer that is not installed with them.
_NOT_READ = frozenset({"ja", "ko", "zh"})


def rare_names(text: str, *, below: float = 3.0, language: str = "en") -> Iterator[TextRange]:
    """Yield where the rare names of a text stand, in order.

    Args:
        text: the text.
        below: a name is rare when its word is rarer than this, on the Zipf scale (3: once in a million words).
        language: the text's, as ISO 639-1 code; of one without a word list, or where nouns have capitals, none is told.

    Raises:
        MissingExtra: wordfreq is not installed.
    """
    if language in _NOUNS_ARE_CAPITAL | _NOT_READ or language not in _languages():
        return
    for found in _NAME.finditer(text):
        # Capitals alone are a heading, or an abbreviation, of which word lists know little.
        if _SHORTEST <= len(found[0]) <= _LONGEST and not found[0].isupper() and _zipf(found[0], language) < below:
            yield TextRange(*found.span())


@functools.lru_cache(maxsize=20_000)
def _zipf(word: str, language: str) -> float:
    return float(_wordfreq().zipf_frequency(word, language))


@functools.cache
def _languages() -> frozenset[str]:
    return frozenset(_wordfreq().available_languages())


def _wordfreq() -> Any:
    return optional("wordfreq", "rare names")
