"""Find a phrase in a text whatever its letter case, spacing, line breaks, Markdown and quotation marks."""

from __future__ import annotations

import functools
import re
import unicodedata

_WORD = re.compile(r"[^\W_]+")
_BETWEEN = r"[\W_]{1,20}?"


@functools.lru_cache(maxsize=1024)
def phrase(words: str) -> re.Pattern[str] | None:
    """Return a pattern that finds a phrase by its words, as whole words, in a text of Unicode's form NFC.

    None for a phrase without any words.
    """
    parts = [re.escape(word) for word in _WORD.findall(unicodedata.normalize("NFC", words))]
    return re.compile(rf"(?<![^\W_]){_BETWEEN.join(parts)}(?![^\W_])", re.I) if parts else None
