"""What is missing is counted, by reason and by length, and can block a release."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from tests.support.paired_spans import Draw, Request, feedback_span, requests, spans_of, write_store
from traceai_vllm.release import Comparison, Judgement, Policy, compare, decision_of, open_source, parse_policy
from traceai_vllm.release.formats import as_json
from traceai_vllm.release.tables import books_table

POLICY = {"version": 1, "measures": {"Groundedness": {"margin": 0.2}, "errors": {"margin": 0.2}}}


def compared(tmp_path: Path, given: list[Request], **policy: Any) -> Comparison:
    source = open_source(write_store(tmp_path / "spans", given))
    return compare(source, Policy.model_validate({**POLICY, **policy}))


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"traceai.pair.prompt_hash": "another"}, "prompt"),
        ({"traceai.pair.differing_fields": ["messages"]}, "prompt"),
        ({"prompt_version": "v4"}, "prompt_version"),
        ({"gen_ai.request.temperature": 0.7}, "sampling"),
    ],
)
def test_a_pair_that_was_not_asked_the_same_is_excluded_and_counted(
    tmp_path: Path, changed: dict[str, Any], reason: str
) -> None:
    """A clean baseline: what differs in prompt, prompt version or sampling is no evidence about the model."""
    clean = {"gen_ai.request.temperature": 0.0}
    given = [Request(baseline=dict(clean), candidate=dict(clean)) for _ in range(9)]
    given.append(Request(baseline=dict(clean), candidate={**clean, **changed}))

    books = compared(tmp_path, given).books

    assert (books.clean, books.excluded) == (9, {reason: 1})
    assert books.over_limit(Policy.model_validate(POLICY).limits) == ["excluded 10.0% (limit 2.0%)"]


def test_what_has_no_pair_is_counted_by_reason_and_by_length(tmp_path: Path) -> None:
    """Candidates that drop long prompts are not compared on them: that is seen, and blocks."""

    def make(draw: Draw) -> Request:
        tokens = draw.one_of(*range(100, 1100, 100))
        lost = tokens >= 1000
        dropped = {"traceai.pair.outcome": "dropped", "traceai.pair.drop_reason": "queue_full"}
        return Request(tokens=tokens, candidate=draw.one_of(None, dropped) if lost else {})

    comparison = compared(tmp_path, requests(300, make))

    books = comparison.books
    assert set(books.unpaired) == {"no answer of the candidate", "queue_full"}
    assert sum(books.unpaired.values()) + books.clean == books.sampled == 300
    shares = [decile.share for decile in books.deciles if decile.sampled]
    assert shares[-1] == 1.0
    assert set(shares[:-1]) == {0.0}
    printed = Console(width=120, record=True)
    printed.print(books_table(comparison))
    assert "most of all prompts of 901-1000 tokens" in printed.export_text()
    assert Judgement(comparison).action.value == "keep_mirroring"
    assert any("unpaired_by_length" in problem for problem in Judgement(comparison).books_problems)


def test_answers_without_tags_are_counted(tmp_path: Path) -> None:
    """Without a route, an incident looks like random drift: the share is shown and can block."""
    given = [Request(route=None if place < 3 else "faq") for place in range(30)]

    books = compared(tmp_path, given).books

    assert books.untagged == {"route": 6, "model_variant": 0}
    assert books.shares["untagged"] == pytest.approx(0.1)
    assert books.over_limit(Policy.model_validate(POLICY).limits) == ["untagged 10.0% (limit 2.0%)"]


def test_scores_that_only_the_candidate_lacks_are_counted(tmp_path: Path) -> None:
    """An evaluator that fails on one arm alone would hide what is worse there."""
    unscored = {"gen_ai.evaluation.Groundedness.score": None, "gen_ai.evaluation.Groundedness.passed": None}
    given = [Request(candidate=dict(unscored) if place < 4 else {}) for place in range(40)]

    comparison = compared(tmp_path, given)

    assert comparison.books.unscored == {"Groundedness": (0, 4, 36)}
    assert any("unscored" in problem for problem in Judgement(comparison).books_problems)


@pytest.mark.parametrize("score", [7, -1, 1e300, math.nan])
@pytest.mark.parametrize("guarded", ["Groundedness", "Groundedness.score"])
def test_a_score_out_of_range_does_not_count_and_is_said(tmp_path: Path, score: float, guarded: str) -> None:
    """One answer of a strange evaluator does not end the comparison of all others, whichever measure is guarded."""
    stray = {"gen_ai.evaluation.Groundedness.score": score, "gen_ai.evaluation.Groundedness.passed": None}
    given = [Request(), Request(candidate=stray), *requests(40, lambda draw: Request())]
    policy = Policy.model_validate({"version": 1, "measures": {guarded: {"margin": 0.1}}})

    comparison = compare(open_source(write_store(tmp_path / "spans", given)), policy)

    cell = comparison.cell((), guarded)
    assert cell is not None
    assert cell.evidence.pairs == 41
    assert cell.candidate == pytest.approx(0.9 if guarded.endswith(".score") else 0)
    assert comparison.problems == ("Groundedness: 1 scores are not from 0 to 1, and do not count",)
    assert comparison.books.shares["unscored"] == pytest.approx(1 / 42)


@pytest.mark.parametrize("worst", [0.4, 1.0])
def test_an_evaluator_on_another_scale_lets_nothing_pass(tmp_path: Path, worst: float) -> None:
    """A judge that says 1 to 5: its worst score looks like our best, and is all that would be left."""

    def make(draw: Draw) -> Request:
        scores = [{"gen_ai.evaluation.Judge.score": 1 if fails else 5} for fails in draw.fails(0.2, worst)]
        return Request(baseline=scores[0], candidate=scores[1])

    policy = Policy.model_validate({"version": 1, "measures": {"Judge": {"margin": 0.05}}, "guard": ["all"]})

    judgement = Judgement(compare(open_source(write_store(tmp_path / "spans", requests(1500, make))), policy))

    assert judgement.action.value == "keep_mirroring"
    assert any("unscored" in problem for problem in judgement.books_problems)


def test_a_verdict_counts_whatever_the_score_is(tmp_path: Path) -> None:
    """An evaluator on another scale that says itself what passes is heard."""

    def make(draw: Draw) -> Request:
        said = [
            {"gen_ai.evaluation.Judge.score": 1 if fails else 5, "gen_ai.evaluation.Judge.passed": not fails}
            for fails in draw.fails(0.1, 0.5)
        ]
        return Request(baseline=said[0], candidate=said[1])

    policy = Policy.model_validate({"version": 1, "measures": {"Judge": {"margin": 0.05}}, "guard": ["all"]})

    comparison = compare(open_source(write_store(tmp_path / "spans", requests(200, make))), policy)

    cell = comparison.cell((), "Judge")
    assert cell is not None
    assert cell.verdict == "regressed"
    assert comparison.books.shares["unscored"] == 0


def test_a_time_beyond_any_measurement_does_not_count(tmp_path: Path) -> None:
    """Spans are anybody's."""
    given = [Request(candidate={"gen_ai.latency.e2e": 1e300}), *requests(40, lambda draw: Request())]
    policy = parse_policy("{version: 1, measures: {latency.p50: {margin: 1}}}")

    comparison = compare(open_source(write_store(tmp_path / "spans", given)), policy)

    cell = comparison.cell((), "latency.p50")
    assert cell is not None
    assert cell.evidence.pairs == 40


ODD = {
    "tokens below zero": ({"gen_ai.usage.output_tokens": -1}, "output_tokens"),
    "the lowest number of tokens": ({"gen_ai.usage.output_tokens": -(2**63)}, "output_tokens"),
    "more tokens than anything has": ({"gen_ai.usage.input_tokens": 2**62}, "input_tokens"),
    "a cost below zero": ({"traceai.cost.usd": -0.1}, "cost_usd"),
    "no number": ({"traceai.cost.usd": math.nan}, "cost_usd"),
    "a divergence beyond all": ({"traceai.pair.kl_divergence": 1e308}, "kl_divergence"),
}


@pytest.mark.parametrize(("odd", "column"), ODD.values(), ids=ODD)
def test_what_nothing_can_have_measured_does_not_count_and_is_said(
    tmp_path: Path, odd: dict[str, Any], column: str
) -> None:
    """One odd span of anybody's ends no comparison."""
    given = [Request(candidate=odd), *(Request(baseline={"traceai.cost.usd": 0.5}) for _ in range(20))]

    comparison = compared(tmp_path, given)

    assert comparison.books.clean == 21
    assert [problem.split(":")[0] for problem in comparison.problems] == [column]
    as_json(Judgement(comparison), decision_of(Judgement(comparison)))


@pytest.mark.parametrize("times", [(-(2**63) + 10, 2**63 - 1), (2**63 - 10, 2**63 - 1)])
@pytest.mark.parametrize("what", ["an answer", "feedback"])
def test_times_beyond_all_clocks_do_not_count_and_are_said(tmp_path: Path, times: tuple[int, int], what: str) -> None:
    """Neither those of an answer nor those of what was said about one."""
    store = write_store(tmp_path / "spans", requests(20, lambda draw: Request()))
    odd = spans_of(30, Request())[1] if what == "an answer" else feedback_span(1, "thumbs_down", trace_id=f"{1:032x}")
    odd |= {"start_time_unix_nano": times[0], "end_time_unix_nano": times[1]}
    with next(store.glob("*.jsonl")).open("a") as file:
        file.write(json.dumps(odd) + "\n")

    comparison = compare(open_source(store), Policy.model_validate({**POLICY, "evidence": {"feedback_hours": 1}}))

    assert comparison.books.clean == 20
    assert {problem.split(":")[0] for problem in comparison.problems} == {"start_ns", "end_ns"}


@pytest.mark.parametrize("arm", ["baseline", "candidate"])
@pytest.mark.parametrize("alone", [False, True], ids=["in a pair", "without a pair"])
def test_an_answer_that_came_twice_counts_once(tmp_path: Path, arm: str, alone: bool) -> None:
    """A retry is no second pair, and no second question without one; the first answer counts."""
    other = {"baseline": "candidate", "candidate": "baseline"}[arm]
    given = [Request(**{other: None}) if alone and place == 2 else Request() for place in range(5)]
    store = write_store(tmp_path / "spans", given)
    again = next(span for span in spans_of(2, given[2]) if span["attributes"].get("traceai.pair.arm") == arm)
    again = {**again, "span_id": "f" * 16, "start_time_unix_nano": again["start_time_unix_nano"] + 1}
    with next(store.glob("*.jsonl")).open("a") as file:
        file.write(json.dumps(again) + "\n")

    books = compare(open_source(store), Policy.model_validate(POLICY)).books

    assert (books.sampled, books.clean, books.repeated) == (5, 5 - alone, 1)
    assert books.unpaired == ({f"no answer of the {other}": 1} if alone else {})


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ({"model_variant": "m-int8"}, "variants, m-int4, m-int8"),
        ({"quantization_format": "int8"}, "number formats, int4, int8"),
    ],
)
def test_answers_of_several_candidates_in_one_store_are_said_and_not_promoted(
    tmp_path: Path, other: dict[str, Any], said: str
) -> None:
    """Last week's build and this week's, mirrored into one store: their mean is no verdict on either."""
    given = [Request(), Request(candidate={"quantization_format": None}), Request(candidate={"model_variant": None})]
    policy = Policy.model_validate(POLICY)

    alone, mixed = (
        compare(open_source(write_store(tmp_path / name, requests)), policy)
        for name, requests in (("alone", given), ("mixed", [*given, *given, Request(candidate=other)]))
    )

    assert (alone.problems, alone.books.mixed) == ((), 0)
    assert mixed.problems == (f"the candidate's answers on one route are of several {said}, and count as one",)
    assert mixed.books.mixed == pytest.approx(1 / 5)  # two of the seven do not say it
    assert "mixed 20.0% (limit 2.0%)" in mixed.books.over_limit(policy.limits)


def test_routes_may_be_of_different_models(tmp_path: Path) -> None:
    """One gateway before an 8B and a 70B model, each with its candidate: no route is of several variants."""
    large = {"model_variant": "l-int4"}
    given = [Request(route="faq"), Request(route="claims", candidate=large, baseline={"model_variant": "l-bf16"})]

    comparison = compare(open_source(write_store(tmp_path, given)), Policy.model_validate(POLICY))

    assert (comparison.problems, comparison.books.mixed) == ((), 0)
    assert comparison.variants["candidate"] == ["l-int4 (int4)", "m-int4 (int4)"]


def test_a_user_who_hangs_up_is_no_error_and_a_timeout_is(tmp_path: Path) -> None:
    """`cancelled` says nothing about the model."""
    given = [Request(candidate={"error.type": "cancelled"}) for _ in range(3)]
    given += [Request(candidate={"error.type": "timeout"}) for _ in range(2)] + [Request() for _ in range(5)]

    comparison = compared(tmp_path, given)

    errors, timeouts = comparison.cell((), "errors"), comparison.cell((), "timeouts")
    assert errors is not None
    assert timeouts is not None
    assert (errors.candidate, timeouts.candidate) == (pytest.approx(0.2), pytest.approx(0.2))


def timing_out(share: float, count: int = 2000) -> list[Request]:
    """The candidate is faster, but gives no answer within 30 seconds to a share of the questions."""
    unscored = {"gen_ai.evaluation.Groundedness.score": None, "gen_ai.evaluation.Groundedness.passed": None}

    def make(draw: Draw) -> Request:
        if draw.fails(0, share)[1]:
            return Request(seconds=(1.0, 30.0), candidate={"error.type": "timeout", **unscored})
        return Request(seconds=draw.seconds(0.7))

    return requests(count, make)


def test_a_candidate_that_times_out_is_not_faster(tmp_path: Path) -> None:
    """It takes at least as long as somebody waited; what a policy guards that names no time-outs."""
    measures = {"latency.p99": {"margin": 0.1}, "latency.p50": {"margin": 0.1}}

    comparison = compared(tmp_path, timing_out(0.05), measures=measures, guard=["all"])

    p99, p50 = (comparison.cell((), name) for name in measures)
    assert p99 is not None
    assert p50 is not None
    assert (p99.verdict, p50.verdict) == ("regressed", "healthy")
    assert p99.candidate == pytest.approx(30)


@pytest.mark.parametrize(
    ("guarded", "missing"),
    [((), 0.05), (("errors",), 0.0), (("timeouts",), 0.0)],
    ids=["no failures", "errors", "time-outs"],
)
def test_answers_that_failed_are_missing_where_failures_are_not_guarded(
    tmp_path: Path, guarded: tuple[str, ...], missing: float
) -> None:
    """What is left of a candidate that fails must not pass for all of it."""
    measures = {name: {"margin": 0.2} for name in ("Groundedness", *guarded)}

    books = compared(tmp_path, timing_out(0.05), measures=measures).books

    assert books.shares["unscored"] == pytest.approx(missing, abs=0.01)


def test_the_turns_of_a_session_are_one_unit_of_evidence(tmp_path: Path) -> None:
    """Fifty turns of one conversation are not fifty independent observations, unless the policy says so."""
    session = [{"gen_ai.conversation.id": f"session-{place % 6}"} for place in range(60)]
    given = [Request(baseline=dict(one), candidate=dict(one)) for one in session]

    by_session = compared(tmp_path / "a", given).cell((), "Groundedness")
    by_pair = compared(tmp_path / "b", given, evidence={"cluster": "pair"}).cell((), "Groundedness")

    assert by_session is not None
    assert by_pair is not None
    assert (by_session.evidence.pairs, by_session.evidence.clusters) == (60, 6)
    assert (by_pair.evidence.pairs, by_pair.evidence.clusters) == (60, 60)


def test_an_answer_that_is_not_there_yet_makes_its_pair_later(tmp_path: Path) -> None:
    """A collector writes one arm's spans minutes before the other's: the next look has the pairs."""
    spans = [span for place in range(20) for span in spans_of(place, Request())]
    late = [span for span in spans if span["attributes"].get("traceai.pair.arm") == "candidate"][10:]
    store = write_store(tmp_path / "spans", [])
    lines = {"2": [span for span in spans if span not in late], "3": late}

    def look(segment: str) -> Comparison:
        path = store / f"spans-0000000000000000000{segment}-1-test.jsonl"
        path.write_text("".join(json.dumps(span) + "\n" for span in lines[segment]))
        return compare(open_source(store), Policy.model_validate(POLICY))

    first, second = look("2"), look("3")

    assert (first.books.clean, first.books.unpaired) == (10, {"no answer of the candidate": 10})
    assert Judgement(first).action.value == "keep_mirroring"
    assert (second.books.clean, second.books.unpaired) == (20, {})


def test_lengths_that_nobody_counted_are_no_pass_where_lengths_are_guarded(tmp_path: Path) -> None:
    """Streams without usage: no prompt is known to be long, and none to be short; the policy may leave lengths out."""
    uncounted = {"gen_ai.usage.input_tokens": None}
    given = [
        Request(baseline=dict(uncounted), candidate=dict(uncounted) if place < 6 else {"gen_ai.usage.input_tokens": 9})
        for place in range(60)
    ]
    rules = {"rules": [{"when": ["all_healthy"], "then": "promote"}, {"then": "keep_mirroring"}]}

    guarded = compared(tmp_path / "guarded", given, **rules)
    left_out = compared(tmp_path / "left_out", given, guard=["all", "route"], **rules)

    assert guarded.books.unknown_length == 6
    assert Judgement(guarded).books_problems == ["unknown_length 10.0% (limit 2.0%)"]
    judgement = Judgement(guarded)
    assert json.loads(as_json(judgement, decision_of(judgement)))["books"]["unknown_prompt_length"] == 6
    printed = Console(width=120, record=True)
    printed.print(books_table(guarded))
    assert "pairs of unknown prompt length" in printed.export_text()
    assert left_out.books.unknown_length == 0
    assert Judgement(left_out).books_problems == []


def test_a_store_without_questions_says_so(tmp_path: Path) -> None:
    """Not that all of none are missing."""
    comparison = compared(tmp_path, [])
    [problem] = Judgement(comparison).books_problems
    assert problem.startswith("no question was sampled: no span has a traceai.pair.id")  # the servers' store, perhaps
    assert Judgement(comparison).action.value == "keep_mirroring"


def test_a_clock_that_is_wrong_is_seen_and_changes_no_latency(tmp_path: Path) -> None:
    """The candidate's host is ten minutes ahead: times are each arm's own, the books tell, a limit can block."""
    spans = [span for place in range(30) for span in spans_of(place, Request())]
    for span in spans:
        if span["attributes"].get("traceai.pair.arm") == "candidate":
            del span["attributes"]["gen_ai.latency.e2e"]
            span["start_time_unix_nano"] += 600 * 10**9
            span["end_time_unix_nano"] += 600 * 10**9
    store = write_store(tmp_path / "spans", [])
    (store / "spans-00000000000000000002-1-test.jsonl").write_text("\n".join(map(json.dumps, spans)) + "\n")

    comparison = compare(open_source(store), Policy.model_validate({**POLICY, "limits": {"apart": 0.1}}))

    assert comparison.books.apart == 30
    assert Judgement(comparison).books_problems == ["apart 100.0% (limit 10.0%)"]
    latency = comparison.cell((), "latency.p50")
    assert latency is not None
    assert (latency.baseline, latency.candidate) == (pytest.approx(1.0), pytest.approx(0.65))


def test_old_evidence_blocks(tmp_path: Path) -> None:
    """Evidence from before a change of traffic is none; the time that counts is given, so that it can be recomputed."""
    comparison = compared(tmp_path, [Request() for _ in range(20)], evidence={"max_age_days": 7})
    newest = comparison.end_ns
    assert newest is not None
    day = 86_400 * 10**9

    assert Judgement(comparison, newest + day).books_problems == []
    assert "8.0 days old" in Judgement(comparison, newest + 8 * day).books_problems[0]


def test_one_clock_that_is_ahead_does_not_make_old_evidence_new(tmp_path: Path) -> None:
    """A pair of next year among those of last month: the others are as old as they are."""
    given = [Request() for _ in range(20)]
    given[7].seconds = (1.0, 400 * 86_400.0)
    comparison = compared(tmp_path, given, evidence={"max_age_days": 7})
    day = 86_400 * 10**9
    oldest = comparison.start_ns
    assert oldest is not None

    assert Judgement(comparison, oldest + day).books_problems == []
    assert "30.0 days old" in Judgement(comparison, oldest + 30 * day).books_problems[0]
    assert "a clock, or --as-of, is wrong" in Judgement(comparison, oldest - day).books_problems[0]
