"""The books of a comparison: what was sampled, what became pairs, and whether what is missing is missing at random."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from traceai_vllm.release.columns import BASELINE, CANDIDATE, REPEAT
from traceai_vllm.release.frame import PROMPT_TOKENS
from traceai_vllm.release.keeping import only_row

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from numpy.typing import NDArray

    from traceai_vllm.release.feedback import Feedback
    from traceai_vllm.release.frame import Frame
    from traceai_vllm.release.pairs import Pairs
    from traceai_vllm.release.policy import Limits, Policy

NO_CANDIDATE = "no answer of the candidate"
NO_BASELINE = "no answer of the baseline"
_APART_NS = 60_000_000_000


@dataclass(frozen=True)
class Decile:
    """A tenth of the baseline's prompts, by length.

    Attributes:
        first: prompts in it are longer than this many tokens; -1 for the first.
        last: and not longer than this many; None for the last.
        sampled: how many there are.
        unpaired: how many of them have no pair.
    """

    first: int
    last: int | None
    sampled: int
    unpaired: int

    @property
    def share(self) -> float:
        """Share without a pair."""
        return self.unpaired / self.sampled if self.sampled else 0.0


@dataclass(frozen=True)
class Books:
    """What a comparison rests on, and what it does not.

    Attributes:
        sampled: questions that went to both arms, or should have.
        clean: pairs that count.
        unpaired: why there is no pair, to how many.
        deciles: the same by length of the prompt.
        excluded: why pairs do not count (what differs between the arms), to how many.
        answers: answers of all arms.
        untagged: tag to how many answers lack it.
        repeated: answers that came twice in an arm; the first counts.
        apart: pairs whose arms began more than a minute apart: late copies, or clocks that differ.
        backwards: answers that end before they begin.
        repeats: questions that the baseline answered twice, for the noise floor.
        unscored: evaluator to how many pairs lack only the baseline's score, only the candidate's, or none.
        stray: evaluator to how many scores are not from 0 to 1, how many of them leave open what the policy guards, and
            how many scores and verdicts there are; without evaluators that have none.
        unknown_length: clean pairs whose prompt neither server counted, where the policy guards ``prompt_tokens``.
        mixed: the largest share of an arm's answers that are not of their route's most frequent variant, or number
            format.
        feedback: what users said in spans of its own: how often, how much of it came again and counts once, is about an
            answer that is not here, or came too late to count; empty where there is none.
    """

    sampled: int
    clean: int
    unpaired: dict[str, int]
    deciles: tuple[Decile, ...]
    excluded: dict[str, int]
    answers: int
    untagged: dict[str, int]
    repeated: int
    apart: int
    backwards: int
    repeats: int
    unscored: dict[str, tuple[int, int, int]] = field(default_factory=dict)
    stray: dict[str, tuple[int, int, int]] = field(default_factory=dict)
    unknown_length: int = 0
    mixed: float = 0.0
    feedback: dict[str, int] = field(default_factory=dict)

    @property
    def shares(self) -> dict[str, float]:
        """What the policy limits, as shares."""
        without = sum(self.unpaired.values())
        overall = without / self.sampled if self.sampled else 1.0
        highest = max((decile.share for decile in self.deciles), default=overall)
        pairs = self.clean + sum(self.excluded.values())
        lacking = [only_b / (both + only_b) for _, only_b, both in self.unscored.values() if both + only_b]
        # On another scale some scores are from 0 to 1 too: what is left of them shows nothing.
        lacking += [unjudged / scored for _, unjudged, scored in self.stray.values()]
        return {
            "unpaired": overall,
            "unpaired_by_length": max(0.0, highest - overall),
            "excluded": sum(self.excluded.values()) / pairs if pairs else 0.0,
            "untagged": max(self.untagged.values(), default=0) / self.answers if self.answers else 0.0,
            "unscored": max(lacking, default=0.0),
            "apart": self.apart / pairs if pairs else 0.0,
            "unknown_length": self.unknown_length / self.clean if self.clean else 0.0,
            "mixed": self.mixed,
        }

    @property
    def problems(self) -> list[str]:
        """What does not count of the answers, in words."""
        return [
            f"{name}: {count} scores are not from 0 to 1, and do not count" for name, (count, *_) in self.stray.items()
        ]

    def over_limit(self, limits: Limits) -> list[str]:
        """Return what is over its limit, in words."""
        if not self.sampled:
            return ["no question was sampled: no span has a traceai.pair.id, as those of the gateway and of replay do"]
        allowed = limits.model_dump()
        return [
            f"{name} {share:.1%} (limit {allowed[name]:.1%})"
            for name, share in self.shares.items()
            if share > allowed[name]
        ]


def books_of(answers: Any, pairs: Pairs, evaluators: Sequence[str] = (), feedback: Feedback | None = None) -> Books:
    """Make up the books, but for what is not known of pairs: :func:`with_unknown` adds that.

    Args:
        answers: an Ibis table of :func:`~traceai_vllm.release.answers.answers_of`.
        pairs: the pairs made of it.
        evaluators: names of the evaluators whose scores ``answers`` has.
        feedback: what users said in spans of its own.
    """
    totals = _totals(answers, evaluators)
    groups = _groups(pairs.every)
    unpaired = _counted(groups, _why_unpaired)
    both = [group for group in groups if group["missing"] is None]
    return Books(
        sampled=sum(group["questions"] for group in groups),
        clean=sum(group["questions"] for group in both if not group["dropped"] and group["excluded"] is None),
        unpaired=unpaired,
        deciles=_deciles(pairs.every),
        excluded=_counted(both, lambda group: None if group["dropped"] else group["excluded"]),
        answers=int(totals["answers"]),
        untagged={"route": int(totals["no_route"] or 0), "model_variant": int(totals["no_variant"] or 0)},
        repeated=pairs.repeated,
        apart=sum(int(group["apart"] or 0) for group in both),
        backwards=int(totals["backwards"] or 0),
        repeats=int(totals["repeats"] or 0),
        stray={name: counts for name in evaluators if (counts := _stray(totals, name))[0]},
        feedback={} if feedback is None else _feedback(feedback),
    )


def with_unknown(books: Books, frame: Frame, evaluators: Sequence[str], policy: Policy) -> Books:
    """Return the books with what is not known of clean pairs: scores, and the length of prompts.

    Args:
        books: of :func:`books_of`.
        frame: the clean pairs.
        evaluators: names of the evaluators whose scores ``frame`` has.
        policy: says whether answers that failed count as such, and whether lengths are guarded.
    """
    failed = np.zeros(len(frame), dtype=np.bool_)
    for measure, column in (("errors", "error"), ("timeouts", "timeout")):
        if measure in policy.measures:
            failed |= frame.values[f"c:{column}"] > 0
    unscored = {name: _unscored(frame, name, failed) for name in evaluators}
    # In vLLM's streams tokens are counted only where the caller asks for it (`stream_options.include_usage`).
    unknown = int((frame.codes[PROMPT_TOKENS] < 0).sum()) if PROMPT_TOKENS in policy.divisions else 0
    return replace(books, unscored=unscored, unknown_length=unknown)


def _feedback(feedback: Feedback) -> dict[str, int]:
    return {
        "given": feedback.given,
        "came again": feedback.repeated,
        "about no answer here": feedback.lost,
        "too late": feedback.late,
    }


def _groups(every: Any) -> list[dict[str, Any]]:
    grouped = every.group_by("missing", "dropped", "drop_reason", "excluded")
    apart = (every.apart_ns.abs() > _APART_NS).sum()
    rows: list[dict[str, Any]] = grouped.aggregate(questions=every.count(), apart=apart).to_pyarrow().to_pylist()
    return rows


def _why_unpaired(group: dict[str, Any]) -> str | None:
    if group["missing"] is not None:
        return NO_CANDIDATE if group["missing"] == CANDIDATE else NO_BASELINE
    return (group["drop_reason"] or "dropped") if group["dropped"] else None


def _counted(groups: Iterable[dict[str, Any]], why: Callable[[dict[str, Any]], str | None]) -> dict[str, int]:
    """Count questions by why, where there is a why; the most frequent first."""
    counts: Counter[str] = Counter()
    for group in groups:
        if (reason := why(group)) is not None:
            counts[reason] += group["questions"]
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def _stray(totals: dict[str, Any], name: str) -> tuple[int, int, int]:
    stray, unjudged, scored = (int(totals[f"{name}:{what}"] or 0) for what in ("stray", "unjudged", "scored"))
    return stray, unjudged, scored


def _totals(answers: Any, evaluators: Sequence[str]) -> dict[str, Any]:
    wanted = {
        f"{name}:{what}": answers[f"{name}:{what}"].sum() for name in evaluators for what in ("stray", "unjudged")
    }
    for name in evaluators:
        wanted[f"{name}:scored"] = (answers[f"{name}:stray"] | answers[f"{name}:fail"].notnull()).sum()
    return only_row(
        answers.aggregate(
            answers=answers.count(),
            no_route=answers.route.isnull().sum(),
            no_variant=answers.model_variant.isnull().sum(),
            backwards=(answers.end_ns < answers.start_ns).sum(),
            repeats=(answers.arm == REPEAT).sum(),
            **wanted,
        )
    )


def _deciles(every: Any) -> tuple[Decile, ...]:
    asked = every.filter((every.missing != BASELINE).fill_null(True), every.prompt_tokens.notnull())
    alone = (asked.missing.notnull() | asked.dropped).cast("int8")  # ClickHouse has numbers for these
    table = asked.select(tokens=asked.prompt_tokens, alone=alone).to_pyarrow()
    tokens, unpaired = table["tokens"].to_numpy(), table["alone"].to_numpy() > 0
    if not len(tokens):
        return ()
    inner = np.unique(np.quantile(tokens, np.arange(1, 10) / 10).astype(np.int64))
    place = np.searchsorted(inner, tokens)
    sampled, missing = (np.bincount(rows, minlength=len(inner) + 1) for rows in (place, place[unpaired]))
    bounds = [-1, *map(int, inner)]
    return tuple(
        Decile(first, bounds[number + 1] if number < len(inner) else None, int(sampled[number]), int(missing[number]))
        for number, first in enumerate(bounds)
    )


def _unscored(frame: Frame, name: str, failed: NDArray[np.bool_]) -> tuple[int, int, int]:
    # An answer that failed has nothing to score: it is missing here unless it is guarded as a failure.
    one, other = (np.isnan(frame.values[f"{side}:{name}:fail"]) for side in ("b", "c"))
    return int((one & ~other).sum()), int((other & ~one & ~failed).sum()), int((~one & ~other).sum())
