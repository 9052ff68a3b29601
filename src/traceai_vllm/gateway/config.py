"""What ``gateway.yaml`` may say: servers and routes; the rest is in :mod:`.options`.

Reading the file is :mod:`.config_file`'s work.
"""

from __future__ import annotations

import os
from enum import Enum
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import urlsplit

from pydantic import Field, field_serializer, field_validator, model_validator

from traceai_vllm.gateway.auth import variable_text
from traceai_vllm.gateway.headers import visible
from traceai_vllm.gateway.options import (
    FeedbackOptions,
    GuardLimits,
    KeysVariable,
    Limits,
    MirrorLimits,
    Price,
    Seconds,
    Share,
    SliceOptions,
    Strict,
    Telemetry,
)

if TYPE_CHECKING:
    from collections.abc import Mapping


_LONGEST_NAME = 64


class Mode(str, Enum):
    """Who answers the users of a route."""

    BASELINE = "baseline"
    """The baseline; the candidate gets nothing."""
    MIRROR = "mirror"
    """The baseline; the candidate gets a copy of the sampled requests."""
    CANARY = "canary"
    """The candidate for a share of the sessions, the baseline for the others."""
    RESTRICTED = "restricted"
    """The candidate for the requests that ``only`` lets through, the baseline for the others."""
    CANDIDATE = "candidate"
    """The candidate; the baseline when it fails before its first byte."""


class Risk(str, Enum):
    """How much harm a wrong answer on the route does."""

    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"


class Server(Strict):
    """One server that speaks the OpenAI or the Anthropic protocol.

    Attributes:
        url: where it listens, e.g. ``http://10.0.0.5:8000``; requests go to this URL plus the path of the request.
        model: the model name that it serves, when that is not what clients ask for; put into the body of the request.
        model_variant: the artifact that it serves, for the spans.
        quantization_format: number format of its weights, for the spans.
        price: what its tokens cost, for the spans (``traceai.cost.usd``); None: no cost is told.
        api_key_env: environment variable with the key that is sent to it instead of the caller's ``Authorization``; it
            has to be set when the file is read.
        connect_timeout_s: how long a connection may take.
        read_timeout_s: how long it may be silent, before its answer or inside it.
        first_byte_timeout_s: how long users may wait for its first byte where a failure goes to the baseline.
    """

    url: str
    model: str | None = None
    model_variant: str | None = None
    quantization_format: str | None = None
    price: Price | None = None
    api_key_env: str | None = None
    connect_timeout_s: Seconds = 5.0
    read_timeout_s: Seconds = 600.0
    first_byte_timeout_s: Seconds = 30.0

    @field_validator("url")
    @classmethod
    def _is_http(cls, url: str) -> str:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("write it as http://host:port")
        if parts.query or parts.fragment or parts.username or parts.password:
            raise ValueError("write it without a query, a fragment or a password; keys go into api_key_env")
        if parts.path.rstrip("/").endswith("/v1"):
            raise ValueError("write it without /v1 at its end: the path of each request, /v1/…, is added to it")
        return url.rstrip("/")

    @field_validator("api_key_env")
    @classmethod
    def _has_a_key(cls, name: str | None) -> str | None:
        if name is None:
            return None
        key = key_in(name)
        if not key:
            raise ValueError(f"{variable_text(name)} is not set, or empty: put the server's key into it")
        if not key.isprintable():
            raise ValueError(f"{variable_text(name)} has more than one line: put the server's key alone into it")
        return name


class Match(Strict):
    """Which requests belong to a route: all that is given here has to hold; nothing given: every request.

    Attributes:
        model: the ``model`` of the request.
        path: the path of the request, e.g. ``/v1/embeddings``.
        header: names of headers, in any case, and their values.
        metadata: keys of the body's ``metadata`` and their values.
    """

    model: str | None = None
    path: str | None = None
    header: dict[str, str] = Field(default_factory=dict)
    metadata: dict[str, str] = Field(default_factory=dict)

    @field_validator("header")
    @classmethod
    def _lower(cls, header: dict[str, str]) -> dict[str, str]:
        return {name.lower(): value for name, value in header.items()}


class Slice(Strict):
    """A part of a route's traffic: the requests for which all that is given holds.

    Attributes:
        name: a cohort slice of ``traceai.slices``, such as ``multilingual``; told from the request.
        intent: intent of the route.
        risk: risk level of the route.
        prompt_version: version of the prompt.
        traffic_cohort: the cohort.
        agent_step: step of an agent.
        max_prompt_tokens: the longest prompt, in tokens.
    """

    name: str | None = None
    intent: str | None = None
    risk: Risk | None = None
    prompt_version: str | None = None
    traffic_cohort: str | None = None
    agent_step: str | None = None
    max_prompt_tokens: Annotated[int, Field(ge=0)] | None = None


class Restriction(Strict):
    """Which requests of a restricted route the candidate may answer: all that is given has to hold.

    Attributes:
        intents: intents of the route that are allowed.
        prompt_versions: prompt versions that are allowed.
        traffic_cohorts: values of the cohort that are allowed.
        slices: slices that are allowed; a request has to be in one of them.
        except_slices: cohort slices of ``traceai.slices`` that are not allowed; a request must be in none of them.
        max_prompt_tokens: the longest prompt, in tokens; estimated from its bytes, see
            :class:`~traceai_vllm.gateway.tokens.TokenEstimate`.
        max_prompt_bytes: the longest prompt, in bytes of its JSON.
    """

    intents: frozenset[str] | None = None
    prompt_versions: frozenset[str] | None = None
    traffic_cohorts: frozenset[str] | None = None
    slices: tuple[Slice, ...] | None = None
    except_slices: frozenset[str] | None = None
    max_prompt_tokens: Annotated[int, Field(ge=0)] | None = None
    max_prompt_bytes: Annotated[int, Field(ge=0)] | None = None

    @field_serializer("intents", "prompt_versions", "traffic_cohorts", "except_slices", when_used="json")
    def _in_order(self, names: frozenset[str] | None) -> list[str] | None:
        # A set has another order in each process, and a decision file is to be the same bytes.
        return None if names is None else sorted(names)

    @property
    def restricts(self) -> bool:
        """Whether there is anything that it does not let through."""
        given = [getattr(self, name) for name in type(self).model_fields if name != "except_slices"]
        return bool(self.except_slices) or any(value is not None for value in given)

    @property
    def cohort_slices(self) -> frozenset[str]:
        """The cohort slices that it names."""
        allowed = frozenset(part.name for part in self.slices or () if part.name is not None)
        return allowed.union(self.except_slices or ())

    @property
    def limits_length(self) -> bool:
        """Whether it limits the length of prompts."""
        return self.max_prompt_tokens is not None or self.max_prompt_bytes is not None


class Serving(Strict):
    """Who answers the users of a route; said by the route, or by the decision file.

    Attributes:
        mode: see :class:`Mode`.
        share: with ``canary``, the share of the sessions that the candidate answers.
        only: with ``restricted``, what the candidate may answer.
    """

    mode: Mode = Mode.MIRROR
    share: Share = 0.0
    only: Restriction = Restriction()


class Route(Serving):
    """One kind of traffic, with the servers that it is for.

    Attributes:
        name: what spans and books call it (the tag ``route``).
        match: which requests it is; the first route that matches counts.
        baseline: the server that answers users.
        candidate: the server that is tried out; None: there is none.
        sampling_rate: the share of the requests that is mirrored.
        noise_floor: the share of the mirrored requests that is also repeated on the baseline itself.
        intent: what users want here.
        risk: how much harm a wrong answer does.
        max_prompt_tokens: longer prompts are never sent to the candidate; estimated from their bytes, see
            :class:`~traceai_vllm.gateway.tokens.TokenEstimate`.
        max_prompt_bytes: the same in bytes of the prompt's JSON.
        prompt_version: the version of the prompt (tag); a caller's ``x-prompt-version`` counts when it is None.
        traffic_cohort: the cohort (tag); a caller's ``x-traffic-cohort`` counts when it is None.
    """

    name: str
    match: Match = Match()
    baseline: str
    candidate: str | None = None
    sampling_rate: Share = 1.0
    noise_floor: Share = 0.0
    intent: str | None = None
    risk: Risk = Risk.MEDIUM
    max_prompt_tokens: Annotated[int, Field(ge=0)] | None = None
    max_prompt_bytes: Annotated[int, Field(ge=0)] | None = None
    prompt_version: str | None = None
    traffic_cohort: str | None = None

    @field_validator("name")
    @classmethod
    def _is_one_word(cls, name: str) -> str:
        if visible(name, _LONGEST_NAME) is None:
            raise ValueError(f"write 1 to {_LONGEST_NAME} ASCII characters without blanks, e.g. customer-support")
        return name


class GatewayConfig(Strict):
    """All of ``gateway.yaml``.

    Attributes:
        listen: ``host:port`` for users.
        admin: ``host:port`` for health, books and metrics; None: no such port.
        servers: the servers, by name.
        routes: the routes, the first match counts.
        mirror: what the mirror may use.
        limits: what a caller may ask.
        guard: when a candidate that answers users is taken back.
        feedback: who may send feedback.
        telemetry: content, evaluators and the local store.
        slices: what puts a request into a cohort slice, for restrictions that name some, and on scored spans.
        keys_env: environment variable with the keys of callers, separated by commas; it has to be set when the file is
            read; None: the servers check keys, which are passed on to them.
        trust_callers: whether a caller's trace context and tags are used.
        books: file that the books are kept in, so that nothing is lost when the process is killed; None: memory alone.
        decision_file: JSON file that says who answers which route; obeyed as soon as it changes.
    """

    listen: str = "127.0.0.1:8080"
    admin: str | None = None
    servers: dict[str, Server]
    routes: tuple[Route, ...]
    mirror: MirrorLimits = MirrorLimits()
    limits: Limits = Limits()
    guard: GuardLimits = GuardLimits()
    feedback: FeedbackOptions = FeedbackOptions()
    telemetry: Telemetry = Telemetry()
    slices: SliceOptions = SliceOptions()
    keys_env: KeysVariable | None = None
    trust_callers: bool = True
    books: str | None = None
    decision_file: str | None = None

    @field_validator("listen", "admin")
    @classmethod
    def _is_address(cls, value: str | None) -> str | None:
        if value is not None:
            address(value)
        return value

    @model_validator(mode="after")
    def _fits_together(self) -> GatewayConfig:
        if not self.routes:
            raise ConfigConflict(("routes",), "there is none; write at least `- {name: default, baseline: SERVER}`")
        names = [route.name for route in self.routes]
        for index, route in enumerate(self.routes):
            where = ("routes", index)
            if route.name in names[:index]:
                raise ConfigConflict((*where, "name"), f"there is a route {route.name!r} already; give it another name")
            for field in ("baseline", "candidate"):
                _check_server(self.servers, getattr(route, field), (*where, field))
            if route.candidate is None and route.mode not in (Mode.BASELINE, Mode.MIRROR):
                raise ConfigConflict(
                    (*where, "mode"), f"{route.mode.value} needs a candidate: add `candidate: SERVER`, or use baseline"
                )
            if route.mode is Mode.RESTRICTED and not route.only.restricts:
                # Without it nothing would be restricted: a slip of the pen must not promote.
                message = "restricted needs `only`: what the candidate may answer; or use candidate, for everything"
                raise ConfigConflict((*where, "mode"), message)
            if self.decision_file is not None and route.mode not in (Mode.BASELINE, Mode.MIRROR):
                message = "with a decision_file a route is baseline or mirror here, and the file says the rest"
                raise ConfigConflict((*where, "mode"), message)
        return self


class ConfigConflict(ValueError):
    """Two places of the configuration that do not fit together.

    Args:
        location: path to the place that is to change.
        message: what is wrong, and what to write.
    """

    def __init__(self, location: tuple[str | int, ...], message: str) -> None:
        super().__init__(message)
        self.location = location


def key_in(variable: str) -> str:
    """Return the key in an environment variable, empty for none; a file's last line end is no part of it."""
    return os.environ.get(variable, "").strip()


def address(text: str) -> tuple[str, int]:
    """Return host and port of ``host:port``.

    Raises:
        ValueError: it is not of that form.
    """
    host, _, port = text.rpartition(":")
    if not host or not port.isdecimal() or int(port) > 65535:
        raise ValueError(f"write it as host:port, e.g. 127.0.0.1:8080, not {text!r}")
    return host.strip("[]"), int(port)


def _check_server(servers: Mapping[str, Any], name: str | None, location: tuple[str | int, ...]) -> None:
    if name is not None and name not in servers:
        raise ConfigConflict(location, f"there is no server {name!r}; use one of {', '.join(sorted(servers))}")
