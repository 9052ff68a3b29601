"""The decision: an action for each route with its reason, as the file that the gateway obeys."""

from __future__ import annotations

import hashlib
import json
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

from traceai_vllm.gateway.decision import EVERY_OTHER_ROUTE, Action, Decision, Evidence, RouteDecision
from traceai_vllm.release.deciding import Judgement, describe
from traceai_vllm.release.wording import cell_text, verdict_sentence

if TYPE_CHECKING:
    from traceai_vllm.release.deciding import Allowed

_NO_NAME = f"a route called {EVERY_OTHER_ROUTE} cannot be told from every other one here: give it another name"
_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


def decision_of(judgement: Judgement) -> Decision:
    """Return the decision that follows from a judgement. The same spans and policy give the same bytes.

    Its time is that of the newest pair, unless the judgement was asked for another; its id is a hash of what it says.
    """
    comparison = judgement.comparison
    start, end = comparison.start_ns, comparison.end_ns
    evidence = None
    if start is not None and end is not None:
        evidence = Evidence(start=_time(start), end=_time(end), pairs=len(comparison.frame))
    decision = Decision(
        action=judgement.action,
        policy_hash=f"sha256:{comparison.policy.hash}",
        made_at=_time(judgement.as_of_ns or 0),
        evidence=evidence,
        routes=_routes(judgement),
    )
    digest = hashlib.sha256(decision_text(decision).encode()).hexdigest()
    return decision.model_copy(update={"id": digest[:16]})


def decision_text(decision: Decision) -> str:
    """Return the decision as the text of its file."""
    content: dict[str, Any] = decision.model_dump(mode="json", exclude_none=True)
    return json.dumps(content, indent=2, sort_keys=True) + "\n"


def _routes(judgement: Judgement) -> dict[str, RouteDecision]:
    reason = verdict_sentence(judgement)
    action = judgement.action
    if action in (Action.KEEP_MIRRORING, Action.FALLBACK):
        return {EVERY_OTHER_ROUTE: RouteDecision(action=action, reason=reason)}
    names = judgement.comparison.frame.names["route"]
    allowed = {part.route: part for part in judgement.allowed}
    if action is Action.PROMOTE and not names:
        return {EVERY_OTHER_ROUTE: RouteDecision(action=action, reason=reason)}
    # A route that nobody compared is no part of the evidence: it goes on being mirrored.
    waiting = RouteDecision(action=Action.KEEP_MIRRORING, reason="not shown to be healthy here")
    routes = {EVERY_OTHER_ROUTE: waiting if names else _of(allowed.get(None), waiting)}
    if EVERY_OTHER_ROUTE in names:  # what it is allowed, every route that nobody compared would be
        routes[EVERY_OTHER_ROUTE] = RouteDecision(action=Action.KEEP_MIRRORING, reason=_NO_NAME)
    for name in names:
        if name == EVERY_OTHER_ROUTE:
            continue
        promoted = RouteDecision(action=Action.PROMOTE, reason=reason)
        held = RouteDecision(action=Action.KEEP_MIRRORING, reason=_why_held(judgement, name) or waiting.reason)
        routes[name] = promoted if action is Action.PROMOTE else _of(allowed.get(name), held)
    return routes


def _why_held(judgement: Judgement, route: str) -> str | None:
    worse = (cell for cell in judgement.regressed if ("route", route) in cell.scope)
    return next((f"worse: {cell_text(cell)}" for cell in worse), None)


def _of(allowed: Allowed | None, otherwise: RouteDecision) -> RouteDecision:
    if allowed is None:
        return otherwise
    limits = {
        "max_prompt_tokens": allowed.max_prompt_tokens,
        "intents": allowed.intents,
        "traffic_cohorts": allowed.traffic_cohorts,
        "except_slices": allowed.except_slices or None,
    }
    only = {name: limit for name, limit in limits.items() if limit is not None} or None
    action = Action.PROMOTE if only is None else Action.RESTRICT_ROUTE
    if only is not None and [*only] == ["max_prompt_tokens"]:
        action = Action.ADJUST_CONTEXT_LENGTH
    content = {"action": action, "only": only, "reason": f"healthy: {describe(allowed)}"}
    return RouteDecision.model_validate(content)


def _time(nanoseconds: int) -> datetime:
    return _EPOCH + timedelta(microseconds=nanoseconds // 1000)
