"""Did the language switch, or did another script get in between?"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from traceai_vllm.evals.errors import MissingExtra
from traceai_vllm.evals.languages import Language, language_of, same_language
from traceai_vllm.evals.missing import say_once
from traceai_vllm.evals.paired.answer import quoted
from traceai_vllm.evals.result import EvaluationResult, TextRange

if TYPE_CHECKING:
    from traceai_vllm.evals.paired.answer import Answer
    from traceai_vllm.evals.paired.settings import PairedSettings

NAME = "LanguageAgreement"

_SHOWN = 3
# Blocks of the Unicode standard. Runs of two letters and more: a single Greek letter is a symbol.
_SCRIPTS = {
    "Han or kana": "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff",
    "Hangul": "\u1100-\u11ff\u3130-\u318f\uac00-\ud7af",
    "Cyrillic": "\u0400-\u052f",
    "Greek": "\u0370-\u03ff",
    "Arabic": "\u0600-\u06ff\u0750-\u077f",
    "Hebrew": "\u0590-\u05ff",
    "Devanagari": "\u0900-\u097f",
    "Bengali": "\u0980-\u09ff",
    "Tamil": "\u0b80-\u0bff",
    "Thai": "\u0e00-\u0e7f",
    "Georgian": "\u10a0-\u10ff",
    "Armenian": "\u0530-\u058f",
}
_RUNS = {name: re.compile(f"[{block}]{{2,}}") for name, block in _SCRIPTS.items()}


def check(baseline: Answer, candidate: Answer, settings: PairedSettings, route: str | None) -> EvaluationResult | None:
    """Score 0 if the language switched; less than 1 if words of a script came in that the baseline's answer has not.

    None where one of the answers has no text. Without the extra ``evals`` only the scripts are compared.

    Labels: ``same``, ``switched``, ``script_mixed``, ``unknown`` (too little text for the language; no new script).
    """
    del route
    if not baseline.text.strip() or not candidate.text.strip():
        return None
    before, after = _language(baseline.text, settings), _language(candidate.text, settings)
    if before and after and not same_language(before.code, after.code):
        said = f"the baseline answers in {before.code}, the candidate in {after.code}: {quoted(candidate.text)}"
        return EvaluationResult(NAME, 0.0, "switched", 1.0, said, details=_details(before, after))
    foreign = _foreign(baseline.text, candidate.text)
    if foreign:
        words = ", ".join(quoted(candidate.text[r.start : r.end]) for _, r in foreign[:_SHOWN])
        share = sum(r.end - r.start for _, r in foreign) / len(candidate.text)
        said = f"the candidate mixes in {foreign[0][0]} script: {words}"
        ranges = tuple(sorted(r for _, r in foreign))
        score = round(max(0.0, min(0.99, 1.0 - share)), 4)
        return EvaluationResult(NAME, score, "script_mixed", 1.0, said, {"words": len(foreign)}, ranges)
    known = before and after
    said = f"both answers are in {before.code}" if before and after else "too little text to tell the language"
    return EvaluationResult(NAME, 1.0, "same" if known else "unknown", 1.0, said, details=_details(before, after))


def _language(text: str, settings: PairedSettings) -> Language | None:
    try:
        found = language_of(text, min_letters=settings.min_letters)
    except MissingExtra as error:
        say_once("the paired check of languages compares scripts only", error)
        return None
    return found if found and found.confidence >= settings.min_confidence else None


def _foreign(baseline: str, candidate: str) -> list[tuple[str, TextRange]]:
    return [
        (name, TextRange(*run.span()))
        for name, runs in _RUNS.items()
        if not runs.search(baseline)
        for run in runs.finditer(candidate)
    ]


def _details(before: Language | None, after: Language | None) -> dict[str, str | None]:
    return {"baseline": before and before.code, "candidate": after and after.code}
