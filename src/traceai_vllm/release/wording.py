"""The verdict in words: one sentence first, and what would change it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from traceai_vllm.gateway.decision import Action
from traceai_vllm.release.cells import NOT_ENOUGH
from traceai_vllm.release.deciding import describe
from traceai_vllm.release.measures import QUANTILE, RATE, RATIO, Measure

if TYPE_CHECKING:
    from traceai_vllm.release.cells import Cell
    from traceai_vllm.release.deciding import Judgement
    from traceai_vllm.release.volume import Share, Volume

_SHOWN = 3


def printable(text: str) -> str:
    """Return a line of text with nothing in it that steers a terminal: routes and errors are anybody's text."""
    return "".join(one if one.isprintable() else "\N{REPLACEMENT CHARACTER}" for one in text)


def value_text(value: float, measure: Measure) -> str:
    """Return a value of a measure with its unit."""
    if math.isnan(value):
        return "-"
    if measure.unit == "share":
        return f"{value:.1%}"
    if measure.unit == "s":
        return f"{value * 1000:.0f} ms" if value < 10 else f"{value:.1f} s"
    if measure.unit == "USD":
        return usd_text(value)
    return f"{value:.3f}" if measure.unit == "score" else f"{value:.1f}"


def usd_text(value: float) -> str:
    """Return an amount of money."""
    return f"${value:.6f}".rstrip("0").rstrip(".")


def change_text(cell: Cell) -> str:
    """Return by how much the candidate differs, in points for rates and scores, in per cent for the rest."""
    if not cell.evidence.pairs:
        return "no data"
    if math.isnan(cell.baseline) or math.isnan(cell.candidate):
        return "-"
    if cell.measure.kind in (QUANTILE, RATIO):
        return f"{cell.candidate / cell.baseline - 1:+.0%}" if cell.baseline else "-"
    if cell.measure.kind == RATE:
        return f"{(cell.candidate - cell.baseline) * 100:+.1f} points"
    return f"{cell.candidate - cell.baseline:+.3f}"


def needed_text(cell: Cell) -> str:
    """Return how many pairs a part of the traffic still needs; nothing where it has a verdict, or no data at all."""
    needed = cell.evidence.pairs_needed
    if cell.verdict != NOT_ENOUGH or needed is None or not cell.evidence.pairs:
        return ""
    return f"{needed} more"


def cell_text(cell: Cell) -> str:
    """Return what was seen in a cell: ``Groundedness fails on route=support rose from 4.0% to 9.0% in 412 pairs``."""
    what = f"{cell.measure.name} fails" if cell.measure.column.endswith(":fail") else cell.measure.name
    one, other = value_text(cell.baseline, cell.measure), value_text(cell.candidate, cell.measure)
    moved = "went" if cell.candidate == cell.baseline else ("rose" if cell.candidate > cell.baseline else "fell")
    return f"{what} on {cell.name} {moved} from {one} to {other} in {cell.evidence.pairs} {cell.unit}"


def moved_text(cell: Cell) -> str:
    """Return how many pairs became worse and better; nothing where answers are no pairs."""
    return f"{cell.worse} / {cell.better}" if cell.paired else ""


def evidence_text(cell: Cell) -> str:
    """Return how much evidence a cell has: pairs; ``served`` marks answers to users that are no pairs."""
    return str(cell.evidence.pairs) if cell.paired else f"{cell.evidence.pairs} served"


def volume_texts(volume: Volume) -> list[tuple[str, str]]:
    """Return how much answers differ, as pairs of what it is and how much; only what is known."""
    found = [("answers that differ", _share_text(volume.different))] if volume.different.pairs else []
    if volume.first_divergence is not None:
        found.append(("words in common before the first that differs (median)", f"{volume.first_divergence:g}"))
    if volume.top1_agreement is not None and volume.kl_divergence is not None:
        found.append(("same first choice of the next token", f"{volume.top1_agreement:.1%}"))
        found.append(("divergence of the next token, at least", f"{volume.kl_divergence:.4f} nats"))
    flips = [(name, share) for name, share in volume.flips.items() if share.pairs]
    return found + [(f"pairs that {name} judges differently", _share_text(share)) for name, share in flips]


def _share_text(share: Share) -> str:
    if share.share is None:
        return "-"
    if share.by_chance is None or share.beyond_chance is None:
        return f"{share.share:.1%}; how much of it is chance is not known: the baseline was not repeated"
    by_chance = f"{share.by_chance:.1%} by chance (in {share.repeats} repeats of the baseline)"
    return f"{share.share:.1%}, of which {by_chance}: {share.beyond_chance:.1%} beyond it"


def verdict_sentence(judgement: Judgement) -> str:
    """Return the verdict in one sentence: go or no-go, where, and why."""
    action = judgement.action
    pairs = len(judgement.comparison.frame)
    if action is Action.PROMOTE:
        cells = [cell for cell in judgement.comparison.cells if cell.margin is not None]
        return f"Go: the candidate is healthy in all {len(cells)} guarded cells of {pairs} pairs{_gains(judgement)}."
    if action is Action.KEEP_MIRRORING:
        return f"No go yet: {_why_not_yet(judgement)}; keep mirroring."
    where = _regressions(judgement) if judgement.regressed else _why_not_yet(judgement)
    if action is Action.FALLBACK:
        return f"No go: {where}; users stay with the baseline."
    allowed = "; ".join(describe(part) for part in judgement.allowed[:_SHOWN]) or "nothing"
    return f"Go in part: {where}; the candidate may answer {allowed}."


def what_would_change_it(judgement: Judgement) -> list[str]:
    """Return what would lead to another decision, most important first."""
    found = [f"the books: {problem}" for problem in judgement.books_problems]
    found += [f"a candidate without this: {cell_text(cell)}" for cell in _plainest(judgement)[:_SHOWN]]
    found += _without_data(judgement)
    for gain, cell, shown in judgement.gains:
        if not shown:
            seen = "no data" if cell is None else change_text(cell)
            found.append(f"a gain of {gain.at_least:.0%} in {gain.measure} that is shown (so far {seen})")
    nowhere = _measured_nowhere(judgement)
    waiting = [cell for cell in judgement.undecided if cell.measure.name not in nowhere]
    slowest = max(waiting, key=lambda cell: cell.evidence.pairs_needed or 0, default=None)
    if slowest is not None and slowest.evidence.pairs_needed is not None:
        text = f"about {slowest.evidence.pairs_needed} more {slowest.unit} on {slowest.name} for {slowest.measure.name}"
        found.append(f"{text}, if the candidate is as good as the baseline there")
    return found


def _without_data(judgement: Judgement) -> list[str]:
    """Return what no number of further pairs brings: what nobody measures, and parts of which nothing comes."""
    if not len(judgement.comparison.frame):
        return []
    nowhere = _measured_nowhere(judgement)
    by_part: dict[str, list[str]] = {}
    for cell in judgement.undecided:
        if not cell.evidence.pairs and cell.measure.name not in nowhere:
            by_part.setdefault(cell.name, []).append(cell.measure.name)
    found = [f"data for {name}, which no pair has{why}" for name, why in nowhere.items()]
    found += [f"data for {', '.join(names)} on {part}" for part, names in by_part.items()]
    left = len(found) - _SHOWN
    return [*found[:_SHOWN], *([f"data that {left} more measures or parts lack"] if left > 0 else [])]


def _measured_nowhere(judgement: Judgement) -> dict[str, str]:
    """Return the guarded measures that no pair has, with the question to ask where they are an evaluator's."""
    cells = [cell for cell in judgement.comparison.cells if cell.margin is not None]
    somewhere = {cell.measure.name for cell in cells if cell.evidence.pairs}
    return {
        cell.measure.name: ": is it scored in both arms, and under this name?" if ":" in cell.measure.column else ""
        for cell in cells
        if cell.measure.name not in somewhere
    }


def _plainest(judgement: Judgement) -> list[Cell]:
    # A part of a route that is all of a slice says the same twice.
    return [cell for cell in judgement.regressed if len(cell.scope) <= 1] or judgement.regressed


def _regressions(judgement: Judgement) -> str:
    shown = [cell_text(cell) for cell in _plainest(judgement)[:1]]
    more = len(judgement.regressed) - len(shown)
    return "; ".join(shown) + (f", and {more} more" if more > 0 else "")


def _why_not_yet(judgement: Judgement) -> str:
    if not len(judgement.comparison.frame):
        return "there is not one clean pair, and no data is never a pass"
    if judgement.books_problems:
        return "the books do not allow it: " + ", ".join(judgement.books_problems)
    if judgement.regressed:
        return _regressions(judgement)
    if judgement.undecided:
        cells = judgement.undecided
        nowhere = _measured_nowhere(judgement)

        def urgency(cell: Cell) -> tuple[bool, bool, int]:
            return cell.measure.name in nowhere, not cell.evidence.pairs, cell.evidence.pairs_needed or 0

        first = max(cells, key=urgency)
        lack = "1 cell lacks" if len(cells) == 1 else f"{len(cells)} cells lack"
        return f"{lack} evidence, first of all {first.measure.name} on {first.name}"
    missing = [gain for gain, _, shown in judgement.gains if not shown]
    if missing:
        return f"a gain of {missing[0].at_least:.0%} in {missing[0].measure} is not shown"
    return "the policy's rules do not promote"


def _gains(judgement: Judgement) -> str:
    shown = [f"{gain.measure} {change_text(cell)}" for gain, cell, _ in judgement.gains if cell is not None]
    return f", with {', '.join(shown)}" if shown else ""
