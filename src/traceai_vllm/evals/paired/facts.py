"""Were identifiers, amounts or rare names changed?"""

from __future__ import annotations

import re
from difflib import SequenceMatcher
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

from traceai_vllm.evals.errors import MissingExtra
from traceai_vllm.evals.languages import language_of
from traceai_vllm.evals.missing import say_once
from traceai_vllm.evals.notation import NUMBER, UNSPACED, dates_in, minus_before, readings
from traceai_vllm.evals.paired.answer import pairs
from traceai_vllm.evals.paired.respelling import respelled_in
from traceai_vllm.evals.paired.times import times_in, without_times
from traceai_vllm.evals.rare_names import rare_names
from traceai_vllm.evals.result import EvaluationResult, TextRange

if TYPE_CHECKING:
    from collections.abc import Iterator

    from traceai_vllm.evals.paired.answer import Answer
    from traceai_vllm.evals.paired.settings import PairedSettings

NAME = "IdentifierAgreement"

_MOST = 300
_COMPARED = 20
_SHOWN = 5
_ALIKE = 0.6
_SURE = 0.6  # of a language
# Punctuation of Chinese and Japanese, which ends an address without a space.
_WIDE_MARKS = "\u3001-\u3003\u3008-\u3011\u3014-\u301b\uff01\uff08\uff09\uff0c\uff1a\uff1b\uff1f"
# An address; the number of a card or an account, in groups; or a word of letters and digits, with what may be inside:
# AB-1293, 2024-05-01, 1,299.00, 9f3c:0b.
_FACT = re.compile(
    rf"(?P<address>https?://[^\s<>\"')\]`{_WIDE_MARKS}]{{1,500}}|[\w.+-]{{1,64}}@[\w-]{{1,63}}(?:\.[\w-]{{1,63}}){{1,8}})"
    r"|(?P<account>(?<![\w.])(?:\d{4}(?:[ -]\d{4}){2,4}|[A-Z]{2}\d{2}(?: [A-Z\d]{4}){2,7}(?: [A-Z\d]{1,3})?)(?!\w|-\w))"
    rf"|(?P<number>{NUMBER})[a-z]{{0,3}}(?!\w|[./:-]\w|,\d)"
    r"|[^\W_](?:(?:[\w./:-]|,(?=\d{3}(?!\d))){0,100}[^\W_])?"
)
_SIGNS = re.compile(f"[{UNSPACED}]")
_DIGIT = re.compile(r"\d")
# With what is written right behind it, as in 20mg and 3rd.
_NUMBER = re.compile(rf"({NUMBER})([a-z]{{0,3}})", re.I)
# The number of a list's item is its form and no amount.
_LIST_NUMBER = re.compile(r"^[ \t>*#]{0,12}\(?\d{1,3}[.)](?=\s)", re.M)
# Of a section of a law, as in 401(k).
_BRACKETED = re.compile(r"(?<=\d)\(([a-z])\)(?!\w)")
_YEARS = re.compile(r"((?:1[5-9]|20)\d\d)[-/]((?:1[5-9]|20)?)(\d\d)")
_LONGEST_AMOUNT = 12  # digits; as many in a row are the number of a card or an account
_RANGE = re.compile(r"([1-9]\d{0,3})-([1-9]\d{0,3})")
_ONES = {
    word: value
    for value, word in enumerate(
        """zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen
        seventeen eighteen nineteen""".split()  # noqa: SIM905
    )
} | {"first": 1, "second": 2, "third": 3, "fourth": 4, "fifth": 5}
_TENS = {
    word: 10 * value
    for value, word in enumerate("twenty thirty forty fifty sixty seventy eighty ninety".split(), 2)  # noqa: SIM905
}
_VERSION = re.compile(r"\Av(?=\d+\.\d)")
_HUNDREDS = {"hundred": 100, "thousand": 1_000}
_PER_UNIT = re.compile(
    r"(\d{1,6})-(?:day|week|month|year|hour|minute|second|mile|page|point|star|digit|step|person)s?(?:-old)?", re.I
)
# Hyphens as word processors and models write them; letters and digits of full width; small digits as in H₂O.
_SPELLED_ALIKE = (
    dict.fromkeys((0x2010, 0x2011, 0x2212, 0xFF0D), "-")
    | {sign + 0xFEE0: sign for sign in (*range(0x30, 0x3A), *range(0x41, 0x5B), *range(0x61, 0x7B))}
    | {0x2080 + digit: 0x30 + digit for digit in range(10)}
)
_SCALE = re.compile(r"[ ](thousand|million|billion|trillion)\b", re.I)
_MONEY = frozenset("$£€¥")
_ZEROS_OF_MONEY = {"m": 6, "b": 9}  # elsewhere `m` are metres
_ZEROS_OF_CAPITALS = {"M": 6, "B": 9}
_ZEROS = {"thousand": 3, "million": 6, "billion": 9, "trillion": 12, "k": 3, "mn": 6, "bn": 9}
_SPELLED = re.compile(
    rf"\b(?:(?P<tens>{'|'.join(_TENS)})(?:[- ](?P<one>{'|'.join(_ONES)}))?|(?P<only>{'|'.join(_ONES)})|(?P<a>an?))"
    rf"(?: (?P<hundreds>{'|'.join(_HUNDREDS)}))?\b",
    re.I,
)


class Fact(NamedTuple):
    """Something that must not change: its kind, its value in one spelling, where it stands, and another reading."""

    kind: str
    value: str
    where: TextRange
    other: str = ""


def check(baseline: Answer, candidate: Answer, settings: PairedSettings, route: str | None) -> EvaluationResult | None:
    """Score the share of the baseline's identifiers, amounts and rare names that the candidate's answer has too.

    The notation makes no difference: separators, trailing zeros, `million`, short spelled numbers, the dash of a range,
    how a date or a time is written, the slash at the end of an address, what stands between the letters and digits of
    an identifier, spaces in the number of an account; a minus does. What the candidate adds is counted and
    costs nothing: the baseline cannot say whether it is right. None where the baseline's answer has nothing of the
    kind. Without the extra ``evals`` names are not compared.

    Labels: ``kept``; ``altered`` (something became something alike, as 1,299 and 1,229); ``lost``.
    """
    del route
    if baseline.bare or candidate.bare:
        return None
    before, after = facts_in(baseline.text, settings), facts_in(candidate.text, settings)
    if not before:
        return None
    known = {each for fact in after for each in (*_spellings(fact), *_ends(fact), *_parts(fact))}
    known |= _spelled(candidate.text)
    amounts = {fact.value for fact in after if fact.kind == "amount"}

    def is_kept(fact: Fact) -> bool:
        ends, parts = _ends(fact), _parts(fact)
        return (
            not known.isdisjoint(_spellings(fact))
            or (bool(ends) and known.issuperset(ends))
            or (bool(parts) and amounts.issuperset(parts))
            or _stands_in(candidate.text, fact)
        )

    lost = [fact for fact in before if not is_kept(fact)]
    if lost:
        lost = _without_respelled(lost, after, baseline.text, candidate.text)
    added = [fact for fact in after if fact.value not in {fact.value for fact in before}]
    altered = _altered(lost, added)
    counts = {"facts": len(before), "lost": len(lost), "altered": len(altered), "added": len(added)}
    if not lost:
        said = f"all {len(before)} identifiers, amounts and rare names of the baseline are kept"
        return EvaluationResult(NAME, 1.0, "kept", 1.0, said, counts)
    return EvaluationResult(
        NAME,
        round(1 - len(lost) / len(before), 4),
        "altered" if altered else "lost",
        1.0,
        _explained(baseline.text, candidate.text, lost, altered),
        counts,
        tuple(sorted(new.where for _, new in altered)),
        {"baseline_ranges": pairs([fact.where for fact in lost]), "added_ranges": pairs([f.where for f in added])},
    )


def facts_in(text: str, settings: PairedSettings) -> list[Fact]:
    """Return the identifiers, amounts and rare names of a text, each value once, at most a few hundred."""
    found: dict[str, Fact] = {}
    for fact in islice(_all(text, settings), _MOST):
        found.setdefault(fact.value, fact)
    return list(found.values())


def _all(text: str, settings: PairedSettings) -> Iterator[Fact]:
    plain = _LIST_NUMBER.sub(lambda mark: " " * len(mark[0]), text).translate(_SPELLED_ALIKE)
    rest: list[str] = []
    at = 0
    for start, end, days in dates_in(plain):
        value, *other = (f"{day.year}-{day.month:02}-{day.day:02}" for day in days)
        yield Fact("date", value, TextRange(start, end), *other)
        rest += plain[at:start], "\n" * (end - start)
        at = end
    plain = "".join((*rest, plain[at:]))
    for start, end, times in times_in(plain):
        value, *other = times
        yield Fact("time", value, TextRange(start, end), *other)
    plain = without_times(plain)
    plain = _BRACKETED.sub(r"\1  ", _SIGNS.sub("\n", plain))
    for found in _FACT.finditer(plain):
        number = _NUMBER.fullmatch(found[0])
        if number and not (number[1].isdecimal() and len(number[1]) >= _LONGEST_AMOUNT):
            scale = _SCALE.match(plain, found.end())
            zeros = _zeros(
                scale[1] if scale else number[2], of_money=plain[found.start() - 1 : found.start()] in _MONEY
            )
            end = scale.end() if scale else found.end()
            end += 2 * ("(" in text[found.start() : end])  # of 401(k), which is read as 401k
            minus = minus_before(plain, found.start())
            values = ("-" * bool(minus) + _moved(reading, zeros) for reading in readings(number[1]))
            value, *other = values
            yield Fact("amount", value, TextRange(found.start() - minus, end), *other)
        elif counted := _PER_UNIT.fullmatch(found[0]):
            yield Fact("amount", readings(counted[1])[0], TextRange(*found.span()))
        elif found["account"]:
            value = found[0].translate({32: None, 45: None}).casefold()
            yield Fact("identifier", value, TextRange(*found.span()))
        elif found["address"] or _DIGIT.search(found[0]):
            said = found[0].rstrip(".,;:!?*_")
            kind = "address" if found["address"] else "identifier"
            value = said.casefold().rstrip("/") if found["address"] else _VERSION.sub("", said.casefold())
            yield Fact(kind, value, TextRange(found.start(), found.start() + len(said)), _whole_years(value))
    try:
        for where in rare_names(text, below=settings.rare_zipf, language=_language(text)):
            yield Fact("name", text[where.start : where.end].casefold(), where)
    except MissingExtra as error:
        say_once("the paired check of identifiers leaves rare names out", error)


def _whole_years(said: str) -> str:
    """The years of 2019-21 with four digits each; of 2011-12, which may be a month, too. Empty for anything else."""
    years = _YEARS.fullmatch(said)
    if not years or (not years[2] and years[1][2:] >= years[3]):
        return ""
    return f"{years[1]}-{years[2] or years[1][:2]}{years[3]}"


def _language(text: str) -> str:
    spoken = language_of(text)
    return spoken.code if spoken is not None and spoken.confidence >= _SURE else "en"


def _zeros(scale: str, *, of_money: bool) -> int:
    small = scale.lower()
    return _ZEROS.get(small, _ZEROS_OF_MONEY.get(small, 0) if of_money else _ZEROS_OF_CAPITALS.get(scale, 0))


def _stands_in(text: str, name: Fact) -> bool:
    # Where a sentence begins, a name is not told from another word.
    return name.kind == "name" and re.search(rf"\b{re.escape(name.value)}\b", text.casefold()) is not None


def _ends(fact: Fact) -> tuple[str, ...]:
    """The two amounts of a range, as of 10-20, which may be written as 10 to 20."""
    ends = _RANGE.fullmatch(fact.other if fact.kind == "identifier" and fact.other else fact.value)
    return ends.groups() if ends else ()


def _spellings(fact: Fact) -> tuple[str, ...]:
    return (fact.value, fact.other) if fact.other else (fact.value,)


def _parts(fact: Fact) -> tuple[str, ...]:
    """Year and day, which may be written apart: in 2024, on March 3; and the hour of a time: from 9 to 11 a.m."""
    if fact.kind == "date":
        return fact.value[:4], fact.value[8:].lstrip("0")
    if fact.kind == "time" and fact.value.endswith(":00"):
        return (str((int(fact.value[:2]) - 1) % 12 + 1),)
    return ()


def _without_respelled(lost: list[Fact], after: list[Fact], baseline: str, candidate: str) -> list[Fact]:
    """Leave out what has only other marks between its letters and digits: ISO 27001, ISO-27001 and ISO27001."""
    before, there = baseline.translate(_SPELLED_ALIKE), candidate.translate(_SPELLED_ALIKE)
    theirs = [fact.value for fact in after if fact.kind == "identifier"][:_COMPARED]
    spans = [span for value in theirs for span in respelled_in(before, value)]

    def is_respelled(fact: Fact) -> bool:
        start, end = fact.where
        return any(first <= start and end <= last for first, last in spans) or (
            fact.kind == "identifier" and any(respelled_in(there, fact.value))
        )

    return [fact for fact in lost[:_COMPARED] if not is_respelled(fact)] + lost[_COMPARED:]


def _moved(number: str, zeros: int) -> str:
    """A plain number times ten to the power of some zeros."""
    whole, _, fraction = number.partition(".")
    moved = fraction.ljust(zeros, "0")
    whole, fraction = whole + moved[:zeros], moved[zeros:].rstrip("0")
    whole = whole.lstrip("0") or "0"
    return f"{whole}.{fraction}" if fraction else whole


def _spelled(text: str) -> set[str]:
    return {str(_value_of(found)) for found in _SPELLED.finditer(text) if found["hundreds"] or not found["a"]}


def _value_of(spelled: re.Match[str]) -> int:
    if spelled["a"]:
        return _HUNDREDS[spelled["hundreds"].lower()]
    tens, one = (spelled["tens"] or "").lower(), (spelled["one"] or spelled["only"] or "").lower()
    return (_TENS.get(tens, 0) + _ONES.get(one, 0)) * _HUNDREDS.get((spelled["hundreds"] or "").lower(), 1)


def _altered(lost: list[Fact], added: list[Fact]) -> list[tuple[Fact, Fact]]:
    """Pairs of what was lost and what stands for it now, by likeness; each of the few that are compared once."""
    changed, free = [], added[:_COMPARED]
    for old in lost[:_COMPARED]:
        alike = [(_likeness(old, new), index) for index, new in enumerate(free) if new.kind == old.kind]
        best, index = max(alike, default=(0.0, -1))
        if best >= _ALIKE:
            changed.append((old, free.pop(index)))
    return changed


def _likeness(one: Fact, other: Fact) -> float:
    return SequenceMatcher(None, one.value[:64], other.value[:64], autojunk=False).ratio()


def _explained(baseline: str, candidate: str, lost: list[Fact], altered: list[tuple[Fact, Fact]]) -> str:
    def shown(text: str, fact: Fact) -> str:
        return text[fact.where.start : fact.where.end][:80]

    said = [f'"{shown(baseline, old)}" became "{shown(candidate, new)}"' for old, new in altered[:_SHOWN]]
    gone = [fact for fact in lost if fact not in {old for old, _ in altered}]
    said += [f'"{shown(baseline, fact)}" is lost' for fact in gone[: max(0, _SHOWN - len(said))]]
    more = len(lost) - len(said)
    return "; ".join(said) + (f"; and {more} more" if more > 0 else "")
