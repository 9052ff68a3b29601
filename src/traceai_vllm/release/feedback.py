"""Feedback finds its answer: by response id, by the answer's span, or by its trace, however late it comes.

Users say something of answers that they saw. While the candidate only gets copies, that is the baseline's answer; where
the candidate answers a share of the users, each arm has answers of its own, and they are not pairs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from traceai_vllm.release.columns import BASELINE, CANDIDATE
from traceai_vllm.release.frame import DIMENSIONS, Frame, frame_of, rows_of
from traceai_vllm.release.keeping import kept
from traceai_vllm.release.measures import FEEDBACK
from traceai_vllm.release.pairs import bucket_of

if TYPE_CHECKING:
    from traceai_vllm.release.policy import Policy

_OPERATIONS = ("chat", "text_completion")
_IDENTITY = ("trace_id", "span_id")
_NEEDED = (*_IDENTITY, "arm", "response_id", "session", "slices", "input_tokens", "start_ns", "end_ns", *DIMENSIONS)
_HOUR_NS = 3_600 * 1_000_000_000
# How feedback names an answer, the surest first.
_BY_RESPONSE, _BY_SPAN, _BY_TRACE = 0, 1, 2


@dataclass(frozen=True)
class Feedback:
    """Feedback that came as spans of its own.

    Attributes:
        by_answer: an Ibis table with a row for each answer that something was said of: its span, and each kind of
            feedback as a boolean.
        served: an Ibis table of the answers that users got.
        given: how many users' words there are.
        repeated: how many of them came more than once, and count once.
        lost: how many are about an answer that is not here.
        late: how many came after the time that the policy gives users.
        newest_ns: when the last of it came.
    """

    by_answer: Any
    served: Any
    given: int
    repeated: int
    lost: int
    late: int
    newest_ns: int


def feedback_of(all_spans: Any, spans: Any, policy: Policy) -> Feedback | None:
    """Return the feedback in a source, joined to its answers; None when there is none.

    Args:
        all_spans: an Ibis table of spans, those of feedback too.
        spans: the other spans, with their arms: :func:`~traceai_vllm.release.answers.arms_of`.
        policy: says how long users have to say something.
    """
    found = all_spans.filter(all_spans.feedback_id.notnull(), all_spans.feedback.notnull())
    said = kept(_once(found), "said")
    totals = said.aggregate(given=said.count(), spans=said.times.sum(), newest=said.at_ns.max())
    totals = totals.to_pyarrow().to_pylist()[0]
    if not totals["given"]:
        return None
    served = kept(served_by(spans).select(*_NEEDED).distinct(), "served")  # a collector's retry sends spans again
    matched = kept(_matched(said, served, _copies(spans)), "matched")
    wait = _wait_ns(policy)
    in_time = matched if wait is None else matched.filter(matched.at_ns - matched.end_ns <= wait)
    found_ones, counted = (int(table.count().to_pyarrow().as_py()) for table in (matched, in_time))
    return Feedback(
        by_answer=kept(_by_answer(in_time), "feedback"),
        served=served,
        given=int(totals["given"]),
        repeated=int(totals["spans"]) - int(totals["given"]),
        lost=int(totals["given"]) - found_ones,
        late=found_ones - counted,
        newest_ns=int(totals["newest"] or 0),
    )


def with_feedback(answers: Any, feedback: Feedback) -> Any:
    """Return answers with ``said`` and ``said:KIND``; null where nobody said anything."""
    said = feedback.by_answer
    joined = answers.left_join(said, [answers.trace_id == said.feedback_trace, answers.span_id == said.feedback_span])
    return joined.drop("feedback_trace", "feedback_span")


def served_by(spans: Any) -> Any:
    """Return the answers that users got, each once: those of the baseline, and those of the candidate without a pair.

    Args:
        spans: an Ibis table of :func:`~traceai_vllm.release.answers.arms_of`.
    """
    failed = spans.failed.fill_null(False) | spans.error_type.notnull()
    whole = spans.filter(spans.arm.isin((BASELINE, CANDIDATE)), spans.operation.isin(_OPERATIONS), ~failed)
    own = whole.filter(whole.own_arm, whole.pair_id.isnull() | (whole.arm == BASELINE))
    # Where nobody said which arm it was, the variant tells: of spans that are alone, or the topmost of one request.
    told = whole.filter(~whole.own_arm, whole.pair_id.isnull() | (whole.arm == BASELINE))
    arms = spans.filter(spans.own_arm)
    told = told.anti_join(arms.select("trace_id").distinct(), "trace_id")
    parents = told.select("trace_id", parent_span_id="span_id")
    return own.union(told.anti_join(parents, ["trace_id", "parent_span_id"]))


def served_frame(feedback: Feedback, policy: Policy) -> Frame | None:
    """Return the answers that users got while both arms gave some, as arrays; None when there is no such time.

    Columns ``b:KIND`` and ``c:KIND`` are 1 where a user said so, and missing for the other arm's answers. They stand in
    the order of the answers, never of what was said: angry words come in a heap, and would be compared with each other.

    Args:
        feedback: what was said, and of what.
        policy: the lengths where buckets end, what a cluster is, and how long users have to say something: younger
            answers do not count yet, so that what counts does not change any more.
    """
    answers = with_feedback(_side_by_side(feedback.served), feedback)
    wait = _wait_ns(policy)
    if wait is not None:
        newest = max(feedback.newest_ns, int(answers.end_ns.max().to_pyarrow().as_py() or 0))
        answers = answers.filter(answers.end_ns <= newest - wait)
    alone = answers.trace_id.concat(answers.span_id)
    values = {
        side + kind: (answers.arm == arm).ifelse(answers["said:" + kind].fill_null(False).cast("float64"), None)
        for side, arm in (("b:", BASELINE), ("c:", CANDIDATE))
        for kind in FEEDBACK
    }
    table = answers.select(
        "slices",
        *DIMENSIONS,
        arrived_ns=answers.end_ns,
        known_ns=answers.end_ns,
        pair_id=alone,
        cluster=alone if policy.evidence.cluster == "pair" else answers.session.fill_null(answers.trace_id),
        bucket=bucket_of(answers.input_tokens, policy.prompt_token_buckets),
        **values,
    )
    frame = frame_of(rows_of(table, FEEDBACK), FEEDBACK, policy.prompt_token_buckets)
    return frame if len(frame) else None


def _once(found: Any) -> Any:
    # A trace id of its own says nothing: it is the answer's only where the answer's span is above it.
    below = found.parent_span_id.notnull().ifelse(found.trace_id, None)
    return found.group_by("feedback_id").aggregate(
        kind=found.feedback.min(),
        about=found.feedback_trace_id.fill_null(below).max(),
        span=found.parent_span_id.max(),
        response=found.response_id.max(),
        at_ns=found.start_ns.min(),
        times=found.count(),
    )


def _copies(spans: Any) -> Any:
    # Nobody sees a copy by accident, but a reviewer may judge it and name it.
    return spans.filter(spans.arm == CANDIDATE, spans.pair_id.notnull())


def _matched(said: Any, served: Any, copies: Any) -> Any:
    """Return for each piece of feedback the one answer that it is about."""
    import ibis

    columns = (*_IDENTITY, "response_id", "start_ns", "end_ns")
    seen = served.select(*columns)
    named = seen.union(copies.select(*columns))
    named = named.filter(named.response_id.notnull())
    by_response = _found(said.join(named, said.response == named.response_id), ibis.literal(_BY_RESPONSE))
    in_trace = said.join(seen, said.about == seen.trace_id)
    is_parent = (in_trace.span_id == in_trace.span).fill_null(False)
    by_trace = _found(in_trace, is_parent.ifelse(_BY_SPAN, _BY_TRACE))
    every = by_response.union(by_trace)
    # Of several answers in a trace the last one that was there when it was said.
    window = ibis.window(
        group_by="feedback_id",
        order_by=[every.how, every.begun_later, every.start_ns.desc(), every.trace_id, every.span_id],
    )
    numbered = every.mutate(place=ibis.row_number().over(window))
    return numbered.filter(numbered.place == 0).drop("place")


def _found(joined: Any, how: Any) -> Any:
    return joined.select(
        "feedback_id",
        "kind",
        "at_ns",
        *_IDENTITY,
        "start_ns",
        "end_ns",
        how=how.cast("int8"),
        begun_later=(joined.start_ns > joined.at_ns).cast("int8"),
    )


def _by_answer(matched: Any) -> Any:
    kinds = {"said:" + kind: (matched.kind == kind).any() for kind in FEEDBACK}
    grouped = matched.group_by(feedback_trace=matched.trace_id, feedback_span=matched.span_id)
    return grouped.aggregate(**kinds, said=matched.count() > 0)


def _wait_ns(policy: Policy) -> int | None:
    hours = policy.evidence.feedback_hours
    return None if hours is None else int(hours * _HOUR_NS)


def _side_by_side(served: Any) -> Any:
    """Keep, route by route, the time in which both arms answered: two weeks with other users are no comparison."""
    route = served.route.fill_null("")
    times = {}
    for arm in (BASELINE, CANDIDATE):
        of_arm = served.arm == arm
        times[f"first_{arm}"] = served.end_ns.min(where=of_arm)
        times[f"last_{arm}"] = served.end_ns.max(where=of_arm)
    bounds = served.group_by(bounded_route=route).aggregate(**times)
    joined = served.join(bounds, route == bounds.bounded_route)
    inside = [joined.end_ns >= joined[f"first_{arm}"] for arm in (BASELINE, CANDIDATE)]
    inside += [joined.end_ns <= joined[f"last_{arm}"] for arm in (BASELINE, CANDIDATE)]
    return joined.filter(*inside).select(*served.columns)
