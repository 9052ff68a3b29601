"""What ``policy.yaml`` may say: how much worse a candidate may be, where, and what is to be done then."""

from __future__ import annotations

import difflib
import hashlib
import json
from enum import Enum
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from traceai_vllm.gateway.decision import Action
from traceai_vllm.release.measures import OPERATIONS, QUANTILES

if TYPE_CHECKING:
    from collections.abc import Mapping

Share = Annotated[float, Field(ge=0.0, le=1.0)]
Level = Annotated[float, Field(gt=0.0, lt=0.5)]
Margin = Annotated[float, Field(ge=0.0, le=10.0)]


Dimension = Literal["all", "route", "intent", "slice", "traffic_cohort", "prompt_tokens", "prompt_version"]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())


class Condition(str, Enum):
    """What a rule may ask for."""

    BOOKS_OVER_LIMIT = "books_over_limit"
    """More is missing, excluded, untagged, unscored or mixed than `limits` allow, a guarded measure is judged nowhere,
    or the newest pair is too old."""
    CRITICAL_REGRESSED = "critical_regressed"
    """A critical scope regressed."""
    REGRESSED = "regressed"
    """Some guarded cell regressed."""
    REGRESSED_EVERYWHERE = "regressed_everywhere"
    """Some guarded cell regressed, and nothing is left that is healthy: no route, no cohort, no prompt length."""
    ONLY_LONG_PROMPTS_REGRESSED = "only_long_prompts_regressed"
    """What regressed is explained by prompts above a length up to which the candidate is healthy."""
    SOME_HEALTHY = "some_healthy"
    """At least one route, or a part of one (lengths, intents, cohorts, all but some slices), is healthy by itself."""
    ALL_HEALTHY = "all_healthy"
    """Every guarded cell is healthy; a cell without data is not."""
    GAINS_SHOWN = "gains_shown"
    """Every required gain is shown; true when none is required."""


class Evidence(_Strict):
    """How evidence is weighed.

    Attributes:
        alpha: the chance that a cell is called healthy although it is as bad as its margin.
        alarm_fdr: the share of the cells called regressed that may be false alarms.
        mode: ``anytime``: one may look after every pair; ``fixed``: one look, decided on beforehand.
        cluster: ``session``: pairs of one session or trace are one unit of evidence; ``pair``: each is.
        min_pairs: cells with fewer pairs are never healthy.
        max_age_days: evidence whose newest pair is older is out of date; None: age does not matter.
        feedback_hours: how long users have to say something of an answer. It counts when that time is over, and later
            words do not; None: it counts at once, and whatever comes later changes it.
    """

    alpha: Level = 0.05
    alarm_fdr: Level = 0.1
    mode: Literal["anytime", "fixed"] = "anytime"
    cluster: Literal["session", "pair"] = "session"
    min_pairs: Annotated[int, Field(ge=0)] = 0
    max_age_days: Annotated[float, Field(gt=0)] | None = None
    feedback_hours: Annotated[float, Field(ge=0)] | None = None


class Limits(_Strict):
    """How much may be missing from the books.

    Attributes:
        unpaired: share of the sampled requests without a pair.
        unpaired_by_length: by how much that share may be higher among the tenth of the prompts where it is highest.
        excluded: share of the pairs whose prompt or sampling parameters differ.
        untagged: share of the answers without route or model variant.
        unscored: share of the answers with a score of the baseline's that the candidate's may lack; and of an
            evaluator's scores that may be none, not being from 0 to 1.
        apart: share of the pairs whose arms began more than a minute apart: late copies, or clocks that differ. Any
            share by default, since what is replayed is apart by nature.
        unknown_length: share of the pairs whose prompt neither server counted, where ``prompt_tokens`` is guarded.
        mixed: share of an arm's answers that are of another variant, or number format, than most on their route: their
            mean is no verdict on either.
    """

    unpaired: Share = 0.05
    unpaired_by_length: Share = 0.10
    excluded: Share = 0.02
    untagged: Share = 0.02
    unscored: Share = 0.02
    apart: Share = 1.0
    unknown_length: Share = 0.02
    mixed: Share = 0.02


class PolicyConflict(ValueError):
    """Two things that a policy says do not go together.

    Attributes:
        location: path to the place that is to change.
    """

    def __init__(self, location: tuple[str | int, ...], message: str) -> None:
        super().__init__(message)
        self.location = location


class Allowance(_Strict):
    """How much worse the candidate may be in one measure.

    Attributes:
        margin: in points for rates (0.02: two more fails in a hundred), in score points for ``NAME.score``, and as a
            share of the baseline's value for times, tokens and cost (0.10: ten per cent more).
    """

    margin: Margin


class Guard(Allowance):
    """How much worse it may be, and where that is asked.

    Attributes:
        threshold: an evaluator's least score that passes; None: what the evaluator itself said.
        guard: in which divisions of the traffic; None: those of the policy. ``("all",)``: over all traffic alone, not
            in critical parts either, as a p99 needs a thousand pairs in each.
    """

    threshold: Share | None = None
    guard: tuple[Dimension, ...] | None = None


class Gain(_Strict):
    """What the candidate has to be better in.

    Attributes:
        measure: one of times, tokens and cost.
        at_least: by which share of the baseline's value, e.g. 0.10.
    """

    measure: str
    at_least: Annotated[float, Field(ge=0.0, lt=1.0)]

    @field_validator("measure")
    @classmethod
    def _is_ratio(cls, name: str) -> str:
        if name not in QUANTILES and name not in ("cost", "output_tokens"):
            known = ", ".join((*QUANTILES, "cost", "output_tokens"))
            raise ValueError(f"a gain is in one of {known}")
        return name


class Scope(_Strict):
    """A part of the traffic: all that is given has to hold."""

    route: str | None = None
    intent: str | None = None
    slice: str | None = None
    traffic_cohort: str | None = None
    prompt_version: str | None = None

    @model_validator(mode="after")
    def _is_a_part(self) -> Scope:
        if not self.items():
            raise ValueError(f"name a part of the traffic, by one or more of {', '.join(Scope.model_fields)}")
        return self

    def items(self) -> tuple[tuple[str, str], ...]:
        """Return what is given, as pairs of dimension and value."""
        return tuple((name, value) for name, value in self.model_dump().items() if value is not None)


class Override(_Strict):
    """Other margins for a part of the traffic; the first that fits counts."""

    where: Scope
    measures: dict[str, Allowance]


class Price(_Strict):
    """What a variant costs: per token, or per hour of its GPUs with the throughput that was measured.

    Attributes:
        input_per_million: for a million prompt tokens.
        output_per_million: for a million generated tokens.
        gpu_hour: for one hour of all its GPUs.
        tokens_per_second: generated tokens per second that they reach under load; needed with ``gpu_hour``.
        gpu_memory_gib: memory that it takes, for the report.
    """

    input_per_million: Annotated[float, Field(ge=0)] = 0.0
    output_per_million: Annotated[float, Field(ge=0)] = 0.0
    gpu_hour: Annotated[float, Field(ge=0)] | None = None
    tokens_per_second: Annotated[float, Field(gt=0)] | None = None
    gpu_memory_gib: Annotated[float, Field(ge=0)] | None = None

    @model_validator(mode="after")
    def _complete(self) -> Price:
        if self.gpu_hour is not None and self.tokens_per_second is None:
            raise ValueError("gpu_hour needs tokens_per_second: what the GPUs generate under load")
        return self

    @property
    def output_token(self) -> float:
        """What one generated token costs."""
        if self.gpu_hour is not None and self.tokens_per_second is not None:
            return self.gpu_hour / 3600 / self.tokens_per_second
        return self.output_per_million / 1e6

    @property
    def input_token(self) -> float:
        """What one prompt token costs."""
        return 0.0 if self.gpu_hour is not None else self.input_per_million / 1e6


class Rule(_Strict):
    """The first rule whose conditions all hold says what is done."""

    when: tuple[Condition, ...] = ()
    then: Action

    @field_validator("when", mode="before")
    @classmethod
    def _one_or_more(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str) else value


DEFAULT_RULES = (
    Rule(when=(Condition.REGRESSED_EVERYWHERE,), then=Action.FALLBACK),
    Rule(when=(Condition.BOOKS_OVER_LIMIT,), then=Action.KEEP_MIRRORING),
    Rule(when=(Condition.ONLY_LONG_PROMPTS_REGRESSED, Condition.GAINS_SHOWN), then=Action.ADJUST_CONTEXT_LENGTH),
    Rule(when=(Condition.REGRESSED, Condition.SOME_HEALTHY, Condition.GAINS_SHOWN), then=Action.RESTRICT_ROUTE),
    Rule(when=(Condition.ALL_HEALTHY, Condition.GAINS_SHOWN), then=Action.PROMOTE),
    Rule(then=Action.KEEP_MIRRORING),
)


class Policy(_Strict):
    """All of ``policy.yaml``.

    Attributes:
        version: of this format.
        name: what reports call it.
        baseline: ``model_variant`` of the baseline, for spans that do not say their arm.
        candidate: ``model_variant`` of the candidate, likewise.
        measures: what is guarded: evaluators by name (their fail rate), ``NAME.score``, and the measures of operations.
        guard: in which divisions of the traffic every part has to be healthy.
        critical: parts that have to be healthy whatever ``guard`` says, in each measure not of all traffic alone.
        overrides: other margins for parts.
        gains: what the candidate has to be better in.
        evidence: how evidence is weighed.
        limits: how much may be missing.
        prompt_token_buckets: where one bucket of prompt lengths ends and the next begins, in tokens.
        prices: by model variant.
        rules: from results to actions, in order; the last one has to hold always.
    """

    version: Literal[1]
    name: str = "policy"
    baseline: str | None = None
    candidate: str | None = None
    measures: dict[str, Guard] = Field(min_length=1)
    guard: tuple[Dimension, ...] = ("all", "route", "slice", "traffic_cohort", "prompt_tokens")
    critical: tuple[Scope, ...] = ()
    overrides: tuple[Override, ...] = ()
    gains: tuple[Gain, ...] = ()
    evidence: Evidence = Evidence()
    limits: Limits = Limits()
    prompt_token_buckets: tuple[Annotated[int, Field(gt=0)], ...] = (512, 2048, 8192, 32768)
    prices: dict[str, Price] = Field(default_factory=dict)
    rules: tuple[Rule, ...] = DEFAULT_RULES

    @field_validator("measures")
    @classmethod
    def _known(cls, measures: dict[str, Guard]) -> dict[str, Guard]:
        for name in measures:
            near = difflib.get_close_matches(name, OPERATIONS, n=1, cutoff=0.8)
            if near and name not in OPERATIONS:
                raise ValueError(f"{name!r} is no measure; did you mean `{near[0]}`?")
        return measures

    @field_validator("prompt_token_buckets")
    @classmethod
    def _ascending(cls, edges: tuple[int, ...]) -> tuple[int, ...]:
        if list(edges) != sorted(set(edges)):
            raise ValueError("write them in ascending order, each once")
        return edges

    @field_validator("rules")
    @classmethod
    def _always_ends(cls, rules: tuple[Rule, ...]) -> tuple[Rule, ...]:
        if not rules or rules[-1].when:
            raise ValueError("the last rule has to hold always: add `- {then: keep_mirroring}`")
        for rule in rules:
            if rule.then is Action.PROMOTE and Condition.ALL_HEALTHY not in rule.when:
                raise ValueError("promote needs `all_healthy` among its conditions: no data is never a pass")
        return rules

    @model_validator(mode="after")
    def _measures_make_sense(self) -> Policy:
        for name, guard in self.measures.items():
            if guard.threshold is not None and (name in OPERATIONS or name.endswith(".score")):
                raise PolicyConflict(("measures", name, "threshold"), "goes with the name of an evaluator; remove it")
        places: list[tuple[tuple[str | int, ...], Mapping[str, Allowance]]] = [(("measures",), self.measures)]
        places += [(("overrides", place, "measures"), one.measures) for place, one in enumerate(self.overrides)]
        for location, measures in places:
            for name, allowance in measures.items():
                if name not in QUANTILES and allowance.margin >= 1:
                    message = (
                        f"{allowance.margin:g} is everything: write a share below 1, e.g. 0.05 for five in a hundred"
                    )
                    raise PolicyConflict((*location, name, "margin"), message)
        return self

    @model_validator(mode="after")
    def _critical_is_judged(self) -> Policy:
        measures = {*self.measures, *(name for override in self.overrides for name in override.measures)}
        for part in self.critical:
            if not any(self.guard_of(name, part.items()) for name in measures):
                where = ", ".join(f"{name}={value}" for name, value in part.items())
                raise ValueError(
                    f"critical: nothing is judged in {where}: take `guard: [all]` from one of the measures"
                )
        return self

    @property
    def hash(self) -> str:
        """Identifies the policy by what it says, however the file is written: SHA-256, 16 hexadecimal digits."""
        text = json.dumps(self.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    @property
    def divisions(self) -> frozenset[str]:
        """The divisions of the traffic in which some measure is guarded."""
        return frozenset().union(*(self.guard if one.guard is None else one.guard for one in self.measures.values()))

    def guard_of(self, measure: str, scope: tuple[tuple[str, str], ...]) -> Allowance | None:
        """Return what is allowed of a measure in a part of the traffic; None where it is only shown."""
        fitting = [
            override
            for override in self.overrides
            if measure in override.measures and set(override.where.items()) <= set(scope)
        ]
        found = self.measures.get(measure)
        # Who names a part guards it. Within it the margin is another, and not where it is looked at.
        if any(override.where.items() == scope for override in fitting) or self._guards(found, scope):
            return fitting[0].measures[measure] if fitting else found
        return None

    def _guards(self, found: Guard | None, scope: tuple[tuple[str, str], ...]) -> bool:
        if found is None:
            return False
        critical = {part.items() for part in self.critical}
        if found.guard != ("all",) and scope in critical:
            return True
        divisions = {name for name, _ in scope} or {"all"}
        # A guarded route is looked at slice by slice where the measure is guarded by slice too; by intents and by what
        # is critical always.
        if len(scope) > 1 and (scope[1][0] == "intent" or scope[1:] in critical):
            divisions = {scope[0][0]}
        return divisions <= set(self.guard if found.guard is None else found.guard)
