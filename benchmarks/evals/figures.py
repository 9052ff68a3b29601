"""AUROC and F1 with bootstrap intervals, and the time of one evaluation."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.stats import rankdata

from traceai_vllm.evals import Groundedness

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

RESAMPLES = 1000
SECONDS = 5.0


def table(
    bad: Sequence[bool], scores: Sequence[float | None], threshold: float, groups: Sequence[str]
) -> dict[str, Any]:
    """Return AUROC and F1 of finding what is unsupported, each with a 95 % interval.

    Args:
        bad: whether each answer is unsupported.
        scores: higher is better; an answer without a score counts as supported.
        threshold: below it an answer is called unsupported.
        groups: answers of one group (one context) are resampled together: they are not independent.
    """
    labels = np.array(bad)
    values = np.array([np.inf if score is None else score for score in scores])
    values[np.isinf(values)] = values[~np.isinf(values)].max(initial=1.0)
    members = [np.flatnonzero(np.array(groups) == group) for group in dict.fromkeys(groups)]
    random = np.random.default_rng(11)
    samples = [
        np.concatenate([members[i] for i in random.integers(0, len(members), len(members))]) for _ in range(RESAMPLES)
    ]
    return {
        "n": len(labels),
        "bad": int(labels.sum()),
        "missing": sum(score is None for score in scores),
        "auroc": _with_interval(labels, values, samples, auroc),
        "f1": _with_interval(labels, values, samples, lambda y, s: f1(y, s < threshold)),
    }


def _with_interval(
    labels: np.ndarray, values: np.ndarray, samples: list[np.ndarray], figure: Callable[..., float]
) -> tuple[float, float, float]:
    found = [figure(labels[sample], values[sample]) for sample in samples]
    low, high = np.nanpercentile(found, [2.5, 97.5])
    return figure(labels, values), float(low), float(high)


def auroc(bad: np.ndarray, scores: np.ndarray) -> float:
    """Return the chance that an unsupported answer scores below a supported one; ties count half (Mann-Whitney)."""
    count, others = int(bad.sum()), int((~bad).sum())
    if not count or not others:
        return float("nan")
    ranks = rankdata(-scores)
    return float((ranks[bad].sum() - count * (count + 1) / 2) / (count * others))


def f1(bad: np.ndarray, called: np.ndarray) -> float:
    """Return the harmonic mean of precision and recall."""
    total = float(bad.sum() + called.sum())
    return 2 * float((bad & called).sum()) / total if total else float("nan")


def milliseconds(context: str, response: str, seconds: float = SECONDS) -> dict[str, float]:
    """Return how long one evaluation takes on one core, in milliseconds of CPU and of the clock.

    The last few texts are kept read, so each evaluation gets a context that differs in the blanks at its end.
    """
    evaluator = Groundedness()
    cpu, wall = [], []
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        context = context + " " if len(cpu) % 100 else context.rstrip()
        started, used = time.perf_counter(), time.thread_time()
        evaluator.evaluate(response=response, context=context)
        cpu.append(1e3 * (time.thread_time() - used))
        wall.append(1e3 * (time.perf_counter() - started))
    return {
        "cpu_least": min(cpu),
        "cpu_median": float(np.median(cpu)),
        "wall_median": float(np.median(wall)),
    }


def sized_texts() -> dict[str, tuple[str, str]]:
    """Return contexts of about 1,000 tokens and answers of about 150: made-up terms of insurance plans.

    A token is taken for four characters of English, as is usual for byte-pair vocabularies.
    """
    kinds = ("dental", "vision", "maternity", "travel", "surgery", "therapy", "transport", "medication")
    prose = (
        "Claims must reach the office in {place}, with the bill of whoever gave the {kind} treatment, and are not paid "
        "twice. Members who move abroad keep their cover as long as they tell the insurer in writing. "
    )
    terms = "Plan {plan} covers {kind} claims after {days} days, up to ${sum} a year. "
    texts = {}
    for title, form in (("a number in one sentence of three", terms + prose), ("numbers in every sentence", terms)):
        lines = [
            form.format(
                plan=chr(65 + n % 26),
                kind=kinds[n % 8],
                days=30 + 7 * n,
                sum=1200 + 35 * n,
                place=("Lisbon", "Porto", "Braga")[n % 3],
            )
            for n in range(70)
        ]
        texts[title] = ("".join(lines)[:4000], "".join(lines[3::7])[:600].replace("covers", "pays for"))
    return texts
