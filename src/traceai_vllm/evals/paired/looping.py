"""Does the text loop?"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from traceai_vllm.evals.paired.answer import quoted
from traceai_vllm.evals.result import EvaluationResult, TextRange

if TYPE_CHECKING:
    from traceai_vllm.evals.paired.answer import Answer
    from traceai_vllm.evals.paired.settings import PairedSettings

NAME = "NoLooping"

# A model that loops does so to the end: only the end is looked at, in time linear in its length.
_WINDOW = 4_000
_LEAST_REPEATS = 4
_LEAST_CHARACTERS = 40
# `}` or `!` again and again is a loop only when it goes on for long.
_LEAST_REPEATS_OF_MARKS = 20
_LEAST_CHARACTERS_OF_MARKS = 100
_N = 4
_LEAST_WORDS = 60
_REPETITIVE = 0.5
_CLEARLY_MORE = 0.2
_MOST_WORDS = 5_000
_WORD = re.compile(r"[^\W_]+")
# A model that loops in a numbered list counts on.
_NUMBERING = re.compile(r"^[ \t>*#]{0,12}\(?\d{1,4}[.)](?=\s)", re.M)
_BLANKS = 200


class Loop(NamedTuple):
    """The end of a text that repeats itself: from where, and how long one turn is, in characters."""

    start: int
    period: int


def check(baseline: Answer, candidate: Answer, settings: PairedSettings, route: str | None) -> EvaluationResult | None:
    """Score 1 unless the candidate's text loops and the baseline's does not; then, the share that is no repetition.

    Two signs: the text ends in four and more turns of the same; or half of its word 4-grams have stood before
    (seq-rep-4 of Welleck et al., "Neural Text Generation with Unlikelihood Training", 2020), clearly more than in the
    baseline. None where the candidate has no text.

    Labels: ``none``, ``looping``, ``repetitive``, ``both`` (the baseline loops too).
    """
    del settings, route
    if not candidate.text.strip():
        return None
    loop = loop_of(candidate.text)
    share, before = repetition(candidate.text), repetition(baseline.text)
    repetitive = share >= _REPETITIVE and share >= before + _CLEARLY_MORE
    if loop is None and not repetitive:
        return EvaluationResult(NAME, 1.0, "none", 1.0, "the candidate's text does not loop")
    if loop_of(baseline.text) is not None:
        return EvaluationResult(NAME, 1.0, "both", 1.0, "the baseline's text loops too")
    if loop is None:
        said = f"{share:.0%} of the candidate's word 4-grams repeat earlier ones; in the baseline {before:.0%}"
        return EvaluationResult(NAME, round(1.0 - share, 4), "repetitive", 1.0, said)
    length = len(candidate.text) - loop.start
    turn = quoted(candidate.text[loop.start : loop.start + loop.period])
    said = f"the candidate ends with {turn} {length // loop.period} times over"
    counts = {"repeats": length // loop.period, "characters": length}
    score = round(max(0.0, min(0.99, 1.0 - length / len(candidate.text))), 4)
    return EvaluationResult(NAME, score, "looping", 1.0, said, counts, (TextRange(loop.start, len(candidate.text)),))


def loop_of(text: str) -> Loop | None:
    """Return the loop in which a text ends, the longest that there is, or None.

    By the prefix function of Knuth, Morris and Pratt over the text read backwards: ``i - prefix[i]`` is the period of
    the last ``i`` characters.
    """
    end = text[-_WINDOW:].rstrip()
    blanks = min(len(text), _WINDOW) - len(end)
    if blanks >= _BLANKS:
        return Loop(len(text) - blanks, 1)
    backwards = end[::-1]
    prefix = [0] * (len(backwards) + 1)
    known, best = 0, None
    for i in range(1, len(backwards)):
        while known and backwards[i] != backwards[known]:
            known = prefix[known]
        known += backwards[i] == backwards[known]
        prefix[i + 1] = known
        length, period = i + 1, i + 1 - known
        if length >= _LEAST_REPEATS * period and _is_loop(backwards, length, period):
            best = (length, period)
    if best is None:
        return None
    start = max(0, len(text) - _WINDOW) + len(end) - best[0]
    return Loop(start, best[1])


def _is_loop(backwards: str, length: int, period: int) -> bool:
    if length < _LEAST_CHARACTERS:
        return False
    if _WORD.search(backwards, 0, period):
        return True
    long_enough = length >= max(_LEAST_CHARACTERS_OF_MARKS, _LEAST_REPEATS_OF_MARKS * period)
    return long_enough


def repetition(text: str) -> float:
    """Return the share of a text's word 4-grams that have stood before; 0 for a text of under sixty words.

    The numbers of a list's items are no words.
    """
    words = _WORD.findall(_NUMBERING.sub("", text.lower()))[:_MOST_WORDS]
    if len(words) < _LEAST_WORDS:
        return 0.0
    grams = [tuple(words[i : i + _N]) for i in range(len(words) - _N + 1)]
    return 1.0 - len(set(grams)) / len(grams)
