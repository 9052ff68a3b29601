"""Patterns of what should not stand in telemetry, and what takes their place: ``[email]`` for an address, and so on.

They are no promise that nothing personal is left: names and addresses have no pattern. For those, give
``ContentOptions(redact=...)`` a function. A number counts as a card or an account only if its check digits are right,
so that order numbers stay readable.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    Redactor = Callable[[str], tuple[str, int]]

# A domain in a script that puts spaces between words ends with the word; only one in another may take in what follows.
_EMAIL = re.compile(
    r"[\w\u0300-\u1fff.+%-]{1,64}@"
    r"(?:[A-Za-z0-9\u00c0-\u1fff][A-Za-z0-9\u00c0-\u1fff-]{0,62}(?:\.[A-Za-z0-9\u00c0-\u1fff-]{1,63}){1,8}"
    r"|\w[\w-]{0,62}(?:\.[\w-]{1,63}){1,8})"
)
# They begin with a class of characters, for which the search is several times as fast as for a look-behind.
# As one number, in fours, or as 4-6-5: what is in smaller groups is a list of other numbers, but for single digits.
_CARD = re.compile(r"(\d{4,19})(?:[ -]\d{4,19}){0,3}(?:[ -]\d{1,3})?(?!\w)")
_SPELLED_CARD = re.compile(r"\d(?:[ -]\d){12,18}(?!\w|[ -]\d)")
# How the numbers of those begin who issue cards; times in milliseconds and smaller units begin with 1, dates with 20.
_ISSUER = re.compile("2[2-7]|[3-6]|8[12]|9792")
_DOUBLED = bytes.maketrans(b"0123456789", b"0246813579")  # and the sum of the two digits that may come of it
_IBAN = re.compile(r"[A-Z]{2}\d{2}(?: ?[A-Z0-9]){11,30}(?!\w)")
_SSN = re.compile(r"\d{3}-(?!00)\d{2}-(?!0000)\d{4}(?![\w-])")
_SECRET = re.compile(
    r"-----BEGIN [A-Z ]*PRIVATE KEY(?: BLOCK)?-----.*?(?:-----END [A-Z ]*PRIVATE KEY(?: BLOCK)?-----|\Z)"
    r"|(?<![A-Za-z0-9])(?:sk-[A-Za-z0-9_-]{16,}|gh[pousr]_[A-Za-z0-9]{20,}|github_pat_\w{20,}|xox[abeprs]-[\w-]{10,}"
    r"|xapp-[\w-]{10,}|glpat-[\w-]{20,}|[rs]k_(?:live|test)_[A-Za-z0-9]{16,}|npm_[A-Za-z0-9]{36}|pypi-[\w-]{16,}"
    r"|A[KS]IA[A-Z0-9]{16}|AIza[\w-]{30,}|ya29\.[\w-]{20,}|hf_[A-Za-z0-9]{20,}|eyJ[\w-]{8,512}\.[\w-]{8,}\.[\w-]*)"
    # A token of any length, but only where a word begins: in "eyJ-eyJ-…" each place would be searched to the end.
    r"|(?<![\w-])eyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]*"
    r"|(?<=[Bb]earer )[\w.~+/-]{16,}=*",
    re.DOTALL,
)
# A search for one of these costs a hundredth of the pattern's own: most texts have no secret in them.
_SECRET_SIGNS = {
    "-": ("-----BEGIN", "sk-", "xox", "xapp-", "glpat-", "pypi-"),
    "_": ("gh", "hf_", "k_live_", "k_test_", "npm_"),
    "ya29.": ("",),
    "A": ("AKIA", "ASIA", "AIza"),
    "eyJ": ("eyJ",),
    "earer ": ("",),
}


def _emails(text: str) -> tuple[str, int]:
    if "@" not in text:
        return text, 0
    return _EMAIL.subn("[email]", text)


def _cards(text: str) -> tuple[str, int]:
    if b"0" * 13 not in _shape(text):
        return text, 0
    text, places = _checked(_CARD, "[payment_card]", _is_card, text)
    text, spelled = _checked(_SPELLED_CARD, "[payment_card]", _is_card, text)
    return text, places + spelled


def _ibans(text: str) -> tuple[str, int]:
    return _checked(_IBAN, "[iban]", _mod_97, text) if b"AA00" in _shape(text) else (text, 0)


def _ssns(text: str) -> tuple[str, int]:
    return _checked(_SSN, "[us_ssn]", _issued, text) if b"000-00-0000" in _shape(text, b"") else (text, 0)


def _secrets(text: str) -> tuple[str, int]:
    if not any(first in text and any(sign in text for sign in signs) for first, signs in _SECRET_SIGNS.items()):
        return text, 0
    return _SECRET.subn("[secret]", text)


_SHAPES = bytes(
    48 if 48 <= byte < 58 else 65 if 65 <= byte < 91 else byte if byte == ord("-") else 120 for byte in range(256)
)


def _shape(text: str, left_out: bytes = b" -") -> bytes:
    """Return a text with 0 for each digit, A for each capital, x for others but the dash, and no spaces and dashes.

    A tenth of what a regular expression takes to find out that there is no card number.
    """
    return text.encode("utf-8", "replace").translate(_SHAPES, left_out) if _has_digits(text) else b""


def _has_digits(text: str) -> bool:
    return any(digit in text for digit in "0123456789")


def _checked(pattern: re.Pattern[str], mark: str, valid: Callable[[str], bool], text: str) -> tuple[str, int]:
    parts: list[str] = []
    done = at = 0
    while match := pattern.search(text, at):
        start = match.start()
        found = "" if _goes_on_before(text, start) else match[0]
        while found and not valid(found.replace(" ", "").replace("-", "")):
            found = _without_last_group(found)  # a card's date or code may follow, or another word in capitals
        if found:
            parts += (text[done:start], mark)
            done = at = start + len(found)
        else:
            at = match.end(pattern.groups)  # other numbers may stand before a card's
    return "".join((*parts, text[done:])), len(parts) // 2


def _without_last_group(number: str) -> str:
    return number[: max(0, number.rfind(" "), number.rfind("-"))]


def _goes_on_before(text: str, start: int) -> bool:
    before = text[start - 1 : start]
    return before == "-" or before.isalnum() or (before == "." and text[start - 2 : start - 1].isdecimal())


def _issued(number: str) -> bool:
    return len(number) == 9 and number[:3] not in ("000", "666") and number[0] != "9"


def _is_card(number: str) -> bool:
    return 13 <= len(number) <= 19 and _ISSUER.match(number) is not None and _luhn(number)


def _luhn(number: str) -> bool:
    digits = number.encode()
    return (sum(digits[::-2]) + sum(digits[-2::-2].translate(_DOUBLED)) - len(digits) * ord("0")) % 10 == 0


def _mod_97(account: str) -> bool:
    return 15 <= len(account) <= 34 and int("".join(str(int(char, 36)) for char in account[4:] + account[:4])) % 97 == 1


def _phones() -> Redactor:
    try:
        import phonenumbers
    except ImportError as error:
        raise ImportError(
            "the pattern 'phone' needs the library phonenumbers: pip install 'traceai-vllm[redaction]'"
        ) from error

    def phones(text: str) -> tuple[str, int]:
        if not _has_digits(text):
            return text, 0
        # Without a country only international numbers (+44 …) can be told from other digits.
        found = list(phonenumbers.PhoneNumberMatcher(text, None))
        for match in reversed(found):
            text = text[: match.start] + "[phone]" + text[match.end :]
        return text, len(found)

    return phones


PATTERNS: dict[str, Callable[[], Redactor]] = {
    "email": lambda: _emails,
    "iban": lambda: _ibans,
    "payment_card": lambda: _cards,
    "us_ssn": lambda: _ssns,
    "secret": lambda: _secrets,
    "phone": _phones,
}
"""Name of each pattern to what makes its redactor, from text to the redacted text and the number of places."""

DEFAULT = ("secret", "email", "iban", "payment_card", "us_ssn")


def redactors(chosen: Collection[str | re.Pattern[str]]) -> list[Redactor]:
    """Return the redactors for these names and regular expressions.

    Raises:
        ValueError: a name that is not in :data:`PATTERNS`.
        ImportError: a pattern needs a library that is not installed.
    """
    made = []
    for pattern in chosen:
        if isinstance(pattern, re.Pattern):
            made.append(_own(pattern))
        elif pattern in PATTERNS:
            made.append(PATTERNS[pattern]())
        else:
            raise ValueError(f"no pattern is called {pattern!r}; there are {', '.join(PATTERNS)}")
    return made


def _own(pattern: re.Pattern[str]) -> Redactor:
    return lambda text: pattern.subn("[redacted]", text)
