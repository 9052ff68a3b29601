"""From answers to pairs: both answers to the same question side by side; pairs that are not clean are set apart."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from traceai_vllm.release.columns import ATTRIBUTES, BASELINE, CANDIDATE, DIVERGENCE, SAMPLING, or_else
from traceai_vllm.release.frame import measurable
from traceai_vllm.release.keeping import forget, kept, only_row

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from traceai_vllm.release.policy import Policy

# Why a pair is not clean, in the order in which it is looked for.
PROMPT_DIFFERS = "prompt"
VERSION_DIFFERS = "prompt_version"
SAMPLING_DIFFERS = "sampling"
EXCLUSIONS = (PROMPT_DIFFERS, VERSION_DIFFERS, SAMPLING_DIFFERS)
# What a pair has only once.
SHARED = ("route", "intent", "prompt_version", "traffic_cohort", "agent_step", "slices", "session")


# What tells single answers apart, and no statistic asks for: half of the memory that pairs take.
_SINGLE = ("agent_step", "session", *(f"{side}:{name}" for side in "bc" for name in ("trace_id", "span_id")))


@dataclass(frozen=True)
class Pairs:
    """Questions with their answers in two arms, as Ibis tables.

    Attributes:
        every: every question: ``pair_id``, ``missing`` (the arm without an answer; null when both have one),
            ``excluded`` (why a pair is not clean; null when it is), ``dropped``, what both share, ``prompt_tokens``,
            ``bucket``, ``cluster``, ``arrived_ns`` (when both answers were there), ``known_ns`` (and late scores of
            them), and ``b:NAME`` and ``c:NAME`` for each measure.
        repeated: how many answers came again; the first counts.
        table: the table of :func:`~traceai_vllm.release.keeping.kept` below ``every``; None where it is none.
    """

    every: Any
    repeated: int = 0
    table: Any = None

    @property
    def all(self) -> Any:
        """Those with both answers."""
        return self.every.filter(self.every.missing.isnull())

    def forget(self) -> None:
        """Give back the memory of the table; these pairs cannot be asked any more."""
        if self.table is not None:
            forget(self.table)

    @property
    def clean(self) -> Any:
        """Those that count."""
        return self.every.filter(self.every.missing.isnull(), self.every.excluded.isnull(), ~self.every.dropped)


def kept_pairs(answers: Any, weighed: Sequence[str], others: Sequence[str], policy: Policy) -> tuple[Pairs, Pairs]:
    """Join the answers of baseline and candidate, once.

    Args:
        answers: as for :func:`pairs_of`.
        weighed: columns of ``answers`` that statistics ask for.
        others: columns that are put side by side for single answers alone.
        policy: as for :func:`pairs_of`.

    Returns:
        The pairs in a table of their own, with what statistics ask for; and all that is known of them, which is joined
        again when it is asked for.
    """
    measured = sorted({*weighed, *others})
    single = {*_SINGLE, *(f"{side}:{name}" for side in "bc" for name in measured if name not in weighed)}
    given = only_row(answers.aggregate(**{arm: (answers.arm == arm).sum() for arm in (BASELINE, CANDIDATE)}))
    answered = sum(int(count or 0) for count in given.values())
    # Requests that were sent again are rare, and looking for them takes as long as the join: its rows tell of them.
    baseline, candidate = (answers.filter(answers.arm == arm) for arm in (BASELINE, CANDIDATE))
    every = _kept(baseline, candidate, weighed, single, policy)
    counts = _counts(every)
    if not _adds_up(counts, given):
        forget(every)
        baseline, candidate = (first_answers(answers, arm) for arm in (BASELINE, CANDIDATE))
        every = _kept(baseline, candidate, weighed, single, policy)
        counts = _counts(every)
    repeated = answered - 2 * counts["both"] - counts[BASELINE] - counts[CANDIDATE]
    whole = _joined(baseline, candidate, measured, policy)
    return Pairs(_complete(every), repeated, every), Pairs(_complete(whole), repeated)


def _kept(baseline: Any, candidate: Any, weighed: Sequence[str], single: Collection[str], policy: Policy) -> Any:
    """Join, and keep what statistics ask for, in the precision that they take it in."""
    joined = _joined(_single_precision(baseline, weighed), _single_precision(candidate, weighed), weighed, policy)
    return kept(joined.drop(*(name for name in joined.columns if name in single)), "pairs")


def _single_precision(answers: Any, names: Sequence[str]) -> Any:
    floats = [name for name in names if answers[name].type().is_floating()]
    return answers.mutate(**{name: measurable(answers[name]).cast("float32") for name in floats})


def _counts(every: Any) -> dict[str, int]:
    both = every.filter(every.missing.isnull()).count().to_pyarrow().as_py()
    # Those with one answer are few: counted by themselves, as telling questions apart takes memory for each row.
    single = every.filter(every.missing.notnull())
    wanted: dict[str, Any] = {}
    for arm, other in ((BASELINE, CANDIDATE), (CANDIDATE, BASELINE)):
        alone = single.missing == other
        wanted |= {arm: alone.sum(), f"{arm} questions": single.pair_id.nunique(where=alone)}
    return {
        "both": int(both),
        **{name: int(count or 0) for name, count in only_row(single.aggregate(**wanted)).items()},
    }


def _adds_up(counts: dict[str, int], given: dict[str, int]) -> bool:
    # An answer is in one row: more rows, or fewer questions than rows, come from answers that came twice.
    return all(
        counts["both"] + counts[arm] == int(given[arm] or 0) and counts[arm] == counts[f"{arm} questions"]
        for arm in (BASELINE, CANDIDATE)
    )


def first_answers(answers: Any, arm: str) -> Any:
    """Return the first answer of each pair in an arm; a request that was sent again has several."""
    import ibis

    of_arm = answers.filter(answers.arm == arm)
    again = kept(of_arm.group_by("pair_id").having(of_arm.count() > 1).aggregate(times=of_arm.count()), "again")
    if again.count().to_pyarrow().as_py() == 0:
        return of_arm
    several = of_arm.semi_join(again, "pair_id")
    # One span may have come twice, as one exporter sends it with scores and another without: what has a value counts.
    others = [several[name] for name in several.columns if not several[name].type().is_array()]
    window = ibis.window(group_by="pair_id", order_by=[several.start_ns, several.span_id, *others])
    numbered = several.mutate(place=ibis.row_number().over(window))
    return of_arm.anti_join(again, "pair_id").union(numbered.filter(numbered.place == 0).drop("place"))


def pairs_of(answers: Any, measured: Sequence[str], policy: Policy, other: str = CANDIDATE) -> Pairs:
    """Join the answers of two arms.

    Args:
        answers: an Ibis table of :func:`~traceai_vllm.release.answers.answers_of`.
        measured: columns of ``answers`` to put side by side.
        policy: the lengths where buckets end, and what a cluster is.
        other: the arm that is compared with the baseline; ``baseline_repeat`` for the noise floor.
    """
    joined = _joined(first_answers(answers, BASELINE), first_answers(answers, other), measured, policy)
    return Pairs(_complete(joined))


def _joined(baseline: Any, candidate: Any, measured: Sequence[str], policy: Policy) -> Any:
    import ibis

    answered = set(baseline.columns)
    left, right = _side(baseline, "b:", measured), _side(candidate, "c:", measured)
    joined = left.outer_join(right, left["b:pair_id"] == right["c:pair_id"])
    one_arm = ibis.cases((joined["b:pair_id"].isnull(), BASELINE), (joined["c:pair_id"].isnull(), CANDIDATE))
    columns = {name: or_else(joined["b:" + name], joined["c:" + name]) for name in SHARED if name in answered}
    unit = columns["session"].fill_null(joined["b:trace_id"]) if "session" in answered else joined["b:trace_id"]
    tokens = joined["b:input_tokens"].fill_null(joined["c:input_tokens"])
    pair_id = joined["b:pair_id"].fill_null(joined["c:pair_id"])
    # A pair is evidence from the moment when both of its answers, and late scores of them, are there.
    times = {"arrived_ns": "end_ns", "known_ns": "known_ns"}
    dropped = (joined["c:outcome"] == "dropped").fill_null(False) if "outcome" in answered else ibis.literal(False)
    return joined.select(
        pair_id=pair_id,
        missing=one_arm,
        **columns,
        excluded=_exclusion(joined),
        dropped=dropped,
        **{name: joined["c:" + name] for name in ("drop_reason", *DIVERGENCE) if name in answered},
        prompt_tokens=tokens,
        bucket=bucket_of(tokens, policy.prompt_token_buckets),
        cluster=pair_id if policy.evidence.cluster == "pair" else unit,
        **{name: _later(joined["b:" + of], joined["c:" + of]) for name, of in times.items() if of in answered},
        apart_ns=joined["c:start_ns"] - joined["b:start_ns"],
        **{
            side + name: joined[side + name]
            for side in ("b:", "c:")
            for name in ("trace_id", "span_id", "model_variant", "quantization_format", *measured)
        },
    )


def bucket_of(tokens: Any, edges: Sequence[int]) -> Any:
    """Return the number of the bucket that a prompt of so many tokens is in; null when that is not known."""
    import ibis

    bucket = ibis.literal(0).cast("int8")
    for edge in edges:
        bucket = bucket + (tokens > edge).cast("int8")
    return bucket


def _side(answers: Any, prefix: str, measured: Sequence[str]) -> Any:
    needed = {"pair_id", "trace_id", "span_id", "start_ns", "end_ns", "known_ns", "outcome", "drop_reason", *DIVERGENCE}
    needed |= {"prompt_hash", "differing_fields", "model_variant", "quantization_format", "input_tokens"}
    needed |= {*SHARED, *SAMPLING, *measured}
    columns = {prefix + name: answers[name] for name in sorted(needed) if name in answers.columns}
    return answers.select(**columns)


def _complete(every: Any) -> Any:
    """Add the columns that no answer had a value of."""
    import ibis

    kinds = {column.name: "array<string>" if column.kind == "list" else column.kind for column in ATTRIBUTES}
    wanted = (*SHARED, "drop_reason", *DIVERGENCE)
    lacking = {name: ibis.null(kinds[name]) for name in wanted if name not in every.columns}
    known = {} if "known_ns" in every.columns else {"known_ns": every.arrived_ns}
    return every.mutate(**lacking, **known)


def _later(one: Any, other: Any) -> Any:
    import ibis

    return ibis.greatest(one, other)


def _exclusion(joined: Any) -> Any:
    import ibis

    reason = ibis.null("string")
    sampling = ibis.or_(*(_differs(joined, name) for name in SAMPLING))
    prompt = _differs(joined, "prompt_hash")
    if "c:differing_fields" in joined.columns:
        prompt = prompt | (joined["c:differing_fields"].length() > 0).fill_null(False)
    for differs, name in (
        (sampling, SAMPLING_DIFFERS),
        (_differs(joined, "prompt_version"), VERSION_DIFFERS),
        (prompt, PROMPT_DIFFERS),
    ):
        reason = differs.ifelse(name, reason)
    return reason


def _differs(joined: Any, name: str) -> Any:
    import ibis

    # Only where both say it: a plain server's span may lack what the gateway's has.
    if f"b:{name}" not in joined.columns:
        return ibis.literal(False)
    return (joined["b:" + name] != joined["c:" + name]).fill_null(False)
