"""What an answer says of its own ignorance, or that the context does not say: no claim about the world.

``Unable to answer based on given passages`` is what RAGTruth's prompt asks for where the passages do not say, and its
annotators have marked one in fifty such sentences.
"""

from __future__ import annotations

import re

from traceai_vllm.evals.declining import IN_OTHER_LANGUAGES

_LONGEST = 400
_LEAD = (
    r"(?:(?:however|unfortunately|additionally|also|note that|please note that|sorry|i'm sorry|i am sorry|"
    r"i apologi[sz]e|i'm afraid|it (?:seems|appears) that|it(?:'s| is) (?:worth|important) (?:noting|to note) that|"
    r"but|and)[,.:;]?\s+)*"
)
_SOURCES = (
    r"(?:(?:the|these|this|any|all|my|your|of|provided|given|retrieved|available|above|supplied|current)\s+){0,3}"
    r"(?:context|passages?|documents?|documentation|texts?|sources?|excerpts?|articles?|information|knowledge base)"
    r"(?:\s+(?:provided|given|above|available|supplied))?"
)
_BY = rf"(?:(?:based on|according to|from|in|within|with) {_SOURCES},?\s+)?"
_SAY = (
    r"(?:mention|specify|state|say|tell|contain|provide|include|give|address|answer|cover|discuss|describe|indicate|"
    r"explain|list|offer|have)"
)
_SAID = (
    r"(?:(?:explicitly|specifically|directly|clearly)\s+)?(?:mentioned|specified|stated|said|provided|given|included|"
    r"addressed|covered|discussed|described|indicated|listed|available|found)"
)
_NOT = r"(?: not|n't)"
_SOMETHING = (
    r"(?:no|not enough|insufficient) (?:[a-z]+ ){0,3}?(?:information|mention|details?|data|answer|indication|reference)"
)
_OF_WHAT = (
    r"(?= (?:about|on|regarding|concerning|in|within|available|provided|given|to|that|of|for|as|whether|how|from)\b"
    r"|\W*\Z|[,.;:])"
)
# What a sentence, or its part up to `but`, begins with. The rest of it names what is not said.
_ABSTAINS = (
    rf"{_SOURCES} (?:do|does|did){_NOT} (?:seem to )?(?:[a-z]+ly )?{_SAY}\b",
    rf"{_SOURCES} (?:provides?|contains?|gives?|has|have|includes?|makes?) {_SOMETHING}\b",
    rf"(?:there (?:is|was|are)|i (?:have|found|see)) {_SOMETHING}{_OF_WHAT}",
    r"i (?:do not|don't) (?:actually )?know\b",
    r"i (?:do not|don't) have (?:[a-z]+ ){0,3}?(?:information|knowledge|details?|data|context)\b",
    r"i(?: am|'m) (?:unable|not able) to (?:answer|find|determine|provide|tell|say|confirm|locate)\b",
    r"i(?: am|'m) not (?:sure|certain)\b",
    r"i (?:can't|cannot|can not|couldn't|could not) (?:answer|find|determine|tell|say|confirm|see|locate|provide)\b",
    r"(?:unable|not able|not possible|impossible) to (?:answer|determine|say|tell)\b",
    rf"{_SOMETHING} (?:[a-z]+ ){{0,8}}?(?:is|are|was|were) {_SAID}\b",
    rf"not {_SAID}(?: (?:in|by) {_SOURCES})?(?=[\s.)*_!]*\Z)",
    r"it(?: is|'s) (?:unclear|unknown|not (?:clear|known|possible to (?:say|tell|determine|answer)))\b",
)
_NOT_SAID = rf"[^,;:.!?\d]{{3,80}} (?:is|are|was|were){_NOT} (?:{_SAID} )?(?:in|by|within) {_SOURCES}"
_ABSTENTION = re.compile(
    rf"[\s(*_]*{_LEAD}{_BY}(?:(?:{'|'.join(_ABSTAINS)})|{_NOT_SAID}(?=[\s.)*_!]*(?:\Z|[,;] ?but )))", re.I
)
_TURN = re.compile(
    r"[,;:.\u2013\u2014]\s*(?:but|however|although|though|yet|nevertheless|only|so|therefore|hence|thus|because|since|"
    r"and(?= (?:the|it|they|you|there|some)\b))\b,?\s*",
    re.I,
)
_ELSEWHERE = re.compile("|".join(IN_OTHER_LANGUAGES), re.I)
# Without one of these a sentence does not abstain in another language; they are found sooner.
_MAY_ELSEWHERE = re.compile(
    r"[\u00c0-\u1fff\u3040-\ud7ff]|\b(?i:nicht|keine?|ne|non|no|niet|geen|nie|bilmiyorum|cevap)\b|\b[nN]'"
)
_TURN_ELSEWHERE = re.compile(
    r"\b(?:aber|jedoch|mais|pero|sino|ma|per\u00f2|mas|maar|ale|ama)\b|\u4f46|\u304c\u3001|\d", re.I
)


def claimed_from(text: str, start: int, end: int) -> int:
    """Return where a sentence begins to claim something of the world: its end where it only says what is not known.

    Args:
        text: the text.
        start: where the sentence begins.
        end: where it ends.
    """
    if end - start > _LONGEST:
        return start
    said = text[start:end].replace("\u2019", "'")
    found = _ABSTENTION.match(said)
    if found:
        turn = _TURN.search(said, found.end())
        return start + turn.end() if turn and turn.end() < len(said) else end
    if _MAY_ELSEWHERE.search(said) and _ELSEWHERE.search(said) and not _TURN_ELSEWHERE.search(said):
        return end
    return start
