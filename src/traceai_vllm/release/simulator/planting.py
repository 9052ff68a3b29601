"""What is planted: a change of the candidate whose size and place are known."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from numpy.typing import NDArray

    Draw = dict[str, NDArray[Any]]

FACTORS = ("latency", "time_to_first_token", "output_tokens")
SHARES = ("errors", "timeouts", "missing", "prompt")
FEEDBACK = ("thumbs_down", "correction", "escalation", "abandoned")
MOST = 1_000_000  # times as long; beyond, no clock could tell
PLACES = ("route", "slice", "traffic_cohort", "min_prompt_tokens")
_TEXT = re.compile(r"(?P<what>[A-Za-z_]\w*)(?P<how>[+*])(?P<size>\d*\.?\d+)(?:@(?P<where>.+))?")


@dataclass(frozen=True)
class Planted:
    """One change.

    Attributes:
        what: an evaluator (its fail rate), ``errors``, ``timeouts``, a kind of feedback, ``missing`` (the candidate's
            answer), ``prompt`` (another prompt version), ``latency``, ``time_to_first_token`` or ``output_tokens``.
        size: points for shares (0.1: ten points more), a factor for the last three (2: twice as long).
        where: any of ``route``, ``slice``, ``traffic_cohort`` and ``min_prompt_tokens``; empty for everywhere.
    """

    what: str
    size: float
    where: Mapping[str, str] = field(default_factory=dict)

    @property
    def is_factor(self) -> bool:
        """Whether the size is a factor."""
        return self.what in FACTORS

    def size_at(self, draw: Draw, names: Mapping[str, Sequence[str]]) -> NDArray[np.float64]:
        """Return its size for each pair: none (0, or a factor of 1) outside its place.

        Args:
            draw: columns of pairs, with numbers for names.
            names: dimension to its names, in the order of the numbers.

        Raises:
            ValueError: the place is not in the traffic.
        """
        inside = np.ones(len(draw["prompt_tokens"]), dtype=np.bool_)
        for dimension, name in self.where.items():
            if dimension == "min_prompt_tokens":
                inside &= draw["prompt_tokens"] >= int(name)
                continue
            if name not in names[dimension]:
                raise ValueError(f"there is no {dimension} {name!r}; there are {', '.join(names[dimension])}")
            inside &= draw[dimension] == list(names[dimension]).index(name)
        return np.where(inside, self.size, 1.0 if self.is_factor else 0.0)


def parse(text: str) -> Planted:
    """Read a change as the command line has it.

    Args:
        text: ``WHAT+POINTS`` or ``WHAT*FACTOR``, then ``@KEY=VALUE,KEY=VALUE`` for where, e.g.
            ``Groundedness+0.1@slice=regulated`` or ``latency*2@route=support,min_prompt_tokens=2048``.

    Raises:
        ValueError: it is not written like that; the message says what is wrong.
    """
    found = _TEXT.fullmatch(text.strip())
    if found is None:
        raise ValueError(f"{text!r}: write WHAT+POINTS or WHAT*FACTOR, then @KEY=VALUE, e.g. errors+0.2@route=support")
    planted = Planted(found["what"], float(found["size"]), _where(found["where"] or "", text))
    if planted.is_factor != (found["how"] == "*"):
        raise ValueError(f"{text!r}: {', '.join(FACTORS)} take a factor (latency*2), everything else points (+0.1)")
    if planted.is_factor and not 0 < planted.size <= MOST:
        raise ValueError(f"{text!r}: a factor is above 0 and at most {MOST:,}")
    if not planted.is_factor and planted.size > 1:
        raise ValueError(f"{text!r}: points are shares, at most 1: write +0.1 for ten points")
    return planted


def _where(text: str, whole: str) -> dict[str, str]:
    where: dict[str, str] = {}
    for part in filter(None, text.split(",")):
        key, _, value = part.partition("=")
        if key not in PLACES or not value:
            raise ValueError(f"{whole!r}: a place is KEY=VALUE with KEY one of {', '.join(PLACES)}")
        if key == "min_prompt_tokens" and not value.isdecimal():
            raise ValueError(f"{whole!r}: min_prompt_tokens is a whole number, e.g. min_prompt_tokens=2048")
        where[key] = value
    return where
