"""Writes the results as Markdown."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from benchmarks.evals import figures
from traceai_vllm.evals import Groundedness
from traceai_vllm.evals.grounding.checker import packaged_weights

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from benchmarks.evals.sets import LabelledSet

#: AUROC to reach on answers that nothing was tuned on; the sets here stand in for those.
TARGETS = {
    "groundedness_ragtruth": 0.83,
    "groundedness_numswap": 0.99,
    "groundedness_numswap_incontext": 0.90,
    "groundedness_wice": 0.85,
}
_FEW = 5  # with fewer answers of a kind a figure says nothing


def render(parts: Mapping[str, Any], facts: Mapping[str, str]) -> str:
    """Return the page."""
    lines = [
        "# How right the evaluators are",
        "",
        "Written by `make bench-evals`. " + "; ".join(f"{k}: {v}" for k, v in facts.items()) + ".",
        "",
    ]
    lines += _agreement(parts)
    if "E3" in parts:
        lines += _groundedness(parts["E3"])
    lines += _time(parts["E4"])
    return "\n".join(lines) + "\n"


def _agreement(parts: Mapping[str, Any]) -> Iterable[str]:
    yield from ("## JSONValidation and ToolSelectionAccuracy: agreement with the official checkers", "")
    yield from ("| what | cases | agreement | target |", "|---|---|---|---|")
    for draft, (agree, total) in parts["E1"].items():
        yield f"| JSON Schema Test Suite, {draft}, required tests | {total:,} | {_percent(agree / total)} | 100 % |"
    if "E2" not in parts:
        yield "| BFCL | - | not measured: bfcl-eval could not be installed | ≥ 99.5 % |"
    for title, key in (
        ("BFCL, answers made from its own", "own"),
        ("BFCL", "irrelevance"),
        ("labelled calls", "given"),
    ):
        found = parts.get("E2", {}).get(key, {})
        for name, counts in found.get("sets", found).items():
            yield f"| {title}: {name} | {counts['n']:,} | {_percent(counts['agreement'])} | ≥ 99.5 % |"
    yield ""


def _groundedness(sets: list[LabelledSet]) -> Iterable[str]:
    threshold = Groundedness().threshold
    yield from ("## Groundedness and HallucinationScore, embedded", "")
    yield (
        f"Weights version {packaged_weights()['version']}. AUROC and F1 of finding unsupported answers, with 95 % "
        f"intervals (bootstrap over contexts, {figures.RESAMPLES:,} resamples); F1 of calling unsupported what scores "
        f"below the default threshold of {threshold}. A set that the weights were learned from is marked "
        "*cross-validated*: each of its answers was scored by weights learned without its context. Features and "
        "thresholds were chosen on these sets too: figures on new data may be lower. *lexical* is the mean share of "
        "the answer's words, numbers and names that the context has."
    )
    for one in sets:
        yield from _set(one, threshold)
    yield from _models(sets)


def _set(one: LabelledSet, threshold: float) -> Iterable[str]:
    bad = sum(row["label_hallucinated"] for row in one.rows)
    how = "cross-validated" if one.seen else "packaged weights, not learned from it"
    target = f"; target for Groundedness' AUROC: {TARGETS[one.name]}" if one.name in TARGETS else ""
    yield from ("", f"### {one.name}", "", f"{len(one.rows):,} answers, {bad:,} unsupported; ours {how}{target}.", "")
    yield from ("| score | AUROC | F1 at the threshold |", "|---|---|---|")
    groups = [str(row.get("source_id") or row["context"]) for row in one.rows]
    labels = [bool(row["label_hallucinated"]) for row in one.rows]
    for name, scores in one.scores.items():
        found = figures.table(labels, scores, threshold, groups)
        missing = f" ({found['missing']} without a score)" if found["missing"] else ""
        f1 = "-" if name in ("length only", "lexical") else _interval(found["f1"])
        yield f"| {name}{missing} | {_interval(found['auroc'])} | {f1} |"


def _models(sets: list[LabelledSet]) -> Iterable[str]:
    """By generating model: between models a score may live on who wrote the answer and not on what it says."""
    for one in sets:
        models = sorted({row["model"] for row in one.rows if row.get("model")})
        if not models:
            continue
        arms = list(one.scores)
        yield from ("", f"### {one.name} within one generating model, AUROC", "")
        yield f"| model | answers, unsupported | {' | '.join(arms)} |"
        yield "|---" * (2 + len(arms)) + "|"
        for model in models:
            chosen = [place for place, row in enumerate(one.rows) if row.get("model") == model]
            labels = [bool(one.rows[place]["label_hallucinated"]) for place in chosen]
            cells = " | ".join(_within(one, arm, chosen, labels) for arm in arms)
            yield f"| {model} | {len(labels)}, {sum(labels)} | {cells} |"


def _within(one: LabelledSet, arm: str, chosen: list[int], labels: list[bool]) -> str:
    if min(sum(labels), len(labels) - sum(labels)) < _FEW:
        return "too few"
    groups = [str(place) for place in chosen]
    return _interval(figures.table(labels, [one.scores[arm][place] for place in chosen], 0.5, groups)["auroc"])


def _time(found: Mapping[str, Mapping[str, float]]) -> Iterable[str]:
    yield from ("", "## Time of one evaluation", "")
    yield "A context of about 1,000 tokens and an answer of about 150, one thread; target: at most 5 ms."
    yield from ("", "| texts | least, CPU | median, CPU | median, clock |", "|---|---|---|---|")
    for title, each in found.items():
        yield f"| {title} | {each['cpu_least']:.2f} ms | {each['cpu_median']:.2f} ms | {each['wall_median']:.2f} ms |"


def _interval(found: tuple[float, float, float]) -> str:
    value, low, high = found
    return f"{value:.3f} ({low:.3f} to {high:.3f})"


def _percent(share: float) -> str:
    return f"{100 * share:.2f} %".replace("100.00", "100")
