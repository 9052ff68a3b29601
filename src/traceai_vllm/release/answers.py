"""From spans to answers: one row for each arm of each pair, whoever recorded which part of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from traceai_vllm.release.columns import (
    ATTRIBUTES,
    BASELINE,
    CANDIDATE,
    DIVERGENCE,
    PASSED,
    SAMPLING,
    SCORE,
    is_given,
    or_else,
)
from traceai_vllm.release.feedback import with_feedback
from traceai_vllm.release.keeping import kept
from traceai_vllm.release.measures import FEEDBACK

if TYPE_CHECKING:
    from traceai_vllm.release.feedback import Feedback
    from traceai_vllm.release.policy import Policy
    from traceai_vllm.release.sources import Source

# What a server's span below an arm may add: latency is the arm's own, taken at the same point for both.
_FROM_BELOW = ("quantization_format", "slices", "session", "input_tokens", "output_tokens", "decode_s", "cost_usd")
# What a table of answers may lack.
_OPTIONAL = {*SAMPLING, *DIVERGENCE, "prompt_hash", "differing_fields", "outcome", "drop_reason", "session", "cost_usd"}
_OPTIONAL |= {"intent", "agent_step", "prompt_version", "traffic_cohort", "slices"}
# And what came late to it.
_LATE = ("scored_ns",)


def arms_of(source: Source, policy: Policy) -> Any:
    """Return the spans of a source, without feedback and with late scores put in, and the arm that each is.

    Where a span does not say its ``arm``, its variant does, if the policy names it; ``own_arm`` tells which it was.

    Args:
        source: the spans.
        policy: names the variants.
    """
    spans = _with_late_scores(source)
    spans = spans.filter(spans.feedback_id.isnull())
    arm = spans.arm
    for name, variant in ((BASELINE, policy.baseline), (CANDIDATE, policy.candidate)):
        if variant is not None:
            arm = arm.fill_null((spans.model_variant == variant).ifelse(name, None))
    spans = spans.mutate(arm=arm, own_arm=spans.arm.notnull())
    return spans if policy.baseline is None or policy.candidate is None else _with_mirrored(spans)


def _with_mirrored(spans: Any) -> Any:
    """Return spans in which the two answers to a request that a proxy mirrored share a ``pair_id``.

    NGINX and Envoy say nothing of pairs, but give both servers one trace and one request id, of which vLLM makes the
    response's. Spans below arms that say that they are a pair are no other pair.
    """
    arms = spans.filter(spans.arm.notnull())
    alone = arms.filter(arms.pair_id.isnull(), arms.response_id.notnull())
    answers = alone.group_by("trace_id", "response_id").aggregate(one=alone.arm.min(), other=alone.arm.max())
    paired = arms.filter(arms.pair_id.notnull()).select("trace_id").distinct()
    both = answers.filter(answers.one != answers.other).anti_join(paired, "trace_id")
    both = kept(
        both.select("trace_id", "response_id", mirrored=both.trace_id.concat("-", both.response_id)), "mirrored"
    )
    if both.count().to_pyarrow().as_py() == 0:
        return spans
    joined = spans.left_join(both, ["trace_id", "response_id"])
    pair_id = joined.pair_id.fill_null(joined.arm.notnull().ifelse(joined.mirrored, None))
    return joined.mutate(pair_id=pair_id).select(*spans.columns)


def answers_of(spans: Any, source: Source, policy: Policy, feedback: Feedback | None = None) -> Any:
    """Return an Ibis table of answers, with a row for each span that is an arm of a pair.

    It has the columns of the source, with the scores of servers' spans below an arm put in, and one column for each
    measure (:mod:`~traceai_vllm.release.measures`). Of those in ``_OPTIONAL``, and of measures, it lacks what no answer
    has a value of: in millions of rows an empty column takes as much as a full one. ``NAME:stray`` says that an
    evaluator's score is not from 0 to 1 and does not count, ``NAME:unjudged`` that this leaves open what is guarded.

    Args:
        spans: an Ibis table of :func:`arms_of`.
        source: where they are from.
        policy: holds thresholds and prices.
        feedback: what users said in spans of its own.
    """
    answers = whole_arms(spans, source)
    return _measured(answers if feedback is None else with_feedback(answers, feedback), source, policy)


def whole_arms(spans: Any, source: Source) -> Any:
    """Return those of some spans that are an arm of a pair, with what servers' spans below them add.

    Args:
        spans: an Ibis table of :func:`arms_of`.
        source: where they are from.
    """
    arms = spans.filter(spans.pair_id.notnull(), spans.arm.notnull())
    return _with_spans_below(arms, spans, source)


def _with_late_scores(source: Source) -> Any:
    import ibis

    spans = source.spans
    for name in source.evaluators:  # an evaluator may be known from late scores alone
        if SCORE + name not in spans.columns:
            spans = spans.mutate(
                **{SCORE + name: ibis.null("float64"), PASSED + name: ibis.null("boolean")},
            )
    if source.late is None:
        return spans.mutate(scored_ns=ibis.null("int64"))
    found = {}
    for name in source.evaluators:
        of_this = source.late.evaluator == name
        found["late:" + SCORE + name] = source.late.score.max(where=of_this)
        found["late:" + PASSED + name] = source.late.passed.all(where=of_this)
    found["late:slices"] = source.late.slices.arbitrary()
    found["scored_ns"] = source.late.scored_ns.max()
    late = kept(source.late.group_by("trace_id", "span_id").aggregate(**found), "late")
    joined = spans.left_join(late, ["trace_id", "span_id"])
    merged = {column: or_else(joined[column], joined["late:" + column]) for column in (*_scores(source), "slices")}
    return joined.mutate(**merged).select(*spans.columns, "scored_ns")


def _scores(source: Source) -> list[str]:
    return [prefix + name for name in source.evaluators for prefix in (SCORE, PASSED)]


def _with_spans_below(arms: Any, spans: Any, source: Source) -> Any:
    others = spans.filter(spans.pair_id.isnull(), spans.parent_span_id.notnull())
    if others.count().to_pyarrow().as_py() == 0:
        return arms
    carried = [*_FROM_BELOW, *_LATE, *_scores(source)]
    edges = arms.select("trace_id", arm_span="span_id", parent="span_id")
    children = _children(edges, others, carried, "1")
    grandchildren = _children(children.select("trace_id", "arm_span", parent="span_id"), others, carried, "0")
    below = children.union(grandchildren)
    # Of several the nearest, and of these the last to begin: after a retry it is the one that answered.
    found = below.group_by("trace_id", "arm_span").aggregate(
        **{"below:" + column: below[column].argmax(below.rank, where=is_given(below[column])) for column in carried}
    )
    found = kept(found, "below")
    joined = arms.left_join(found, [arms.trace_id == found.trace_id, arms.span_id == found.arm_span])
    merged = {column: or_else(joined[column], joined["below:" + column]) for column in carried}
    return joined.mutate(**merged).select(*arms.columns)


def _children(edges: Any, others: Any, carried: list[str], level: str) -> Any:
    joined = edges.join(others, [edges.trace_id == others.trace_id, edges.parent == others.parent_span_id])
    begun = joined.start_ns.fill_null(0).cast("string").lpad(20, "0")
    return joined.select("trace_id", "arm_span", "span_id", *carried, rank=level + begun + joined.span_id)


def _measured(answers: Any, source: Source, policy: Policy) -> Any:
    import ibis

    # The user's own hanging up says nothing about the model.
    cancelled = (answers.error_type == "cancelled").fill_null(False)
    error = (answers.failed.fill_null(False) | answers.error_type.notnull()) & ~cancelled
    timeout = (answers.error_type == "timeout").fill_null(False)
    latency = answers.latency_s.fill_null((answers.end_ns - answers.start_ns) / 1e9)
    gaps = (answers.output_tokens - 1).nullif(0)
    decode = answers.decode_s.fill_null(latency - answers.ttft_s)
    values: dict[str, Any] = {
        "error": error,
        "timeout": timeout,
        # Who gave up waiting knows that it takes at least as long, which is what a quantile needs.
        "latency_s": (error & ~timeout).ifelse(ibis.null("float64"), latency),
        "ttft_s": error.ifelse(ibis.null("float64"), answers.ttft_s),
        "inter_token_s": error.ifelse(ibis.null("float64"), decode / gaps),
        "cost_usd": answers.cost_usd.fill_null(_cost(answers, policy)),
        **_said(answers),
    }
    if source.late is not None:
        # An answer is known when it is there, and whoever scores it later has done so.
        values["known_ns"] = ibis.greatest(answers.end_ns, answers.scored_ns.fill_null(answers.end_ns))
    absent = set(source.absent) - ({"slices"} if source.late is not None else set())
    if "cost_usd" in absent and not policy.prices:
        del values["cost_usd"]
    for name in source.evaluators:
        values |= _scored(answers[SCORE + name], answers[PASSED + name], name, policy)
    given = [column.name for column in ATTRIBUTES if column.name not in values]
    kept = [name for name in given if name not in _OPTIONAL or name not in absent]
    fields = ["trace_id", "span_id", "start_ns", "end_ns", *kept]
    return answers.select(*fields, **values)


def _scored(given: Any, passed: Any, name: str, policy: Policy) -> dict[str, Any]:
    import ibis

    # A NaN is not between them in any database, though in some it is larger than every number.
    on_scale = given.between(0, 1).fill_null(False)
    score = on_scale.ifelse(given, ibis.null("float64"))
    stray = unjudged = given.notnull() & ~on_scale
    guard = policy.measures.get(name)
    guarded = {*policy.measures, *(measure for override in policy.overrides for measure in override.measures)}
    if guard is not None and guard.threshold is not None:
        fail = score < guard.threshold
    else:
        fail = (~passed).fill_null(score < 0.5)
        if f"{name}.score" not in guarded:
            unjudged = stray & passed.isnull()
    return {f"{name}:score": score, f"{name}:fail": fail, f"{name}:stray": stray, f"{name}:unjudged": unjudged}


def _said(answers: Any) -> dict[str, Any]:
    """Return what was said of each answer of a pair, on its own span or in spans of feedback; null where nothing was.

    Nobody sees a copy by accident: silence about it is no praise, and neither is that about the answer beside one which
    a reviewer has judged.
    """
    import ibis

    apart = "said" in answers.columns
    about = answers.feedback.notnull() | answers.said.notnull() if apart else answers.feedback.notnull()
    if not answers.filter(answers.arm == CANDIDATE, about).count().to_pyarrow().as_py():
        return {}
    said = {kind: (answers.feedback == kind).fill_null(False) for kind in FEEDBACK}
    if apart:
        said = {kind: on_span | answers["said:" + kind].fill_null(False) for kind, on_span in said.items()}
    return {kind: about.ifelse(found, ibis.null("boolean")) for kind, found in said.items()}


def _cost(answers: Any, policy: Policy) -> Any:
    import ibis

    cost = ibis.null("float64")
    for variant, price in sorted(policy.prices.items()):
        tokens = answers.input_tokens * price.input_token + answers.output_tokens * price.output_token
        cost = (answers.model_variant == variant).ifelse(tokens, cost)
    return cost
