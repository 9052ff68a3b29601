"""D5: what a release is like, and what should be done about it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from traceai_vllm.gateway.decision import Action
from traceai_vllm.release.simulator.planting import Planted, parse
from traceai_vllm.release.simulator.traffic import Evaluator, Traffic

PROMOTE, KEEP, RESTRICT = Action.PROMOTE, Action.KEEP_MIRRORING, Action.RESTRICT_ROUTE
SHORTER, FALLBACK = Action.ADJUST_CONTEXT_LENGTH, Action.FALLBACK
PAIRS = 12_000
POLICY = """
version: 1
measures:
  Groundedness: {margin: 0.05}
  JSONValidation: {margin: 0.05}
  errors: {margin: 0.03}
  timeouts: {margin: 0.03}
  thumbs_down: {margin: 0.03}
  latency.p50: {margin: 0.10}
  cost: {margin: 0.10, guard: [all]}
guard: [all, route, traffic_cohort, prompt_tokens]
critical: [{slice: regulated}]
gains: [{measure: latency.p50, at_least: 0.10}]
evidence: {max_age_days: 14}
prompt_token_buckets: [512, 2048]
prices:
  model-bf16: {input_per_million: 1.0, output_per_million: 3.0}
  model-int4: {input_per_million: 0.6, output_per_million: 1.8}
"""


@dataclass(frozen=True)
class Scenario:
    """One kind of release.

    Attributes:
        name: what it is.
        action: what should be done.
        plant: changes of the candidate, as ``traceai-vllm simulate --plant`` has them.
        options: of :class:`Traffic`.
        pairs: how many there are.
        days_old: how old the newest pair is.
    """

    name: str
    action: Action
    plant: tuple[str, ...] = ()
    options: dict[str, Any] = field(default_factory=dict)
    pairs: int = PAIRS
    days_old: float = 0.0

    def traffic(self, seed: int) -> Traffic:
        """Return its traffic."""
        return Traffic(seed=seed, planted=tuple(map(_change, self.plant)), **{**_COMMON, **self.options})


_COMMON: dict[str, Any] = {"session_size": 1.5, "traffic_cohorts": {"eu": 0.6, "us": 0.4}}


def _change(text: str) -> Planted:
    # The command line has no improvements; here WHAT-POINTS is one.
    what, minus, points = text.partition("-")
    return Planted(what, -float(points)) if minus and "@" not in text else parse(text)


def _of(action: Action, cases: dict[str, tuple[str, ...]]) -> list[Scenario]:
    return [Scenario(name, action, plant) for name, plant in cases.items()]


SCENARIOS = [
    Scenario("equal", PROMOTE),
    Scenario("twice as fast", PROMOTE, options={"speed": 0.5}),
    Scenario("a quarter faster", PROMOTE, options={"speed": 0.75}),
    Scenario("long sessions", PROMOTE, options={"session_size": 3.0}, pairs=30_000),
    Scenario("sessions with strong moods", PROMOTE, options={"icc": 0.1}),
    Scenario(
        "answers disagree little",
        PROMOTE,
        options={"evaluators": {"Groundedness": Evaluator(0.1, 0.02), "JSONValidation": Evaluator(0.02, 0.01)}},
    ),
    Scenario("no missing pair", PROMOTE, options={"missing": 0.0}),
    *_of(
        PROMOTE,
        {
            "better grounded": ("Groundedness-0.02",),
            "better JSON": ("JSONValidation-0.01",),
            "half a point worse grounded": ("Groundedness+0.005",),
            "half a point more errors": ("errors+0.005",),
            "one answer in a hundred missing": ("missing+0.01",),
            "answers a twentieth longer, and cheaper": ("output_tokens*1.05",),
        },
    ),
    Scenario("no faster", KEEP, options={"speed": 1.0}),
    Scenario("faster by less than is asked", KEEP, options={"speed": 0.95}),
    Scenario("100 pairs", KEEP, pairs=100),
    Scenario("400 pairs", KEEP, pairs=400),
    Scenario("no pairs of the critical slice", KEEP, options={"slices": {"code": 0.1}}),
    Scenario("nothing scored", KEEP, options={"evaluators": {}}),
    Scenario("one evaluator missing", KEEP, options={"evaluators": {"Groundedness": Evaluator()}}),
    Scenario("nobody can say anything", KEEP, options={"feedback": 0.0}),
    Scenario("evidence a month old", KEEP, days_old=30.0),
    Scenario("equal, and three weeks old", KEEP, days_old=21.0, options={"speed": 0.6}),
    *_of(
        KEEP,
        {
            "a tenth missing": ("missing+0.1",),
            "a third missing": ("missing+0.33",),
            "long prompts missing": ("missing+0.4@min_prompt_tokens=2048",),
            "a route missing": ("missing+0.3@route=tools",),
            "the prompt changed in one answer in ten": ("prompt+0.1",),
            "the prompt changed": ("prompt+1.0",),
            "worse, and the prompt changed": ("prompt+0.3", "Groundedness+0.2@route=faq"),
            "as fast, worse on regulated answers": ("Groundedness+0.15@slice=regulated", "latency*1.4"),
        },
    ),
    *_of(
        RESTRICT,
        {
            "worse grounded in support": ("Groundedness+0.15@route=support",),
            "broken JSON in tools": ("JSONValidation+0.2@route=tools",),
            "errors in tools": ("errors+0.1@route=tools",),
            "time-outs in faq": ("timeouts+0.1@route=faq",),
            "slow in tools": ("latency*2@route=tools",),
            "thumbs down in support alone": ("thumbs_down+0.1@route=support",),
            "worse in two of three routes": ("Groundedness+0.15@route=support", "JSONValidation+0.15@route=tools"),
            "worse in one cohort": ("Groundedness+0.2@traffic_cohort=us",),
            # What is left of each route is equal, and the gateway can tell what it withholds: see docs/policy.md.
            "worse on regulated answers of every route": ("Groundedness+0.15@slice=regulated",),
        },
    ),
    *_of(
        SHORTER,
        {
            "worse grounded on long prompts": ("Groundedness+0.4@min_prompt_tokens=2049",),
            "errors on long prompts": ("errors+0.4@min_prompt_tokens=2049",),
            "time-outs on long prompts": ("timeouts+0.4@min_prompt_tokens=2049",),
            "broken JSON on long prompts": ("JSONValidation+0.4@min_prompt_tokens=2049",),
        },
    ),
    *_of(
        FALLBACK,
        {
            "worse grounded everywhere": ("Groundedness+0.15",),
            "broken JSON everywhere": ("JSONValidation+0.2",),
            "errors everywhere": ("errors+0.15",),
            "time-outs everywhere": ("timeouts+0.15",),
            "slower everywhere": ("latency*2",),
            "thumbs down everywhere, nothing else": ("thumbs_down+0.12",),
            "an outage": ("errors+0.2", "latency*2"),
            "worse everywhere, and a tenth missing": ("Groundedness+0.2", "missing+0.1"),
        },
    ),
]
