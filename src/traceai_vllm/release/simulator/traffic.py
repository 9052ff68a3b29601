"""Synthetic traffic: what its answers are like, and pairs of them drawn by the million."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.special import ndtr

from traceai_vllm.release.simulator.planting import FACTORS, FEEDBACK, SHARES

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from traceai_vllm.release.simulator.planting import Planted

    Draw = dict[str, NDArray[Any]]

ARMS = ("b", "c")
_EVEN_S = 0.05  # mean time between two requests


@dataclass(frozen=True)
class Evaluator:
    """How answers fare with an evaluator while nothing is planted.

    Attributes:
        both_fail: share of the pairs in which both answers fail.
        disagreement: share in which exactly one does, each arm as often.
    """

    both_fail: float = 0.04
    disagreement: float = 0.06


@dataclass(frozen=True)
class Traffic:
    """What is drawn.

    Attributes:
        routes: route to its share of the sessions.
        slices: slice to its share of the pairs; the rest is in none.
        traffic_cohorts: cohort to its share of the sessions.
        evaluators: by name.
        planted: how the candidate differs.
        session_size: mean number of pairs in a session.
        icc: how much alike fails within a session are (intraclass correlation, before thresholds).
        speed: the candidate's times as a share of the baseline's.
        errors: share of the answers of each arm that end in an error.
        missing: share of the candidate's answers that are missing.
        feedback: share of the answers of each arm that get each kind of bad word, while all others get a thumbs up; 0:
            nobody says anything, but for what is planted.
        seed: of everything.
        start_ns: when the first request came, nanoseconds since the epoch.
    """

    routes: Mapping[str, float] = field(default_factory=lambda: {"faq": 0.4, "support": 0.35, "tools": 0.25})
    slices: Mapping[str, float] = field(default_factory=lambda: {"regulated": 0.15, "code": 0.1, "multilingual": 0.1})
    traffic_cohorts: Mapping[str, float] = field(default_factory=lambda: {"mirrored-2026-05": 1.0})
    evaluators: Mapping[str, Evaluator] = field(
        default_factory=lambda: {"Groundedness": Evaluator(), "JSONValidation": Evaluator(0.01, 0.03)}
    )
    planted: tuple[Planted, ...] = ()
    session_size: float = 3.0
    icc: float = 0.04
    speed: float = 0.7
    errors: float = 0.002
    missing: float = 0.005
    feedback: float = 0.004
    seed: int = 0
    start_ns: int = 1_780_000_000_000_000_000

    def __post_init__(self) -> None:
        known = {*self.evaluators, *SHARES, *FEEDBACK, *FACTORS}
        for name in self.evaluators:
            if not name.isidentifier():
                raise ValueError(f"{name!r}: an evaluator's name is letters, digits and _")
        for change in self.planted:
            if change.what not in known:
                raise ValueError(f"nothing to plant {change.what!r} in; there are {', '.join(sorted(known))}")

    @property
    def is_judged(self) -> bool:
        """Whether somebody says of every answer what he thinks of it."""
        return self.feedback > 0 or any(change.what in FEEDBACK for change in self.planted)

    @property
    def names(self) -> dict[str, list[str]]:
        """Dimension to its names; numbers in a draw are places in these."""
        return {"route": [*self.routes], "slice": [*self.slices], "traffic_cohort": [*self.traffic_cohorts]}


def draw(traffic: Traffic, part: int, pairs: int) -> Draw:
    """Draw pairs.

    Args:
        traffic: what is drawn.
        part: which part of the traffic; each has random numbers of its own, so parts can be made in any order.
        pairs: how many.

    Returns:
        Columns of shape (pairs,): numbers for names (-1 for none), and for each measure one for each arm: ``b:...`` and
        ``c:...``.
    """
    random = np.random.default_rng([traffic.seed, part])
    drawn = _requests(traffic, random, pairs)
    _times(traffic, random, drawn)
    _shares(traffic, random, drawn)
    for name, evaluator in traffic.evaluators.items():
        _scores(traffic, random, drawn, name, evaluator)
    return drawn


def _requests(traffic: Traffic, random: np.random.Generator, pairs: int) -> Draw:
    lengths = np.minimum(random.geometric(1 / traffic.session_size, pairs), pairs)
    sessions = int(np.searchsorted(np.cumsum(lengths), pairs)) + 1  # the others would be repeated for nothing
    session = np.repeat(np.arange(sessions), lengths[:sessions])[:pairs]
    drawn: Draw = {"session": session, "prompt_tokens": random.lognormal(6.0, 1.1, pairs).clip(8, 60_000).astype(int)}
    drawn["route"] = _choice(random, traffic.routes, pairs)[session]
    drawn["traffic_cohort"] = _choice(random, traffic.traffic_cohorts, pairs)[session]
    drawn["slice"] = _choice(random, {**traffic.slices, "": max(0.0, 1 - sum(traffic.slices.values()))}, pairs)
    drawn["slice"][drawn["slice"] == len(traffic.slices)] = -1
    drawn["at_s"] = np.cumsum(random.exponential(_EVEN_S, pairs))
    return drawn


def _choice(random: np.random.Generator, shares: Mapping[str, float], count: int) -> NDArray[np.int16]:
    weights = np.array([*shares.values()], dtype=np.float64)
    return random.choice(len(weights), count, p=weights / weights.sum()).astype(np.int16)


def _times(traffic: Traffic, random: np.random.Generator, drawn: Draw) -> None:
    pairs = len(drawn["session"])
    tokens = random.lognormal(4.8, 0.6, pairs)
    load = random.lognormal(0, 0.25, pairs)  # what slows both arms of a pair down
    for arm in ARMS:
        longer, slower, later = (
            _factor(traffic, drawn, what) if arm == "c" else 1.0
            for what in ("output_tokens", "latency", "time_to_first_token")
        )
        speed = traffic.speed if arm == "c" else 1.0
        count = np.maximum(1, tokens * longer * random.lognormal(0, 0.08, pairs)).astype(int)
        noise = random.lognormal(0, 0.1, (2, pairs))
        drawn[f"{arm}:output_tokens"] = count
        drawn[f"{arm}:ttft"] = speed * slower * later * load * noise[0] * (0.04 + 2e-5 * drawn["prompt_tokens"])
        drawn[f"{arm}:latency"] = drawn[f"{arm}:ttft"] + speed * slower * load * noise[1] * 0.01 * count


def _factor(traffic: Traffic, drawn: Draw, what: str) -> NDArray[np.float64]:
    sizes = [change.size_at(drawn, traffic.names) for change in traffic.planted if change.what == what]
    return np.asarray(np.prod([np.ones(len(drawn["session"])), *sizes], axis=0))


def _points(traffic: Traffic, drawn: Draw, what: str) -> NDArray[np.float64]:
    sizes = [change.size_at(drawn, traffic.names) for change in traffic.planted if change.what == what]
    return np.asarray(np.sum([np.zeros(len(drawn["session"])), *sizes], axis=0))


def _shares(traffic: Traffic, random: np.random.Generator, drawn: Draw) -> None:
    pairs = len(drawn["session"])

    def hits(base: float, what: str) -> NDArray[np.bool_]:
        return random.random(pairs) < base + _points(traffic, drawn, what)

    drawn["b:error"] = random.random(pairs) < traffic.errors
    drawn["c:error"] = hits(traffic.errors, "errors")
    drawn["c:timeout"] = hits(0.0, "timeouts")
    drawn["c:missing"] = hits(traffic.missing, "missing")
    drawn["c:prompt"] = hits(0.0, "prompt")
    for arm in ARMS:
        drawn[f"{arm}:feedback"] = np.full(pairs, -1, dtype=np.int16)
    for place, kind in enumerate(FEEDBACK):
        drawn["b:feedback"][random.random(pairs) < traffic.feedback] = place
        drawn["c:feedback"][hits(traffic.feedback, kind)] = place


def _scores(traffic: Traffic, random: np.random.Generator, drawn: Draw, name: str, evaluator: Evaluator) -> None:
    """Fails with a session's mood in them, and scores on the right side of the threshold of one half."""
    pairs = len(drawn["session"])
    mood = random.normal(size=pairs)[drawn["session"]]
    luck = ndtr(np.sqrt(traffic.icc) * mood + np.sqrt(1 - traffic.icc) * random.normal(size=pairs))
    each = evaluator.disagreement / 2
    worse = each + _points(traffic, drawn, name)
    only_candidate = luck < worse
    both = ~only_candidate & (luck < worse + evaluator.both_fail)
    only_baseline = luck > 1 - each
    quality = random.beta(5, 2, pairs)
    for arm, fails in (("b", only_baseline | both), ("c", only_candidate | both)):
        nearby = np.clip(quality + random.normal(0, 0.03, pairs), 0, 1)
        drawn[f"{arm}:fail:{name}"] = fails
        drawn[f"{arm}:score:{name}"] = np.where(fails, 0.45 * nearby, 0.5 + 0.5 * nearby).round(4)
