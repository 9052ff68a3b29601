"""Puts a report together."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import yaml
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from traceai_vllm.release.cells import HEALTHY, NOT_ENOUGH, REGRESSED, cells_of_rows, pairs_seen
from traceai_vllm.release.measures import RATE, SCORE
from traceai_vllm.release.report.flips import worst_flips
from traceai_vllm.release.report.plots import evidence_plot, latency_plot
from traceai_vllm.release.resources import resource_texts
from traceai_vllm.release.wording import (
    cell_text,
    change_text,
    evidence_text,
    moved_text,
    needed_text,
    value_text,
    verdict_sentence,
    volume_texts,
    what_would_change_it,
)
from traceai_vllm.version import __version__

if TYPE_CHECKING:
    from traceai_vllm.gateway.decision import Decision
    from traceai_vllm.release.cells import Cell
    from traceai_vllm.release.comparison import Comparison
    from traceai_vllm.release.deciding import Judgement
    from traceai_vllm.release.sources import Source

# What turns the text round it, so that a route's name may write another sentence than the verdict.
_TURNED = dict.fromkeys((*range(0x202A, 0x202F), *range(0x2066, 0x206A)), "\N{REPLACEMENT CHARACTER}")
_LOOKS = 24
_EVIDENCE_PLOTS = 3
_WORDS = {HEALTHY: "healthy", REGRESSED: "worse", NOT_ENOUGH: "more data"}


@dataclass(frozen=True)
class Row:
    """A row of the heat map: a part of the traffic, and its cells by measure."""

    name: str
    pairs: int
    within: bool
    cells: dict[str, Cell]

    @property
    def quiet(self) -> bool:
        """Whether it is a part of a route in which nothing regressed: of interest to who looks for it."""
        return self.within and all(cell.verdict != REGRESSED for cell in self.cells.values())


def report_html(judgement: Judgement, decision: Decision, source: Source, *, command: str, content: bool = True) -> str:
    """Return the report as one HTML file.

    Args:
        judgement: the comparison with its verdicts.
        decision: what follows from it.
        source: the spans, for the texts of single answers.
        command: the command line that makes it again.
        content: whether answers and questions may be in it.
    """
    comparison = judgement.comparison
    guarded = [cell for cell in comparison.cells if cell.margin is not None]
    rows = heat_map(guarded)
    template = _environment().get_template("page.html")
    page = template.render(
        verdict=verdict_sentence(judgement),
        decision=decision,
        changes=what_would_change_it(judgement),
        comparison=comparison,
        policy=comparison.policy,
        policy_text=yaml.safe_dump(comparison.policy.model_dump(mode="json"), sort_keys=False, allow_unicode=True),
        measures=columns(guarded),
        rows=[row for row in rows if not row.quiet],
        quiet=[row for row in rows if row.quiet],
        shown=[cell for cell in comparison.cells if not cell.scope],
        resources=resource_texts(comparison),
        volume=volume_texts(comparison.volume),
        latency=_latency(comparison),
        evidence=_evidence(judgement),
        flips=worst_flips(comparison, source) if content else [],
        flips_counted=_flips_counted(comparison, source),
        content=content,
        books=comparison.books,
        books_problems=judgement.books_problems,
        command=command,
        version=__version__,
    )
    # Half of an emoji, where an answer was cut, has no place in UTF-8.
    return page.translate(_TURNED).encode("utf-8", "replace").decode("utf-8")


def heat_map(guarded: list[Cell]) -> list[Row]:
    """Return the rows of the heat map, those in which something regressed first."""
    by_scope: dict[Any, dict[str, Cell]] = {}
    for cell in guarded:
        by_scope.setdefault(cell.scope, {})[cell.measure.name] = cell
    rows = [
        Row(next(iter(cells.values())).name, pairs_seen(cells.values()), len(scope) > 1, cells)
        for scope, cells in by_scope.items()
    ]
    return sorted(rows, key=lambda row: (row.within, all(cell.verdict != REGRESSED for cell in row.cells.values())))


def columns(guarded: list[Cell]) -> list[str]:
    """Return the columns of the heat map, those with most regressions first: a narrow screen shows few."""
    worse = Counter(cell.measure.name for cell in guarded if cell.verdict == REGRESSED)
    return sorted(dict.fromkeys(cell.measure.name for cell in guarded), key=lambda name: -worse[name])


def _foldable(name: str) -> Markup:
    """A name that may be broken where its words begin: ``HallucinationScore``, ``slice=long_context``."""
    return Markup("<wbr>").join(re.split(r"(?<=[a-z])(?=[A-Z])|(?<=[_.=])", name))


def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("traceai_vllm.release.report", "."),
        autoescape=True,  # answers, routes and errors are anybody's text
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "change": change_text,
        "cell_text": cell_text,
        "moved": moved_text,
        "needed": needed_text,
        "seen": evidence_text,
        "word": lambda verdict: _WORDS[verdict],
        "shade": _shade,
        "foldable": _foldable,
        "score": lambda score: "-" if score is None else f"{score:.2f}",
        "percent": lambda share: f"{share:.1%}",
    }
    environment.globals["value"] = value_text
    return environment


def _shade(cell: Cell) -> str:
    """How strong a cell's colour is, 0.15 to 0.9: how far the estimate is from no change, in margins."""
    off = cell.candidate - cell.baseline
    if cell.measure.kind not in (RATE, SCORE) and cell.baseline:
        off /= cell.baseline
    if not np.isfinite(off):
        return "0.15"
    return f"{min(0.9, 0.25 + 0.15 * abs(off) / max(cell.margin or 0.0, 0.005)):.2f}"


def _latency(comparison: Comparison) -> list[Markup]:
    made = []
    for column, title in (("latency_s", "end-to-end latency"), ("ttft_s", "time to first token")):
        one, other = (comparison.frame.values.get(side + column) for side in ("b:", "c:"))
        if one is None or other is None:
            continue
        known = tuple(values[np.isfinite(values) & (values > 0)].astype(np.float64) for values in (one, other))
        if any(map(len, known)):
            # Drawn by us from numbers: there is no text of anybody's in it.
            made.append(Markup(latency_plot(known[0], known[1], title)))
    return made


def _evidence(judgement: Judgement) -> list[tuple[str, Markup]]:
    """Return plots for what regressed most clearly, else for what is guarded over all traffic."""
    comparison = judgement.comparison
    weighable = [cell for cell in (*judgement.regressed, *comparison.cells) if cell.measure.kind in (RATE, SCORE)]
    chosen = [cell for cell in weighable if len(cell.scope) <= 1 and cell.margin and cell.evidence.pairs]
    cells = list({(cell.scope, cell.measure.name): cell for cell in chosen}.values())
    return [(cell_text(cell), Markup(_over_time(comparison, cell))) for cell in cells[:_EVIDENCE_PLOTS]]


def _over_time(comparison: Comparison, cell: Cell) -> str:
    frame = comparison.frame
    rows = frame.rows(cell.scope) if cell.paired or frame.served is None else frame.served.rows(cell.scope)
    first = min(20, len(rows))
    looks = sorted({int(count) for count in np.geomspace(max(first, 1), max(len(rows), 1), _LOOKS)})
    bands = []
    for count in looks:
        some = rows[:count]
        [seen] = cells_of_rows(frame, some, cell.scope, [cell.measure], comparison.policy, served=some)
        bands.append((seen.evidence.low, seen.evidence.estimate, seen.evidence.high))
    title = f"{cell.measure.name} on {cell.name}, as {cell.unit} came in"
    points = cell.measure.kind == RATE
    return evidence_plot(looks, bands, cell.margin or 0.0, title, unit=cell.unit, points=points)


def _flips_counted(comparison: Comparison, source: Source) -> list[Cell]:
    return [cell for cell in comparison.cells if not cell.scope and cell.measure.name in source.evaluators]
