"""How much answers differ: volume, which has no direction. It is shown and never decides.

A sampled answer differs from itself when it is asked for twice. Where the baseline answered requests again (the arm
``baseline_repeat``), as much as that is chance, and is subtracted.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from traceai_vllm.release.columns import REPEAT
from traceai_vllm.release.pairs import pairs_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from traceai_vllm.release.pairs import Pairs
    from traceai_vllm.release.policy import Policy


@dataclass(frozen=True)
class Share:
    """A share of pairs, and the same share between the baseline and its own repeats.

    Attributes:
        pairs: pairs of baseline and candidate in which it is known.
        count: how many of them it holds for.
        repeats: pairs of the baseline with itself in which it is known.
        repeats_count: how many of those it holds for.
    """

    pairs: int
    count: int
    repeats: int
    repeats_count: int

    @property
    def share(self) -> float | None:
        """The share; None without pairs."""
        return self.count / self.pairs if self.pairs else None

    @property
    def by_chance(self) -> float | None:
        """The share among repeats; None where the baseline was not repeated."""
        return self.repeats_count / self.repeats if self.repeats else None

    @property
    def beyond_chance(self) -> float | None:
        """The share without what is chance; None where either is not known."""
        if self.share is None or self.by_chance is None:
            return None
        return max(0.0, self.share - self.by_chance)


@dataclass(frozen=True)
class Volume:
    """How much the two answers to a question differ.

    Attributes:
        different: answers that are not the same.
        flips: by evaluator, pairs in which exactly one of the two answers fails.
        first_divergence: words (tokens, where their logprobs were kept) that the two have in common before the first
            that differs, the median of answers that differ; None where it is not known.
        top1_agreement: share of the tokens up to there for which both models have the same first choice; the mean of
            the answers with logprobs.
        kl_divergence: divergence of the candidate's next token from the baseline's up to there, in nats, from below.
        with_logprobs: answers for which the last two are known.
    """

    different: Share
    flips: dict[str, Share]
    first_divergence: float | None
    top1_agreement: float | None
    kl_divergence: float | None
    with_logprobs: int


def volume_of(pairs: Pairs, answers: Any, evaluators: Sequence[str], policy: Policy, repeats: int) -> Volume:
    """Count how much answers differ.

    Args:
        pairs: baseline and candidate.
        answers: the answers of all arms.
        evaluators: whose verdicts ``answers`` has.
        policy: as for the pairs.
        repeats: how many answers of the arm ``baseline_repeat`` there are.
    """
    seen = _counted(pairs.clean, evaluators)
    again = _counted(_whole_repeats(answers, evaluators, policy), evaluators) if repeats else {}

    def share(what: str) -> Share:
        known, found = f"{what} known", f"{what} found"
        return Share(*(int(counts.get(name) or 0) for counts in (seen, again) for name in (known, found)))

    return Volume(
        different=share("different"),
        flips={name: share(f"flip {name}") for name in evaluators},
        first_divergence=seen["first_divergence"],
        top1_agreement=seen["top1_agreement"],
        kl_divergence=seen["kl_divergence"],
        with_logprobs=int(seen["with_logprobs"] or 0),
    )


def _whole_repeats(answers: Any, evaluators: Sequence[str], policy: Policy) -> Any:
    # Of an answer that broke off, what there is was scored: half an answer that fails is no chance of the whole one's.
    repeats = pairs_of(answers, ["error", *(f"{name}:fail" for name in evaluators)], policy, REPEAT).clean
    return repeats.filter(~repeats["b:error"], ~repeats["c:error"])


def _counted(pairs: Any, evaluators: Sequence[str]) -> dict[str, Any]:
    wanted = {
        "different known": pairs.same_answer.count(),
        "different found": (~pairs.same_answer).sum(),
        "first_divergence": pairs.first_divergence.cast("float64").median(),
        "top1_agreement": pairs.top1_agreement.mean(),
        "kl_divergence": pairs.kl_divergence.mean(),
        "with_logprobs": pairs.top1_agreement.count(),
    }
    for name in evaluators:
        flipped = pairs[f"b:{name}:fail"] != pairs[f"c:{name}:fail"]
        wanted |= {f"flip {name} known": flipped.count(), f"flip {name} found": flipped.sum()}
    row: dict[str, Any] = pairs.aggregate(**wanted).to_pyarrow().to_pylist()[0]
    return row
