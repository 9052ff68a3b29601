"""Which model variants answered in each arm, and whether an arm is one variant on each route, as it has to be."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import Any

_SIDES = {"baseline": "b:", "candidate": "c:"}
# What tells builds of a model apart.
_COLUMNS = {"model_variant": "variants", "quantization_format": "number formats"}


@dataclass(frozen=True)
class Variants:
    """The variants of both arms.

    Attributes:
        seen: arm to the model variants seen there, each with its number format.
        mixed: the largest share of an arm's answers that are not of their route's most frequent variant, or number
            format.
        problems: which arm has several on one route.
    """

    seen: dict[str, list[str]]
    mixed: float
    problems: tuple[str, ...]


def variants_of(pairs: Any) -> Variants:
    """Return who answered.

    Routes may be of different models; on one route, the mean of two builds would be a verdict on neither.

    Args:
        pairs: an Ibis table of the pairs with both answers.
    """
    seen, problems, highest = {}, [], 0.0
    for arm, side in _SIDES.items():
        rows = _counted(pairs, side)
        seen[arm] = sorted({_shown(row["model_variant"], row["quantization_format"]) for row in rows})
        for column, what in _COLUMNS.items():
            share, names = _mixed(rows, column)
            if names:
                highest = max(highest, share)
                listed = ", ".join(sorted(names))
                problems.append(f"the {arm}'s answers on one route are of several {what}, {listed}, and count as one")
    return Variants(seen, highest, tuple(problems))


def _counted(pairs: Any, side: str) -> list[dict[str, Any]]:
    kinds = pairs.group_by(pairs.route, **{column: pairs[side + column] for column in _COLUMNS})
    rows: list[dict[str, Any]] = kinds.aggregate(answers=pairs.count()).to_pyarrow().to_pylist()
    return rows


def _mixed(rows: list[dict[str, Any]], column: str) -> tuple[float, set[str]]:
    """Return the share of the answers that are not of their route's most frequent value, and the values that meet."""
    routes: defaultdict[str | None, Counter[str]] = defaultdict(Counter)
    for row in rows:
        if row[column] is not None:  # who does not say it may be any of them
            routes[row["route"]][row[column]] += row["answers"]
    several = [counts for counts in routes.values() if len(counts) > 1]
    others = sum(counts.total() - max(counts.values()) for counts in several)
    return others / max(1, sum(counts.total() for counts in routes.values())), {
        *(n for counts in several for n in counts)
    }


def _shown(name: str | None, number_format: str | None) -> str:
    return (name or "unnamed") + (f" ({number_format})" if number_format and number_format != name else "")
