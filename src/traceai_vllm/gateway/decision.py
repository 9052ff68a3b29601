"""The decision file: who answers the users of which route. It is written by a release decision, and watched.

    {"version": 1, "id": "2026-11-23-a", "routes": {"support": {"mode": "canary", "share": 0.1}}}

A file that is missing or broken says nothing, and then every route is as ``gateway.yaml`` has it: users are answered
by the baseline.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from traceai_vllm.gateway.config import Serving  # noqa: TC001 - pydantic reads the annotation

if TYPE_CHECKING:
    from pathlib import Path


class Decision(BaseModel):
    """What the file says.

    Attributes:
        version: of this format.
        id: of the decision, for the log.
        routes: who answers, by route; routes that are not named stay as they are in ``gateway.yaml``.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    version: Literal[1]
    id: str = ""
    routes: dict[str, Serving] = Field(default_factory=dict)


class DecisionError(ValueError):
    """The file says nothing that can be obeyed."""


def read_decision(path: Path) -> Decision:
    """Read a decision file.

    Raises:
        DecisionError: it is missing, or broken.
    """
    try:
        return Decision.model_validate_json(path.read_bytes())
    except OSError as error:
        raise DecisionError(f"{path}: {error.strerror}") from None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the file"
        raise DecisionError(f"{path}: {where}: {first['msg']}") from None
