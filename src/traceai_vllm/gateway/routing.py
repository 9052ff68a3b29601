"""Which route a request belongs to, and whether its candidate may answer the user."""

from __future__ import annotations

from typing import TYPE_CHECKING

from traceai_vllm.gateway import cohorts
from traceai_vllm.gateway.call import BASELINE
from traceai_vllm.gateway.config import Mode
from traceai_vllm.gateway.headers import header
from traceai_vllm.gateway.sampling import chosen
from traceai_vllm.telemetry import semconv

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from traceai_vllm.gateway.body import Body
    from traceai_vllm.gateway.call import Call, Headers
    from traceai_vllm.gateway.config import Match, Restriction, Route, Serving, Slice
    from traceai_vllm.gateway.options import SliceOptions


def find_route(routes: Iterable[Route], path: str, headers: Headers, body: Body) -> Route | None:
    """Return the first route that matches; None when none does."""
    model = body.text("model")  # read once: there may be hundreds of routes
    return next((route for route in routes if _matches(route.match, path, headers, model, body)), None)


def _matches(match: Match, path: str, headers: Headers, model: str | None, body: Body) -> bool:
    if match.model is not None and model != match.model:
        return False
    if match.path is not None and path != match.path:
        return False
    if any(header(headers, name.encode()) != value for name, value in match.header.items()):
        return False
    return all(body.metadata.get(key) == value for key, value in match.metadata.items())


def fits_candidate(call: Call, tokens: Callable[[int], float]) -> bool:
    """Whether the route lets a prompt of this length go to the candidate at all.

    Args:
        call: the request.
        tokens: estimates the tokens of a prompt from its bytes.
    """
    route = call.route
    return route.candidate is not None and _short_enough(route, call.body, tokens)


def candidate_answers(
    serving: Serving,
    call: Call,
    salt: str,
    tokens: Callable[[int], float],
    slices: SliceOptions,
    *,
    holder: str | None = None,
) -> bool:
    """Return whether the candidate is to answer this user.

    Args:
        serving: what is in force for the route.
        call: the request.
        salt: goes into the hash that chooses sessions.
        tokens: estimates the tokens of a prompt from its bytes.
        slices: what puts it into a cohort slice.
        holder: the arm that gave the response that the request goes on from; None when that is not known.
    """
    if serving.mode in (Mode.BASELINE, Mode.MIRROR) or not fits_candidate(call, tokens) or holder == BASELINE:
        return False
    if serving.mode is Mode.CANARY:
        return holder is not None or chosen(session_of(call), serving.share, salt + ":canary")
    if serving.mode is Mode.RESTRICTED:
        return _allowed(serving.only, call, tokens, slices)
    return True


def session_of(call: Call) -> str:
    """Return what stays the same over a user's session, so that he keeps his server; else the request's own id."""
    named = header(call.headers, b"x-session-id") or call.session  # also one that no span can hold
    if named:
        return named
    for value in (call.body.get("user"), call.body.metadata.get("user_id")):
        if isinstance(value, str) and value:
            return value
    return call.id


def _allowed(only: Restriction, call: Call, tokens: Callable[[int], float], slices: SliceOptions) -> bool:
    if not call.body.fields or not _short_enough(only, call.body, tokens):
        return False
    estimate = tokens(call.body.prompt_bytes)
    for allowed, value in (
        (only.intents, call.route.intent),
        (only.prompt_versions, call.tags.get(semconv.PROMPT_VERSION)),
        (only.traffic_cohorts, call.tags.get(semconv.TRAFFIC_COHORT)),
    ):
        if allowed is not None and value not in allowed:
            return False
    forbidden = only.except_slices or frozenset()
    found = cohorts.slices_of_call(call, estimate, slices, forbidden) if only.cohort_slices else frozenset()
    if found is None or found & forbidden or cohorts.untold(forbidden, slices):
        return False
    return only.slices is None or any(_in_slice(part, call, estimate, found) for part in only.slices)


def _short_enough(limits: Route | Restriction, body: Body, tokens: Callable[[int], float]) -> bool:
    if limits.max_prompt_bytes is None and limits.max_prompt_tokens is None:
        return True
    if not body.fields:
        return False  # what cannot be read here may be read there, however long: UTF-16, a byte order mark, NaN
    if limits.max_prompt_bytes is not None and body.prompt_bytes > limits.max_prompt_bytes:
        return False
    return limits.max_prompt_tokens is None or tokens(body.prompt_bytes) <= limits.max_prompt_tokens


def _in_slice(part: Slice, call: Call, estimate: float, found: frozenset[str]) -> bool:
    if part.name is not None and part.name not in found:
        return False
    if part.max_prompt_tokens is not None and estimate > part.max_prompt_tokens:
        return False
    pairs = (
        (part.intent, call.route.intent),
        (part.risk, call.route.risk),
        (part.prompt_version, call.tags.get(semconv.PROMPT_VERSION)),
        (part.traffic_cohort, call.tags.get(semconv.TRAFFIC_COHORT)),
        (part.agent_step, call.tags.get(semconv.AGENT_STEP)),
    )
    return all(wanted is None or wanted == value for wanted, value in pairs)
