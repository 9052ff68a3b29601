"""The page: what was measured, what the targets ask for, and the figures of each arm."""

from __future__ import annotations

from operator import sub, truediv
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.engine.summary import median_of
from benchmarks.engine.verdicts import Row, at_least, at_most, figure_row

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from benchmarks.engine.summary import Figure

    Figures = dict[str, dict[str, list[float]]]

DIRECT, HUNG = "direct", "ours, hung candidate"
OFF, TENTH, WHOLE = "ours, mirror off", "ours, mirror 10 %", "ours, mirror 100 %"
NGINX, NGINX_MIRROR = "nginx", "nginx, mirror"
LITELLM, SILENT = "LiteLLM", "LiteLLM, silent_model"
# Measured with the candidate on a core of its own, too.
PINNED = (OFF, WHOLE, NGINX, NGINX_MIRROR)

_INTRODUCTION = """\
# The gateway, beside no gateway, nginx and LiteLLM

Written by `make bench-gateway`. B1 to B3 and the ratios of B4: medians over rounds in turns, with the 95 % bootstrap
interval of the median; differences and ratios are taken within a round, and a verdict goes by the whole interval. All
processes share the machine's cores, the measuring one too, but where it says *alone*: there the candidate has the last
core to itself, and users, gateway and baseline share the rest. Requests follow each answer at once, where a gateway
that has two requests to send instead of one takes its time for both; *at 100/s* there is time between them (LiteLLM:
10/s).
"""


def page(about: dict[str, Any], figures: Figures, promises: Sequence[Row]) -> str:
    """Return the page.

    Args:
        about: the run.
        figures: of each arm, one of each kind for each round.
        promises: the lines on what always has to hold.
    """
    lines = [_INTRODUCTION, *(f"- {key}: {value}" for key, value in about.items())]
    lines += ["", "| target | what | limit | measured | quartiles; extremes | verdict |", "|---|---|---|---|---|---|"]
    lines += [_line(row) for row in (*_targets(figures), *promises)]
    lines += ["", "| for comparison | measured | quartiles; extremes |", "|---|---|---|"]
    lines += [f"| {row.what} | {row.measured} | {row.spread} |" for row in _references(figures)]
    names = list(dict.fromkeys(name for measured in figures.values() for name in measured))
    lines += ["", "Medians of each arm, with quartiles:", ""]
    lines += ["| | " + " | ".join(figures) + " |", "|---" * (len(figures) + 1) + "|"]
    for name in names:
        cells = (_cell(measured.get(name)) for measured in figures.values())
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _line(row: Row) -> str:
    return f"| {row.target} | {row.what} | {row.limit} | {row.measured} | {row.spread} | {row.verdict} |"


def _targets(figures: Figures) -> list[Row]:
    compare = _Compare(figures)
    compare.added("B1", "added p50", (TENTH, DIRECT), "p50_ms", most=0.8)
    compare.added("B1", "added p99", (TENTH, DIRECT), "p99_ms", most=3)
    compare.added("B1", "first event of a stream, added p50", (TENTH, DIRECT), "first_event_ms", most=0.8)
    compare.added("B1", "gap between events of a stream, added p99", (TENTH, DIRECT), "gap_p99_ms", most=1)
    compare.ratio("B2", "requests/s over LiteLLM's", (OFF, LITELLM), "per_second", least=10)
    compare.ratio("B2", "memory over LiteLLM's", (OFF, LITELLM), "memory_mib", most=0.4)
    for quantile in ("p50", "p99"):
        what = f"{quantile}, mirror 100 % over off, candidate alone, at 100/s"
        compare.ratio("B3", what, (WHOLE, OFF), f"alone_paced_{quantile}_ms", most=1.05)
    for quantile in ("p50", "p99"):
        what = f"{quantile}, hung candidate over mirror off, at 100/s"
        compare.ratio("B4", what, (HUNG, OFF), f"paced_{quantile}_ms", most=1.05)
    return compare.rows


def _references(figures: Figures) -> list[Row]:
    compare = _Compare(figures)
    for place, kind in (("candidate alone", "alone_"), ("nothing pinned", "")):
        for pace, paced in (("at 100/s", "paced_"), ("at once", "")):
            for quantile in ("p50", "p99"):
                name, where = f"{kind}{paced}{quantile}_ms", f"{place}, {pace}"
                compare.ratio("", f"{quantile}, ours, mirror 100 % over off, {where}", (WHOLE, OFF), name)
                compare.ratio("", f"{quantile}, nginx, mirror over none, {where}", (NGINX_MIRROR, NGINX), name)
    for quantile in ("p50", "p99"):
        compare.ratio("", f"{quantile}, hung candidate over mirror off, at once", (HUNG, OFF), f"{quantile}_ms")
    for arm in (OFF, WHOLE, NGINX, NGINX_MIRROR, LITELLM, SILENT):
        compare.added("", f"added p50, {arm}", (arm, DIRECT), "p50_ms")
    return compare.rows


class _Compare:
    """Collects comparisons of one arm with another; where one of them was not measured there is none."""

    def __init__(self, figures: Figures) -> None:
        self._figures = figures
        self.rows: list[Row] = []

    def added(self, target: str, what: str, arms: tuple[str, str], name: str, *, most: float | None = None) -> None:
        """Add what one arm takes longer."""
        figure = self._figure(arms, name, sub)
        if figure is not None:
            limit, verdict = ("", "") if most is None else (f"≤ {most:g} ms", at_most(figure, most))
            self.rows.append(figure_row(target, what, figure, ".2f ms", limit=limit, verdict=verdict))

    def ratio(
        self,
        target: str,
        what: str,
        arms: tuple[str, str],
        name: str,
        *,
        most: float | None = None,
        least: float | None = None,
    ) -> None:
        """Add how many times as much it is."""
        figure = self._figure(arms, name, truediv)
        if figure is None:
            return
        limit, verdict = "", ""
        if most is not None:
            limit, verdict = f"≤ {most:g}", at_most(figure, most)
        elif least is not None:
            limit, verdict = f"≥ {least:g}", at_least(figure, least)
        self.rows.append(figure_row(target, what, figure, ".2f", limit=limit, verdict=verdict))

    def _figure(self, arms: tuple[str, str], name: str, how: Callable[[Any, Any], Any]) -> Figure | None:
        one, other = (self._figures.get(arm, {}).get(name) for arm in arms)
        return None if one is None or other is None else median_of(how(np.asarray(one), np.asarray(other)))


def _cell(values: list[float] | None) -> str:
    if not values:
        return ""
    low, middle, high = np.percentile(values, [25, 50, 75])
    return f"{_short(middle)} [{_short(low)}-{_short(high)}]"


def _short(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.2f}"
