"""Sentences of an answer that say nothing of the world: greetings, offers to help, disclaimers; in English."""

from __future__ import annotations

import re

_LONGEST = 400
_SURE = "(?:sure(?: thing)?|certainly|of course|absolutely)"
_HELPS = "(?:helps?|answers|clarifies|(?:is|was) (?:helpful|useful))"
_CANNOT = "(?:can't|cannot|can not|don't|do not|am not|'m not|am unable|have no)"
_EXPERT = "(?:professional|doctor|physician|lawyer|attorney|advis[eo]r|accountant|expert|specialist)"
_ANSWER = "(?:answer|response|summary|information|details|table|list|overview)"
_TROUBLE = "(?:confusion|inconvenience|mistake|error|misunderstanding)(?: caused)?"
# The whole sentence is one of these.
_WHOLE = (
    r"(?:hello|hi|hey|dear|greetings|good (?:morning|afternoon|evening|day))\b(?: [a-z]+){0,2}",
    rf"{_SURE}|(?:great|good) question|no problem|my pleasure|you(?:'| a)re welcome",
    r"(?:(?:best|kind|kindest|warm) )?regards|best wishes|sincerely|yours (?:sincerely|truly|faithfully)|cheers",
    r"your (?:[a-z]+ ){0,3}(?:assistant|team)",
    # What stands over a part of an answer.
    r"(?:(?:final |short |direct |quick )?answer(?:[:* ]{1,4}(?:yes|no))?|(?:brief |quick )?summary|"
    r"overview|conclusion|explanation|details|notes?|tl;?dr|key (?:takeaways?|points?|facts?|findings?|details)|"
    r"sources?|references?|citations?)",
    rf"(?:i'm |i am )?sorry for (?:the|any|my) {_TROUBLE}",
    rf"(?:i |my )?apolog(?:i[sz]e|ies) for (?:the|any|my) {_TROUBLE}",
    r"thank(?:s| you)(?: so much| very much)?(?: again)?(?: for (?:your|the) [a-z]+(?: [a-z]+)?| for asking)?",
    r"this is (?:not|no) (?:legal|medical|financial|tax|professional|investment)(?: or [a-z]+)? advice",
)
# It begins with one of these, and has neither numbers nor names.
_BEGINNING = (
    rf"(?:{_SURE}[,!] )?i(?: can|'d| would|'ll| will)(?: be)? (?:help|assist|answer|explain|happy to|glad to)\b",
    rf"(?:i|we)(?: do)? hope (?:this|that|it|(?:my|the|this) (?:answer|information))(?: information)? {_HELPS}\b",
    r"(?:please )?let (?:me|us) know (?:if|whether|how|what|should)\b",
    r"(?:please )?(?:feel free|(?:don't|do not) hesitate) to (?:ask|contact (?:me|us)|reach out|let (?:me|us) know)\b",
    r"(?:if|should) you (?:have|need) (?:any|more|further|other)\b[a-z ]{0,40}, (?:please )?(?:just )?"
    r"(?:let (?:me|us) know|feel free to (?:ask|contact|reach)|ask|(?:don't|do not) hesitate|i'm|i am)\b",
    r"is there anything else|do you have any (?:other|more|further) questions|"
    r"(?:how|what else) (?:can|may) i (?:help|assist)",
    rf"as an ai\b[a-z ]{{0,40}},? i ?{_CANNOT}\b",
    r"for (?:any )?(?:more|further|additional|other) (?:information|details|help|assistance|questions)\b[a-z ]{0,40}, "
    r"(?:please )?(?:refer to|see|visit|check|consult|contact|reach out)\b",
    r"(?:please )?(?:contact|reach out to) (?:[a-z]+ ){0,4}(?:support|team|us|services?|representatives?) "
    r"(?:for (?:any )?(?:more|further|additional|other)|if you (?:have|need) (?:any|more|further|other))\b",
    rf"(?:please |always |you should )?(?:consult|speak|talk|check)(?: with| to)? (?:a|an|your) "
    rf"(?:[a-z]+ ){{0,2}}{_EXPERT}\b",
)
_COURTESY = re.compile(
    rf"(?i:(?:{'|'.join(_WHOLE)})[ .!?,:]*)"
    rf"|(?i:{'|'.join(_BEGINNING)})(?:[^\W\dA-Z]|[ ,;'/-]|\bI\b|\bAI\b)*[ .!?]*"
    # It leads up to what follows.
    rf"|(?i:(?:{_SURE}[,!] )?here(?:'s| is| are) (?:the |my |your |an? )?(?:[a-z]+ ){{0,2}}{_ANSWER}\b)"
    r"(?:[^\W\d]|[ ,'/-])*:\s*"
)


def is_courtesy(text: str, start: int, end: int) -> bool:
    """Return whether a sentence of a text is a courtesy and nothing else.

    Args:
        text: the text.
        start: where the sentence begins.
        end: where it ends.
    """
    said = text[start:end].strip("*_ ").replace("\u2019", "'")  # perhaps in bold type
    return end - start <= _LONGEST and _COURTESY.fullmatch(said) is not None
