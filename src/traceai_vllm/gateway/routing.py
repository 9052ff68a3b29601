"""Which route a request belongs to, and whether its candidate may answer the user."""

from __future__ import annotations

from typing import TYPE_CHECKING

from traceai_vllm.gateway.config import Mode
from traceai_vllm.gateway.headers import header
from traceai_vllm.gateway.sampling import chosen
from traceai_vllm.telemetry import semconv

if TYPE_CHECKING:
    from collections.abc import Iterable

    from traceai_vllm.gateway.body import Body
    from traceai_vllm.gateway.call import Call, Headers
    from traceai_vllm.gateway.config import Match, Restriction, Route, Serving


def find_route(routes: Iterable[Route], path: str, headers: Headers, body: Body) -> Route | None:
    """Return the first route that matches; None when none does."""
    return next((route for route in routes if _matches(route.match, path, headers, body)), None)


def _matches(match: Match, path: str, headers: Headers, body: Body) -> bool:
    if match.model is not None and body.text("model") != match.model:
        return False
    if match.path is not None and path != match.path:
        return False
    if any(header(headers, name.encode()) != value for name, value in match.header.items()):
        return False
    if not match.metadata:
        return True
    metadata = body.get("metadata")
    return isinstance(metadata, dict) and all(metadata.get(key) == value for key, value in match.metadata.items())


def fits_candidate(call: Call) -> bool:
    """Whether the route lets a prompt of this length go to the candidate at all."""
    limit = call.route.max_prompt_bytes
    return call.route.candidate is not None and (limit is None or call.body.prompt_bytes <= limit)


def candidate_answers(serving: Serving, call: Call, salt: str) -> bool:
    """Return whether the candidate is to answer this user."""
    if serving.mode in (Mode.BASELINE, Mode.MIRROR) or not fits_candidate(call):
        return False
    if serving.mode is Mode.CANARY:
        return chosen(session_of(call), serving.share, salt + ":canary")
    if serving.mode is Mode.RESTRICTED:
        return _allowed(serving.only, call)
    return True


def session_of(call: Call) -> str:
    """Return what stays the same over a user's session, so that he keeps his server; else the request's own id."""
    given = header(call.headers, b"x-session-id")
    if given:
        return given
    metadata = call.body.get("metadata")
    named = metadata if isinstance(metadata, dict) else {}
    for value in (named.get("session_id"), call.body.get("user"), named.get("user_id")):
        if isinstance(value, str) and value:
            return value
    return call.id


def _allowed(only: Restriction, call: Call) -> bool:
    for allowed, value in (
        (only.intents, call.route.intent),
        (only.prompt_versions, call.tags.get(semconv.PROMPT_VERSION)),
        (only.traffic_cohorts, call.tags.get(semconv.TRAFFIC_COHORT)),
    ):
        if allowed is not None and value not in allowed:
            return False
    return only.max_prompt_bytes is None or call.body.prompt_bytes <= only.max_prompt_bytes
