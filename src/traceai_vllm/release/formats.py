"""A decision in the forms that people and pipelines read."""

from __future__ import annotations

import json
import math
import xml.etree.ElementTree as ET
from typing import TYPE_CHECKING, Any

from traceai_vllm.gateway.decision import Action
from traceai_vllm.release.cells import NOT_ENOUGH, REGRESSED
from traceai_vllm.release.resources import gpu_memory
from traceai_vllm.release.wording import cell_text, printable, verdict_sentence, what_would_change_it

if TYPE_CHECKING:
    from collections.abc import Callable

    from traceai_vllm.gateway.decision import Decision
    from traceai_vllm.release.cells import Cell
    from traceai_vllm.release.deciding import Judgement
    from traceai_vllm.release.volume import Share, Volume


def as_text(judgement: Judgement, decision: Decision) -> str:
    """Return the decision for a person."""
    lines = [verdict_sentence(judgement), f"action: {decision.action.value}", f"policy: {decision.policy_hash}"]
    lines += [f"  {name}: {route.action.value}: {route.reason}" for name, route in sorted(decision.routes.items())]
    changes = what_would_change_it(judgement)
    lines += ["what would change it:", *(f"  {change}" for change in changes)] if changes else []
    return "\n".join(map(printable, lines))


def as_json(judgement: Judgement, decision: Decision) -> str:
    """Return the decision with all that it rests on."""
    comparison = judgement.comparison
    content = {
        "verdict": verdict_sentence(judgement),
        "decision": decision.model_dump(mode="json", exclude_none=True),
        "what_would_change_it": what_would_change_it(judgement),
        "variants": comparison.variants,
        "books": _books(judgement),
        "volume": _volume(comparison.volume),
        "cost_per_trace": comparison.cost_per_trace,
        "gpu_memory_gib": {arm: gpu_memory(comparison, arm) for arm in ("baseline", "candidate")},
        "gains": [
            {"measure": gain.measure, "at_least": gain.at_least, "shown": shown} for gain, _, shown in judgement.gains
        ],
        "cells": [_cell(cell) for cell in comparison.cells],
        "problems": list(comparison.problems),
    }
    return json.dumps(content, indent=2, sort_keys=True, allow_nan=False)


def as_junit(judgement: Judgement, decision: Decision) -> str:
    """Return the decision as JUnit XML: a test case for each guarded cell; without evidence it is skipped."""
    cells = [cell for cell in judgement.comparison.cells if cell.margin is not None]
    suite = ET.Element("testsuite", name="traceai-vllm gate")
    verdict = ET.SubElement(suite, "testcase", classname="decision", name=_xml(judgement.comparison.policy.name))
    if decision.action is not Action.PROMOTE:
        ET.SubElement(verdict, "failure", message=_xml(verdict_sentence(judgement)), type=decision.action.value)
    for cell in cells:
        case = ET.SubElement(suite, "testcase", classname=_xml(cell.name), name=_xml(cell.measure.name))
        if cell.verdict == REGRESSED:
            ET.SubElement(case, "failure", message=_xml(cell_text(cell)), type=REGRESSED)
        elif cell.verdict == NOT_ENOUGH:
            needed = cell.evidence.pairs_needed
            more = "" if needed is None else f"; about {needed} more {cell.unit} are needed"
            seen = f"{cell.evidence.pairs} {cell.unit}"
            ET.SubElement(case, "skipped", message=_xml(f"not enough evidence in {seen}{more}"))
    suite.set("tests", str(len(cells) + 1))
    suite.set("failures", str(len(suite.findall("./testcase/failure"))))
    suite.set("skipped", str(len(suite.findall("./testcase/skipped"))))
    ET.indent(suite)
    return ET.tostring(suite, encoding="unicode", xml_declaration=True)


def as_github(judgement: Judgement, decision: Decision) -> str:
    """Return the decision as annotations of a GitHub workflow."""
    level = "notice" if decision.action is Action.PROMOTE else "error"
    lines = [_annotation(level, f"release decision: {decision.action.value}", verdict_sentence(judgement))]
    lines += [_annotation("error", f"regressed: {cell.measure.name}", cell_text(cell)) for cell in judgement.regressed]
    lines += [_annotation("warning", "the books", problem) for problem in judgement.books_problems]
    return "\n".join(lines)


FORMATS: dict[str, Callable[[Judgement, Decision], str]] = {
    "text": as_text,
    "json": as_json,
    "junit": as_junit,
    "github": as_github,
}


def _books(judgement: Judgement) -> dict[str, Any]:
    books = judgement.comparison.books
    return {
        "sampled": books.sampled,
        "clean_pairs": books.clean,
        "unpaired": books.unpaired,
        "unpaired_by_length": [
            {
                "over_tokens": tenth.first,
                "up_to_tokens": tenth.last,
                "sampled": tenth.sampled,
                "unpaired": tenth.unpaired,
            }
            for tenth in books.deciles
        ],
        "excluded": books.excluded,
        "untagged": books.untagged,
        "answers": books.answers,
        "repeated_answers": books.repeated,
        "feedback": books.feedback,
        "arms_a_minute_apart": books.apart,
        "unknown_prompt_length": books.unknown_length,
        "end_before_start": books.backwards,
        "baseline_repeats": books.repeats,
        "unscored": {
            name: {"only_candidate": one, "only_baseline": other, "both": both}
            for name, (one, other, both) in books.unscored.items()
        },
        "over_limit": judgement.books_problems,
    }


def _volume(volume: Volume) -> dict[str, Any]:
    return {
        "different_answers": _share(volume.different),
        "flips": {name: _share(share) for name, share in volume.flips.items()},
        "first_divergence": volume.first_divergence,
        "top1_agreement": volume.top1_agreement,
        "kl_divergence": volume.kl_divergence,
        "with_logprobs": volume.with_logprobs,
    }


def _share(share: Share) -> dict[str, Any]:
    return {
        "pairs": share.pairs,
        "share": share.share,
        "repeats": share.repeats,
        "by_chance": share.by_chance,
        "beyond_chance": share.beyond_chance,
    }


def _cell(cell: Cell) -> dict[str, Any]:
    evidence = cell.evidence
    return {
        "scope": dict(cell.scope),
        "measure": cell.measure.name,
        "guarded": cell.margin is not None,
        "margin": cell.margin,
        "verdict": cell.verdict,
        "baseline": _number(cell.baseline),
        "candidate": _number(cell.candidate),
        "estimate": _number(evidence.estimate),
        "interval": [_number(evidence.low), _number(evidence.high)],
        "p_value": _number(evidence.p_value),
        "pairs": evidence.pairs,
        "unit": cell.unit,
        "clusters": evidence.clusters,
        "pairs_needed": evidence.pairs_needed,
        "worse": cell.worse,
        "better": cell.better,
        "method": evidence.method,
    }


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _xml(text: str) -> str:
    # XML 1.0 has no way to write these characters, and a route's name may have them.
    return "".join(character for character in text if character in "\t\n" or character.isprintable())


def _annotation(level: str, title: str, message: str) -> str:
    return f"::{level} title={_escaped(printable(title), ':,')}::{_escaped(printable(message))}"


def _escaped(text: str, also: str = "") -> str:
    for character in "%\r\n" + also:
        text = text.replace(character, f"%{ord(character):02X}")
    return text
