"""What users say comes late, in spans of its own, about the answers that they saw."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from tests.support.paired_spans import START_NS, Draw, Request, feedback_span, live_span, requests, write_store
from traceai_vllm.release import Comparison, Judgement, compare, decision_of, decision_text, open_source, parse_policy
from traceai_vllm.release.cells import pairs_seen
from traceai_vllm.release.report import report_html

GUARDED = "version: 1\nmeasures:\n  errors: {margin: 0.05}\n  thumbs_down: {margin: 0.03}\nguard: [all]\n"
DAY_NS = 86_400 * 10**9


def compared(
    tmp_path: Path, spans: Iterable[dict[str, Any]], given: Iterable[Request] = (), policy: str = GUARDED
) -> Comparison:
    store = write_store(tmp_path / "spans", given)
    with (store / "spans-00000000000000000002-1-test.jsonl").open("w") as file:
        file.writelines(json.dumps(span) + "\n" for span in spans)
    return compare(open_source(store), parse_policy(policy))


def canary(count: int, unhappy: tuple[float, float], seed: int = 3) -> list[dict[str, Any]]:
    """Users of both arms; of those that the candidate answers a share is unhappy, two days later."""
    draw, spans = Draw(seed), []
    for place in range(count):
        arm = draw.one_of("baseline", "candidate")
        spans.append(live_span(place, arm))
        if draw.fails(*unhappy)[arm == "candidate"]:
            at = START_NS + place * 10**9 + 2 * DAY_NS
            spans.append(feedback_span(place, "thumbs_down", response_id=f"chatcmpl-{place}", at_ns=at))
    return spans


def mirrored(count: int = 400) -> list[Request]:
    return requests(count, lambda draw: Request(fails=(False, False), seconds=draw.seconds(0.5)))


def test_users_of_the_candidate_are_compared_with_users_of_the_baseline(tmp_path: Path) -> None:
    """Unhappy users of a canary are found, days later, and not counted as pairs."""
    comparison = compared(tmp_path, canary(1500, (0.02, 0.12)), mirrored())

    cell = comparison.cell((), "thumbs_down")

    assert cell is not None
    assert not cell.paired
    assert cell.verdict == "regressed"
    assert (cell.baseline, cell.candidate) == (pytest.approx(0.02, abs=0.02), pytest.approx(0.12, abs=0.04))
    assert "unpaired" in cell.evidence.method
    assert Judgement(comparison).action.value == "fallback"
    assert pairs_seen(comparison.cells) == 400  # answers that users got are no pairs


def test_answers_that_came_twice_are_counted_once(tmp_path: Path) -> None:
    """A collector's retry sends a batch again: that is no more users, and nothing for `min_pairs`."""
    spans = canary(200, (0.1, 0.1))
    once, twice = (
        compared(tmp_path / name, found, mirrored(20)).cell((), "thumbs_down")
        for name, found in (("once", spans), ("twice", spans + spans[::3]))
    )

    assert once is not None
    assert once == twice


def test_happy_users_of_the_candidate_let_it_pass(tmp_path: Path) -> None:
    """With as few thumbs down as the baseline's, a policy that guards them promotes."""
    comparison = compared(tmp_path, canary(3000, (0.02, 0.02)), mirrored())

    cell = comparison.cell((), "thumbs_down")

    assert cell is not None
    assert cell.verdict == "healthy"
    assert Judgement(comparison).action.value == "promote"


def test_fewer_answers_than_the_policy_wants_are_never_healthy(tmp_path: Path) -> None:
    """What is counted is answers that users got, of both arms."""
    spans = canary(3000, (0.02, 0.02))
    enough = compared(tmp_path / "enough", spans, mirrored(20)).cell((), "thumbs_down")
    assert enough is not None
    assert enough.verdict == "healthy"

    wanted = f"{GUARDED}evidence: {{min_pairs: {enough.evidence.pairs + 1}}}\n"
    too_few = compared(tmp_path / "too few", spans, mirrored(20), wanted).cell((), "thumbs_down")

    assert too_few is not None
    assert too_few.verdict == "not_enough_evidence"


def test_what_users_say_of_the_baseline_alone_says_nothing_of_the_candidate(tmp_path: Path) -> None:
    """While the candidate gets copies, all feedback is the baseline's: counted, and never a pass."""
    said = [feedback_span(place, "thumbs_down", trace_id=f"{place + 1:032x}") for place in range(40)]

    comparison = compared(tmp_path, said, mirrored())

    assert comparison.books.feedback == {"given": 40, "came again": 0, "about no answer here": 0, "too late": 0}
    judgement = Judgement(comparison)
    assert judgement.action.value == "keep_mirroring"
    assert {cell.evidence.pairs for cell in judgement.undecided} == {0}


def test_the_same_feedback_counts_once_and_lost_feedback_is_counted(tmp_path: Path) -> None:
    """A client that sends it again, another process that records it again; an answer that was not sampled."""
    spans = [live_span(place, ("baseline", "candidate")[place % 2]) for place in range(20)]
    once = feedback_span(5, "thumbs_down", response_id="chatcmpl-5")
    lost = feedback_span(6, "escalation", response_id="chatcmpl-from-elsewhere")

    comparison = compared(tmp_path, [*spans, once, {**once, "span_id": "e" * 16}, lost])

    assert comparison.books.feedback == {"given": 2, "came again": 1, "about no answer here": 1, "too late": 0}
    cell = comparison.cell((), "thumbs_down")
    assert cell is not None
    assert cell.candidate == pytest.approx(1 / cell.evidence.pairs * 2, abs=0.02)


@pytest.mark.parametrize("how", ["response", "span", "trace"])
def test_feedback_finds_its_answer_by_response_by_span_or_by_trace(tmp_path: Path, how: str) -> None:
    """In an agent's trace, the answer whose span is named, or else the last one before it was said."""
    spans = [live_span(place, ("baseline", "candidate")[place % 2]) for place in range(9)]
    first, second = (live_span(place, arm) for place, arm in ((20, "candidate"), (21, "baseline")))
    second["trace_id"] = first["trace_id"]
    at = START_NS + 20 * 10**9 + 10**8  # before the second one began
    named: dict[str, dict[str, Any]] = {
        "response": {"response_id": "chatcmpl-20", "at_ns": at + DAY_NS},
        "span": {"about": first, "at_ns": at + DAY_NS},
        "trace": {"trace_id": first["trace_id"], "at_ns": at},
    }
    said = feedback_span(20, "correction", **named[how])
    after = [live_span(place, ("baseline", "candidate")[place % 2]) for place in range(30, 39)]

    comparison = compared(tmp_path, [*spans, first, second, said, *after])

    cell = comparison.cell((), "correction")
    assert cell is not None
    assert cell.candidate > 0
    assert cell.baseline == 0


def named(count: int = 60) -> list[Request]:
    """Requests whose answers can be told from each other by their response ids."""
    return [
        Request(
            baseline={"gen_ai.response.id": f"of-baseline-{place}"},
            candidate={"gen_ai.response.id": f"of-copy-{place}"},
        )
        for place in range(count)
    ]


def test_a_reviewer_who_judges_both_answers_makes_pairs(tmp_path: Path) -> None:
    """Feedback that names a copy by its response is about the copy: both arms, the same questions."""
    said = [feedback_span(place, "thumbs_up", response_id=f"of-baseline-{place}") for place in range(40)]
    for place in range(40):
        kind = "correction" if place < 12 else "thumbs_up"
        said.append(feedback_span(place + 100, kind, response_id=f"of-copy-{place}"))

    cell = compared(tmp_path, said, named()).cell((), "correction")

    assert cell is not None
    assert cell.paired
    assert (cell.evidence.pairs, cell.worse, cell.better) == (40, 12, 0)


def test_one_word_on_one_copy_does_not_make_silence_about_the_others_praise(tmp_path: Path) -> None:
    """Users complain about the baseline; a reviewer looked at one copy. Nobody has seen the candidate."""
    said = [feedback_span(place, "thumbs_down", response_id=f"of-baseline-{place}") for place in range(0, 1000, 20)]
    said.append(feedback_span(5000, "thumbs_down", response_id="of-copy-7"))

    judgement = Judgement(compared(tmp_path, said, named(1000)))

    assert judgement.action.value == "keep_mirroring"
    assert {cell.evidence.pairs for cell in judgement.undecided} == {0}


def test_one_word_on_one_copy_does_not_hide_what_users_of_a_canary_say(tmp_path: Path) -> None:
    """Users got the candidate's answers, and dislike them."""
    said = [*canary(1500, (0.02, 0.12)), feedback_span(5000, "thumbs_up", response_id="of-copy-7")]

    comparison = compared(tmp_path, said, named(400))

    cell = comparison.cell((), "thumbs_down")
    assert cell is not None
    assert not cell.paired
    assert Judgement(comparison).action.value == "fallback"


def test_users_from_before_the_canary_are_no_comparison(tmp_path: Path) -> None:
    """Two weeks of the baseline alone, with other users, are left out; so is what came after."""
    before = [live_span(place, "baseline") for place in range(300)]
    angry = [feedback_span(place, "thumbs_down", response_id=f"chatcmpl-{place}") for place in range(100)]
    both = [live_span(place, ("candidate", "baseline")[place % 2]) for place in range(300, 400)]

    cell = compared(tmp_path, [*before, *angry, *both]).cell((), "thumbs_down")

    assert cell is not None
    assert cell.evidence.pairs == 100 - 1  # of the last answers one has no other arm beside it
    assert cell.baseline == 0


def test_users_have_as_long_as_the_policy_gives_them(tmp_path: Path) -> None:
    """With a time for feedback an answer counts when it is over: what counts once does not change any more."""
    policy = GUARDED + "evidence: {feedback_hours: 48}\n"
    spans = [live_span(place, ("baseline", "candidate")[place % 2]) for place in range(40)]
    times = {1: DAY_NS, 3: 3 * DAY_NS, 5: DAY_NS}
    said = [
        feedback_span(place, "thumbs_down", response_id=f"chatcmpl-{place}", at_ns=START_NS + place * 10**9 + after)
        for place, after in times.items()
    ]

    comparison = compared(tmp_path, [*spans, *said], policy=policy)

    assert comparison.books.feedback["too late"] == 1
    cell = comparison.cell((), "thumbs_down")
    assert cell is not None
    assert cell.candidate * cell.evidence.pairs / 2 == pytest.approx(2, abs=0.2)
    young = compared(tmp_path / "young", [*spans, *said[::2]], policy=policy).cell((), "thumbs_down")
    assert young is None or young.evidence.pairs == 0


def test_spans_of_feedback_are_no_answers(tmp_path: Path) -> None:
    """A span of feedback carries the pair and the variant of its answer, and is not taken for one."""
    policy = "version: 1\nbaseline: m-bf16\ncandidate: m-int4\nmeasures: {errors: {margin: 0.1}}\nguard: [all]\n"
    said = feedback_span(3, "thumbs_up", trace_id=f"{4:032x}")
    said["attributes"] |= {"traceai.pair.id": "pair-3", "model_variant": "m-bf16"}

    books = compared(tmp_path, [said], mirrored(20), policy).books

    assert (books.answers, books.repeated, books.clean) == (40, 0, 20)


def test_a_variant_that_is_named_tells_the_arm_of_others_spans(tmp_path: Path) -> None:
    """Without our gateway, behind a load balancer that sends a share to the candidate."""
    spans = canary(800, (0.0, 0.2))
    for span in spans:
        span["attributes"].pop("traceai.pair.arm", None)
    policy = GUARDED.replace("measures:", "baseline: m-bf16\ncandidate: m-int4\nmeasures:")

    cell = compared(tmp_path, spans, policy=policy).cell((), "thumbs_down")

    assert cell is not None
    assert cell.verdict == "regressed"


def test_an_answer_of_a_session_is_not_evidence_by_itself(tmp_path: Path) -> None:
    """One angry user with thirty turns is one angry user."""
    spans = [live_span(place, ("baseline", "candidate")[place % 2]) for place in range(60)]
    for place, span in enumerate(spans):
        span["attributes"]["gen_ai.conversation.id"] = f"session-{place % 2}-{place // 30}"
    said = [feedback_span(place, "thumbs_down", response_id=f"chatcmpl-{place}") for place in range(1, 30, 2)]

    by_session = compared(tmp_path / "a", [*spans, *said]).cell((), "thumbs_down")
    by_answer = compared(tmp_path / "b", [*spans, *said], policy=GUARDED + "evidence: {cluster: pair}\n").cell(
        (), "thumbs_down"
    )

    assert by_session is not None
    assert by_answer is not None
    assert by_session.verdict == "not_enough_evidence"
    assert by_answer.verdict == "regressed"


def test_the_decision_is_the_same_bytes_in_any_order(tmp_path: Path) -> None:
    """Also with feedback, whatever the order in which spans were written."""
    spans = canary(600, (0.02, 0.1))

    texts = {
        decision_text(decision_of(Judgement(compared(tmp_path / name, given, mirrored(100)))))
        for name, given in (("one", spans), ("two", spans[::-1]))
    }

    assert len(texts) == 1


def test_the_report_shows_who_was_served(tmp_path: Path) -> None:
    """Feedback is in the tables of the report, marked as no pairs, with its evidence over time."""
    comparison = compared(tmp_path, canary(600, (0.02, 0.2)), mirrored(60))
    judgement = Judgement(comparison)

    page = report_html(judgement, decision_of(judgement), open_source(tmp_path / "spans"), command="")

    assert " served</td>" in page
    assert "thumbs_down on all traffic, as answers came in" in page
    assert "feedback: given" in page
