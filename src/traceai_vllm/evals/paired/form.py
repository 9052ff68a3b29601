"""Did the format break: JSON, code fences, lists, tables, headings?"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from traceai_vllm.evals.json_text import read_json
from traceai_vllm.evals.result import EvaluationResult, TextRange

if TYPE_CHECKING:
    from traceai_vllm.evals.paired.answer import Answer
    from traceai_vllm.evals.paired.settings import PairedSettings

NAME = "FormatAgreement"

_FENCE = re.compile(r"^[ ]{0,3}(?:```|~~~).*$", re.M)
_WHOLE_FENCE = re.compile(r"\s*```(?:json)?[ \t]*\n(?P<body>.*?)\n[ \t]*```\s*", re.S | re.I)
_MARKDOWN = {
    "list": (re.compile(r"^[ \t]{0,12}(?:[-*+•]|\d{1,3}[.)])[ \t]+\S", re.M), 2),
    "table": (re.compile(r"^[ \t]{0,40}(?:\|[ \t]{0,40})?:?-+:?[ \t]{0,40}\|[-| \t:]*$", re.M), 1),
    "headings": (re.compile(r"^#{1,6}[ \t]+\S", re.M), 1),
}
_SHOWN = 5


def check(baseline: Answer, candidate: Answer, settings: PairedSettings, route: str | None) -> EvaluationResult | None:
    """Score the share of the baseline's forms that the candidate's answer has too.

    JSON: the whole answer, or the whole answer in one Markdown fence, which must not come where the baseline had none;
    of an object, its keys too. Else: code fences, of which the last must be closed; lists; tables; headings. None where
    the baseline's answer has no such form.

    Labels: ``kept``; ``json_broken``, ``json_fenced``, ``json_keys_lost``; ``fence_unclosed``; ``lost`` (of Markdown).
    """
    del settings, route
    if candidate.bare or baseline.bare:
        return None
    wanted = _json(baseline.text)
    if wanted is not None:
        return _compare_json(wanted[0], candidate.text, fenced=_is_fenced(baseline.text))
    forms = _forms(baseline.text)
    if not forms:
        return None
    fences = [*_FENCE.finditer(candidate.text)]
    if "code fence" in forms and len(fences) % 2:
        where = TextRange(fences[-1].start(), len(candidate.text))
        said = "the candidate's last code fence is not closed"
        return EvaluationResult(NAME, 0.0, "fence_unclosed", 1.0, said, {"forms": len(forms)}, (where,))
    lost = [form for form in forms if form not in _forms(candidate.text)]
    counts = {"forms": len(forms), "lost": len(lost)}
    if lost:
        said = f"the candidate has no {' and no '.join(lost)}, the baseline has"
        return EvaluationResult(NAME, round(1 - len(lost) / len(forms), 4), "lost", 1.0, said, counts)
    return EvaluationResult(NAME, 1.0, "kept", 1.0, f"both answers have {' and '.join(forms)}", counts)


def _compare_json(wanted: Any, text: str, *, fenced: bool) -> EvaluationResult:
    found = _json(text)
    if found is None:
        problem = read_json(_unfenced(text))
        where = min(problem.position, len(text))
        said = f"the baseline's answer is JSON, the candidate's is not: {problem.message or 'it is a plain word'}"
        ranges = (TextRange(where, len(text)),) if where < len(text) else ()
        return EvaluationResult(NAME, 0.0, "json_broken", 1.0, said, unsupported=ranges)
    if _is_fenced(text) and not fenced:
        said = "the candidate puts its JSON into a Markdown fence, the baseline does not"
        return EvaluationResult(NAME, 0.0, "json_fenced", 1.0, said)
    value = found[0]
    if type(value) is not type(wanted):
        said = f"the baseline's answer is a JSON {_kind(wanted)}, the candidate's a JSON {_kind(value)}"
        return EvaluationResult(NAME, 0.0, "json_broken", 1.0, said)
    keys = list(wanted) if isinstance(wanted, dict) else []
    lost = [key for key in keys if key not in value]
    counts = {"keys": len(keys), "lost": len(lost)}
    if lost:
        shown = ", ".join(f"`{key[:40]}`" for key in lost[:_SHOWN])
        said = f"the candidate's JSON lacks {shown}"
        return EvaluationResult(NAME, round(1 - len(lost) / len(keys), 4), "json_keys_lost", 1.0, said, counts)
    return EvaluationResult(NAME, 1.0, "kept", 1.0, f"both answers are a JSON {_kind(wanted)}", counts)


def _json(text: str) -> tuple[Any] | None:
    """The JSON object or list that a text is, in a tuple; None where it is none (a bare word or number is prose)."""
    body = _unfenced(text).strip()
    if not body.startswith(("{", "[")):
        return None
    read = read_json(body)
    return None if read.problem else (read.value,)


def _is_fenced(text: str) -> bool:
    return _WHOLE_FENCE.fullmatch(text) is not None


def _unfenced(text: str) -> str:
    fenced = _WHOLE_FENCE.fullmatch(text)
    return fenced["body"] if fenced else text


def _kind(value: Any) -> str:
    return "object" if isinstance(value, dict) else "list"


def _forms(text: str) -> list[str]:
    fences = len(_FENCE.findall(text))
    found = ["code fence"] if fences and fences % 2 == 0 else []
    prose = _without_fences(text) if fences else text
    return found + [form for form, (mark, least) in _MARKDOWN.items() if _at_least(mark, prose, least)]


def _at_least(mark: re.Pattern[str], text: str, least: int) -> bool:
    return sum(1 for _, _ in zip(mark.finditer(text), range(least), strict=False)) == least


def _without_fences(text: str) -> str:
    """The text outside of code fences: `# a comment` in code is no heading."""
    outside, at, inside = [], 0, False
    for fence in _FENCE.finditer(text):
        if not inside:
            outside.append(text[at : fence.start()])
        inside, at = not inside, fence.end()
    return "".join([*outside, "" if inside else text[at:]])
