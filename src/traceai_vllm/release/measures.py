"""What is measured of an answer, and how it is called in policies and reports."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

RATE: Final = "rate"
SCORE: Final = "score"
QUANTILE: Final = "quantile"
RATIO: Final = "ratio"


@dataclass(frozen=True)
class Measure:
    """One measure.

    Attributes:
        name: what policies and reports call it.
        kind: ``rate``: share of answers that are bad; ``score``: mean, higher is better; ``quantile``: of a time, lower
            is better; ``ratio``: mean, lower is better, compared as a share of the baseline's.
        column: which value of an answer it is made from.
        quantile: which quantile, from 0 to 1; None for the other kinds.
        unit: ``share``, ``score``, ``s``, ``tokens`` or ``USD``.
        meaning: one sentence for a reader.
    """

    name: str
    kind: str
    column: str
    unit: str
    meaning: str
    quantile: float | None = None


def _times() -> dict[str, Measure]:
    made = {}
    for name, column, meaning in (
        ("time_to_first_token", "ttft_s", "time to the first token"),
        ("latency", "latency_s", "time to the end of the answer"),
        ("inter_token", "inter_token_s", "mean time between two tokens of an answer"),
    ):
        for percent in (50, 95, 99):
            title = f"{name}.p{percent}"
            text = f"{percent} % of the answers have a shorter {meaning}"
            made[title] = Measure(title, QUANTILE, column, "s", text, percent / 100)
    return made


QUANTILES: Final = _times()
FEEDBACK: Final = ("thumbs_down", "correction", "escalation", "abandoned")
OPERATIONS: Final[dict[str, Measure]] = {
    **{
        measure.name: measure
        for measure in (
            Measure("errors", RATE, "error", "share", "answers that ended in an error"),
            Measure("timeouts", RATE, "timeout", "share", "answers that ended in a time-out"),
            Measure("output_tokens", RATIO, "output_tokens", "tokens", "length of the answer"),
            Measure("cost", RATIO, "cost_usd", "USD", "token cost of a request"),
        )
    },
    **{name: Measure(name, RATE, name, "share", f"answers with the feedback {name}") for name in FEEDBACK},
    **QUANTILES,
}


def evaluator_measures(evaluators: tuple[str, ...]) -> dict[str, Measure]:
    """Return the measures of evaluators: their fail rate under their own name, and the mean score."""
    made = {}
    for name in evaluators:
        made[name] = Measure(name, RATE, f"{name}:fail", "share", f"answers that fail {name}")
        score = f"{name}.score"
        made[score] = Measure(score, SCORE, f"{name}:score", "score", f"mean score of {name}")
    return made
