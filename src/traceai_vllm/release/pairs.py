"""From answers to pairs: both answers to the same question side by side; pairs that are not clean are set apart."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from traceai_vllm.release.columns import BASELINE, CANDIDATE, SAMPLING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from traceai_vllm.release.policy import Policy

# Why a pair is not clean, in the order in which it is looked for.
PROMPT_DIFFERS = "prompt"
VERSION_DIFFERS = "prompt_version"
SAMPLING_DIFFERS = "sampling"
EXCLUSIONS = (PROMPT_DIFFERS, VERSION_DIFFERS, SAMPLING_DIFFERS)
# What a pair has only once.
SHARED = ("route", "intent", "prompt_version", "traffic_cohort", "agent_step", "slices", "session")


@dataclass(frozen=True)
class Pairs:
    """Pairs of answers, as Ibis tables.

    Attributes:
        all: every pair with both answers: ``pair_id``, ``excluded`` (why it is not clean; null when it is),
            ``dropped``, what both share, ``prompt_tokens``, ``bucket``, ``cluster``, ``arrived_ns``, and ``b:NAME`` and
            ``c:NAME`` for each measure.
    """

    all: Any

    @property
    def clean(self) -> Any:
        """Those that count."""
        return self.all.filter(self.all.excluded.isnull(), ~self.all.dropped)


def first_answers(answers: Any, arm: str) -> Any:
    """Return the first answer of each pair in an arm; a request that was sent again has several."""
    of_arm = answers.filter(answers.arm == arm)
    again = of_arm.group_by("pair_id").having(of_arm.count() > 1).aggregate(first=of_arm.start_ns.min())
    if again.count().to_pyarrow().as_py() == 0:
        return of_arm
    import ibis

    window = ibis.window(group_by="pair_id", order_by=[of_arm.start_ns, of_arm.span_id])
    numbered = of_arm.mutate(place=ibis.row_number().over(window))
    return numbered.filter(numbered.place == 0).drop("place")


def pairs_of(answers: Any, measured: Sequence[str], policy: Policy, other: str = CANDIDATE) -> Pairs:
    """Join the answers of two arms.

    Args:
        answers: an Ibis table of :func:`~traceai_vllm.release.answers.answers_of`.
        measured: columns of ``answers`` to put side by side.
        policy: the lengths where buckets end, and what a cluster is.
        other: the arm that is compared with the baseline; ``baseline_repeat`` for the noise floor.
    """
    left = _side(first_answers(answers, BASELINE), "b:", measured)
    right = _side(first_answers(answers, other), "c:", measured)
    joined = left.join(right, left["b:pair_id"] == right["c:pair_id"])
    columns = {name: joined["b:" + name].fill_null(joined["c:" + name]) for name in SHARED}
    tokens = joined["b:input_tokens"].fill_null(joined["c:input_tokens"])
    session = joined["b:session"].fill_null(joined["b:trace_id"])
    every = joined.select(
        pair_id=joined["b:pair_id"],
        **columns,
        excluded=_exclusion(joined),
        dropped=(joined["c:outcome"] == "dropped").fill_null(False),
        drop_reason=joined["c:drop_reason"],
        same_answer=joined["c:same_answer"],
        prompt_tokens=tokens,
        bucket=bucket_of(tokens, policy.prompt_token_buckets),
        cluster=joined["b:pair_id"] if policy.evidence.cluster == "pair" else session,
        # A pair is evidence from the moment when both of its answers are there.
        arrived_ns=_later(joined["b:end_ns"], joined["c:end_ns"]),
        apart_ns=joined["c:start_ns"] - joined["b:start_ns"],
        **{
            side + name: joined[side + name]
            for side in ("b:", "c:")
            for name in ("trace_id", "span_id", "model_variant", "quantization_format", *measured)
        },
    )
    return Pairs(every)


def bucket_of(tokens: Any, edges: Sequence[int]) -> Any:
    """Return the number of the bucket that a prompt of so many tokens is in; null when that is not known."""
    import ibis

    bucket = ibis.literal(0).cast("int8")
    for edge in edges:
        bucket = bucket + (tokens > edge).cast("int8")
    return bucket


def _side(answers: Any, prefix: str, measured: Sequence[str]) -> Any:
    needed = {"pair_id", "trace_id", "span_id", "start_ns", "end_ns", "outcome", "drop_reason", "same_answer"}
    needed |= {"prompt_hash", "differing_fields", "model_variant", "quantization_format", "input_tokens"}
    needed |= {*SHARED, *SAMPLING, *measured}
    return answers.select(**{prefix + name: answers[name] for name in sorted(needed)})


def _later(one: Any, other: Any) -> Any:
    import ibis

    return ibis.greatest(one, other)


def _exclusion(joined: Any) -> Any:
    import ibis

    reason = ibis.null("string")
    sampling = _differs(joined, SAMPLING[0])
    for name in SAMPLING[1:]:
        sampling = sampling | _differs(joined, name)
    fields = joined["c:differing_fields"]
    prompt = _differs(joined, "prompt_hash") | (fields.length() > 0).fill_null(False)
    for differs, name in (
        (sampling, SAMPLING_DIFFERS),
        (_differs(joined, "prompt_version"), VERSION_DIFFERS),
        (prompt, PROMPT_DIFFERS),
    ):
        reason = differs.ifelse(name, reason)
    return reason


def _differs(joined: Any, name: str) -> Any:
    # Only where both say it: a plain server's span may lack what the gateway's has.
    return (joined["b:" + name] != joined["c:" + name]).fill_null(False)
