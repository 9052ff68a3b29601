"""One spelling for each letter: `ü` may be one sign, or `u` and an accent, as in text taken out of a PDF."""

from __future__ import annotations

import re
import unicodedata

# What is not seen, and letters that are printed as one.
_SHOWN = dict.fromkeys((0xAD, 0x200B, 0x2060, 0xFEFF), "") | {
    0xFB00 + number: letters for number, letters in enumerate(("ff", "fi", "fl", "ffi", "ffl"))
}
_ACCENT = "\u0300-\u036f\u0653-\u0655\u093c\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20ff\u3099\u309a\ufe20-\ufe2f"
_LETTER = re.compile(rf"[\u1100-\u11ff]+|[^{_ACCENT}]?[{_ACCENT}]*", re.S)  # of Korean whole words


def readable(text: str) -> str:
    """Return a text of which only the words matter, in Unicode's form NFC, without soft hyphens and the like."""
    return text if text.isascii() else unicodedata.normalize("NFC", text.translate(_SHOWN))


def composed(text: str) -> tuple[str, list[int] | None]:
    """Return a text in Unicode's form NFC, and where its characters and its end were; None for where they are."""
    if unicodedata.is_normalized("NFC", text):
        return text, None
    pieces: list[str] = []
    origins: list[int] = []
    for letter in _LETTER.finditer(text):
        piece = unicodedata.normalize("NFC", letter[0])
        pieces.append(piece)
        origins += [letter.start()] * len(piece)
    return "".join(pieces), [*origins, len(text)]
