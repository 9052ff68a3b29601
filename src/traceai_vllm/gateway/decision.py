"""The decision file: the contract between a release decision, which writes it, and the gateway, which obeys it.

    {"version": 1, "id": "9f2c", "action": "restrict_route", "policy_hash": "sha256:51c0",
     "made_at": "2026-11-23T12:00:00Z",
     "evidence": {"start": "2026-11-16T12:00:00Z", "end": "2026-11-23T12:00:00Z", "pairs": 4120},
     "routes": {"support": {"action": "restrict_route", "only": {"intents": ["billing"], "max_prompt_tokens": 4096}}}}

A route that the file does not name has what it says for ``*``; without that it is served as ``gateway.yaml`` has it,
and so is every route when the file is missing or broken: users are then answered by the baseline.

This module needs pydantic alone. Its JSON schema is ``docs/decision.schema.json``, and
``traceai-vllm gateway --decision-schema`` prints it.
"""

from __future__ import annotations

import json
from enum import Enum
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError, model_validator

from traceai_vllm.gateway.config import Mode, Restriction, Serving
from traceai_vllm.gateway.options import Share  # noqa: TC001 - pydantic reads the annotation
from traceai_vllm.gateway.watched_file import read_watched_file

if TYPE_CHECKING:
    from pathlib import Path

EVERY_OTHER_ROUTE = "*"


class Action(str, Enum):
    """What a release decision asks for."""

    PROMOTE = "promote"
    """The candidate answers, and the baseline where it fails; with ``share`` below 1, for that share of sessions."""
    KEEP_MIRRORING = "keep_mirroring"
    """The baseline answers, and the candidate gets copies."""
    RESTRICT_ROUTE = "restrict_route"
    """The candidate answers what ``only`` lets through, and the baseline the rest."""
    ADJUST_CONTEXT_LENGTH = "adjust_context_length"
    """The candidate answers prompts up to ``only.max_prompt_tokens``, and the baseline longer ones."""
    FALLBACK = "fallback"
    """The baseline answers, and the candidate gets nothing."""


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Evidence(_Model):
    """What a decision rests on.

    Attributes:
        start: when its oldest request began.
        end: when its newest request began.
        pairs: how many pairs were compared.
    """

    start: AwareDatetime
    end: AwareDatetime
    pairs: Annotated[int, Field(ge=0)] | None = None


class RouteDecision(_Model):
    """What is decided for one route.

    Attributes:
        action: see :class:`Action`.
        share: with ``promote``, the share of sessions that the candidate answers.
        only: with ``restrict_route`` and ``adjust_context_length``, what the candidate may answer.
        reason: why, in one sentence, for the log and the admin port.
    """

    action: Action
    share: Share = 1.0
    only: Restriction | None = None
    reason: str = ""

    @model_validator(mode="after")
    def _fits_together(self) -> RouteDecision:
        limits = self.action in (Action.RESTRICT_ROUTE, Action.ADJUST_CONTEXT_LENGTH)
        # Without it nothing would be restricted: a slip of the pen must not promote.
        if limits and (self.only is None or not self.only.restricts):
            raise ValueError(f"{self.action.value} needs `only`: what the candidate may answer")
        if not limits and self.only is not None:
            raise ValueError(f"`only` goes with restrict_route and adjust_context_length, not with {self.action.value}")
        if self.action is not Action.PROMOTE and self.share != 1.0:
            raise ValueError(f"`share` goes with promote, not with {self.action.value}")
        if self.action is Action.ADJUST_CONTEXT_LENGTH and self.only and not self.only.limits_length:
            raise ValueError("adjust_context_length needs `only.max_prompt_tokens`")
        return self

    @property
    def serving(self) -> Serving:
        """Who answers the users of the route."""
        if self.action is Action.PROMOTE:
            mode = Mode.CANDIDATE if self.share == 1.0 else Mode.CANARY
            return Serving(mode=mode, share=self.share)
        if self.action is Action.KEEP_MIRRORING:
            return Serving(mode=Mode.MIRROR)
        if self.action is Action.FALLBACK or self.only is None:
            return Serving(mode=Mode.BASELINE)
        return Serving(mode=Mode.RESTRICTED, only=self.only)


class Decision(_Model):
    """All of a decision file.

    Attributes:
        version: of this format.
        id: of the decision; spans of the requests that it governs carry it.
        action: the decision as a whole, for people and for exit codes; the gateway obeys ``routes``.
        policy_hash: identifies the policy that was applied, e.g. ``sha256:51c0…``.
        made_at: when it was made, with a time zone.
        evidence: what it rests on; None when there was none.
        routes: what is decided, by the route's name; ``*`` for every route that is not named.
    """

    version: Literal[1] = 1
    id: Annotated[str, Field(max_length=128)] = ""
    action: Action
    policy_hash: str
    made_at: AwareDatetime
    evidence: Evidence | None = None
    routes: dict[str, RouteDecision]

    def serving(self, route: str) -> Serving | None:
        """Return who answers the users of a route; None when the decision does not say."""
        decided = self.routes.get(route) or self.routes.get(EVERY_OTHER_ROUTE)
        return None if decided is None else decided.serving


class DecisionError(ValueError):
    """The file says nothing that can be obeyed."""


def read_decision(path: Path) -> Decision:
    """Read a decision file.

    Raises:
        DecisionError: it is missing, or broken.
    """
    try:
        content = read_watched_file(path)
    except OSError as error:
        raise DecisionError(f"{path}: {error.strerror}") from None
    except ValueError as error:
        raise DecisionError(f"{path}: {error}") from None
    try:
        return Decision.model_validate_json(content)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the file"
        raise DecisionError(f"{path}: {where}: {first['msg']}") from None


def decision_schema() -> str:
    """Return the JSON schema of the file, as text."""
    schema: dict[str, Any] = Decision.model_json_schema()
    return json.dumps({"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}, indent=2) + "\n"
