"""From spans to the action: what a team would do by hand, done from evidence."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from tests.support.paired_spans import START_NS, Draw, Request, requests, write_store
from traceai_vllm.gateway.decision import Decision
from traceai_vllm.release import (
    Judgement,
    compare,
    decision_of,
    decision_text,
    open_source,
    parse_policy,
    verdict_sentence,
)
from traceai_vllm.release.policy import Condition

POLICY = """
version: 1
name: support-int4
baseline: m-bf16
candidate: m-int4
measures:
  Groundedness: {margin: 0.05}
  errors: {margin: 0.03}
  latency.p99: {margin: 0.10, guard: [all]}
gains:
  - {measure: latency.p50, at_least: 0.2}
prompt_token_buckets: [1000, 4000]
"""


def judged(tmp_path: Path, given: list[Request], policy: str = POLICY, **options: Any) -> Judgement:
    source = open_source(write_store(tmp_path / "spans", given, **options))
    return Judgement(compare(source, parse_policy(policy)))


def document_case(draw: Draw) -> Request:
    route = draw.one_of("faq", "support")
    regulated = route == "support" and draw.one_of(True, False)
    worse = 0.30 if regulated else 0.04
    return Request(
        route=route,
        slices=("regulated",) if regulated else (),
        fails=draw.fails(0.04, worse),
        seconds=draw.seconds(0.65),
    )


def test_faster_by_a_third_and_worse_on_regulated_support_tickets_is_no_global_go(tmp_path: Path) -> None:
    """The case of the practice: p50 35 % better, fails up on one slice of one route: all but that slice may go."""
    judgement = judged(tmp_path, requests(1200, document_case), below=True)

    decision = decision_of(judgement)

    assert decision.action.value == "restrict_route"
    assert decision.routes["faq"].action.value == "promote"
    assert decision.routes["support"].action.value == "restrict_route"
    assert decision.routes["support"].only is not None
    assert decision.routes["support"].only.except_slices == {"regulated"}
    latency = judgement.comparison.cell((), "latency.p50")
    assert latency is not None
    assert latency.candidate / latency.baseline == pytest.approx(0.65, abs=0.05)
    named = {cell.scope for cell in judgement.regressed}
    assert (("slice", "regulated"),) in named
    assert (("route", "faq"),) not in named


def test_equal_quality_and_a_shown_gain_are_promoted(tmp_path: Path) -> None:
    """Every guarded cell is healthy and the gain is shown: go, on the routes that were compared and no others."""
    given = requests(2500, lambda draw: Request(fails=draw.fails(0.02, 0.02), seconds=draw.seconds(0.5)))

    decision = decision_of(judged(tmp_path, given))

    assert decision.action.value == "promote"
    assert {name: route.action.value for name, route in decision.routes.items()} == {
        "support": "promote",
        "*": "keep_mirroring",
    }


def test_a_route_called_like_every_other_one_decides_for_no_other(tmp_path: Path) -> None:
    """A catch-all route of the name `*` is healthy: routes that nobody compared get nothing by it."""

    def make(draw: Draw) -> Request:
        return Request(route=draw.one_of("*", "faq"), fails=draw.fails(0.02, 0.02), seconds=draw.seconds(0.5))

    decision = decision_of(judged(tmp_path, requests(2500, make)))

    assert decision.action.value == "promote"
    assert {name: route.action.value for name, route in decision.routes.items()} == {
        "faq": "promote",
        "*": "keep_mirroring",
    }
    assert "another name" in decision.routes["*"].reason


@pytest.mark.parametrize(
    ("fails", "min_pairs", "verdict"),
    [
        ((0.02, 0.02), 500, "healthy"),
        ((0.02, 0.02), 501, "not_enough_evidence"),
        ((0.02, 0.40), 501, "regressed"),
    ],
)
def test_fewer_pairs_than_the_policy_wants_are_never_healthy(
    tmp_path: Path, fails: tuple[float, float], min_pairs: int, verdict: str
) -> None:
    """Whatever the statistics say of them; a candidate that is shown to be worse is worse, however few they are."""
    policy = f"version: 1\nmeasures: {{Groundedness: {{margin: 0.08}}}}\nevidence: {{min_pairs: {min_pairs}}}\n"
    given = requests(500, lambda draw: Request(fails=draw.fails(*fails)))

    cell = judged(tmp_path, given, policy).comparison.cell((), "Groundedness")

    assert cell is not None
    assert cell.evidence.pairs == 500
    assert cell.verdict == verdict


def test_a_decision_says_when_its_evidence_began_and_ended(tmp_path: Path) -> None:
    """Its end tells a gateway whether it is newer than a rollback. A pair is there once its slower arm has answered."""
    given = requests(3, lambda draw: Request(seconds=(1.0, 2.0)))

    decision = decision_of(judged(tmp_path, given))

    assert decision.evidence is not None
    first = datetime.fromtimestamp(START_NS / 1e9, timezone.utc) + timedelta(seconds=2)
    assert (decision.evidence.start, decision.evidence.end) == (first, first + timedelta(seconds=2))
    assert decision.evidence.pairs == 3
    assert decision.made_at == decision.evidence.end


def test_no_gain_no_go(tmp_path: Path) -> None:
    """A candidate that is as good and as slow is not worth a release."""
    given = requests(700, lambda draw: Request(fails=draw.fails(0.02, 0.02), seconds=draw.seconds(1.0)))

    judgement = judged(tmp_path, given, POLICY.replace("  latency.p99: {margin: 0.10, guard: [all]}\n", ""))

    assert judgement.action.value == "keep_mirroring"


def test_worse_everywhere_falls_back(tmp_path: Path) -> None:
    """Users go to the baseline, and the candidate gets nothing."""
    given = requests(500, lambda draw: Request(fails=draw.fails(0.03, 0.3), seconds=draw.seconds(0.5)))

    decision = decision_of(judged(tmp_path, given))

    assert decision.action.value == "fallback"
    assert decision.routes["*"].action.value == "fallback"


def test_worse_on_long_prompts_alone_limits_their_length(tmp_path: Path) -> None:
    """The longest bucket of prompt lengths that is still healthy becomes the limit."""

    def make(draw: Draw) -> Request:
        tokens = draw.one_of(300, 2000, 9000)
        return Request(
            tokens=tokens, fails=draw.fails(0.02, 0.35 if tokens == 9000 else 0.02), seconds=draw.seconds(0.5)
        )

    decision = decision_of(judged(tmp_path, requests(1500, make)))

    assert decision.action.value == "adjust_context_length"
    only = decision.routes["support"].only
    assert only is not None
    assert only.max_prompt_tokens == 4000


@pytest.mark.parametrize("unknown", [0.02, 0.35], ids=["no evidence for short ones", "worse, and maybe short"])
def test_a_prompt_of_unknown_length_is_no_short_one(tmp_path: Path, unknown: float) -> None:
    """Sixty short prompts are too few to judge errors by; and where lengths are not told it may be the short ones
    that regressed."""
    policy = POLICY.replace("{margin: 0.05}", "{margin: 0.2}").replace(
        "{margin: 0.03}", "{margin: 0.05, guard: [route]}"
    )
    chances = {300: 0.02, 9000: 0.5, None: unknown}
    short = 300 if unknown > 0.1 else 60

    def make(tokens: int | None) -> list[Request]:
        told = {"gen_ai.usage.input_tokens": tokens}
        count = short if tokens == 300 else 700
        return requests(
            count,
            lambda draw: Request(
                fails=draw.fails(0.02, chances[tokens]),
                seconds=draw.seconds(0.5),
                baseline=told,
                candidate=told,
            ),
        )

    given = [request for tokens in chances for request in make(tokens)]
    judgement = judged(tmp_path, given, policy)

    assert judgement.verdict((("prompt_tokens", "0-1000"),)) == "healthy"
    assert [one.max_prompt_tokens for one in judgement.allowed] == []


def test_worse_in_one_cohort_restricts_to_the_others(tmp_path: Path) -> None:
    """Within a route, a cohort that is healthy may be served while another is not."""

    def make(draw: Draw) -> Request:
        cohort = draw.one_of("private", "business")
        return Request(
            cohort=cohort, fails=draw.fails(0.02, 0.3 if cohort == "business" else 0.02), seconds=draw.seconds(0.5)
        )

    decision = decision_of(judged(tmp_path, requests(1000, make)))

    assert decision.action.value == "restrict_route"
    only = decision.routes["support"].only
    assert only is not None
    assert only.traffic_cohorts == {"private"}


def test_worse_for_one_intent_restricts_to_the_others(tmp_path: Path) -> None:
    """Low-risk intents of a route go on while another is worse, also where the policy guards routes alone."""

    def make(draw: Draw) -> Request:
        intent = draw.one_of("opening_hours", "refunds", "status")
        return Request(
            intent=intent, fails=draw.fails(0.02, 0.3 if intent == "refunds" else 0.02), seconds=draw.seconds(0.5)
        )

    decision = decision_of(judged(tmp_path, requests(1500, make), POLICY + "guard: [all, route]\n"))

    assert decision.action.value == "restrict_route"
    only = decision.routes["support"].only
    assert only is not None
    assert only.intents == {"opening_hours", "status"}


def test_a_healthy_route_goes_without_a_slice_that_is_worse_somewhere(tmp_path: Path) -> None:
    """Regulated traffic is critical and worse on support alone: the other routes need not wait for all of it."""

    def make(draw: Draw) -> Request:
        route = draw.one_of("faq", "support")
        regulated = draw.one_of(True, False, False, False, False, False)
        hurt = route == "support" and regulated
        return Request(
            route=route,
            slices=("regulated",) if regulated else (),
            fails=draw.fails(0.02, 0.5 if hurt else 0.02),
            seconds=draw.seconds(0.5),
        )

    judgement = judged(tmp_path, requests(1200, make), POLICY + "critical: [{slice: regulated}]\n")

    decision = decision_of(judgement)
    assert judgement.verdict((("route", "faq"),)) == "healthy"
    for route in ("faq", "support"):
        assert decision.routes[route].action.value == "restrict_route"
        assert decision.routes[route].only is not None
        assert decision.routes[route].only.except_slices == {"regulated"}


def test_critical_traffic_that_is_healthy_over_the_healthy_routes_is_withheld_from_none(tmp_path: Path) -> None:
    """Support alone has too few regulated requests to show it; with those of the other healthy route it is shown."""

    def make(draw: Draw) -> Request:
        route = draw.one_of("faq", "support", "tools")
        regulated = draw.one_of(True, False) if route == "faq" else draw.one_of(True, *[False] * 15)
        return Request(
            route=route,
            slices=("regulated",) if regulated and route != "tools" else (),
            fails=draw.fails(0.02, 0.5 if route == "tools" else 0.02),
        )

    policy = "version: 1\nmeasures: {Groundedness: {margin: 0.08}}\nguard: [route]\ncritical: [{slice: regulated}]\n"
    judgement = judged(tmp_path, requests(1500, make), policy)

    assert judgement.verdict((("route", "support"), ("slice", "regulated"))) == "not_enough_evidence"
    assert {part.route: part.except_slices for part in judgement.allowed} == {"faq": (), "support": ()}


def test_where_nothing_is_worse_nothing_is_singled_out(tmp_path: Path) -> None:
    """A route that is not shown to be healthy waits as a whole, also while one of its intents looks good already."""

    def make(draw: Draw) -> Request:
        route = draw.one_of("faq", "support")
        intent = draw.one_of("status", "refunds") if route == "support" else None
        fails = draw.fails(0.02, 0.3 if route == "faq" else 0.02)
        return Request(route=route, intent=intent, fails=draw.fails(0.5, 0.5) if intent == "refunds" else fails)

    policy = "version: 1\nmeasures: {Groundedness: {margin: 0.06}}\nguard: [route]\n"
    judgement = judged(tmp_path, requests(1000, make), policy)

    assert judgement.verdict((("route", "support"),)) == "not_enough_evidence"
    assert judgement.verdict((("route", "support"), ("intent", "status"))) == "healthy"
    assert judgement.allowed == []


def test_a_slice_that_is_worse_over_all_traffic_goes_nowhere_unshown(tmp_path: Path) -> None:
    """Regulated answers are equally worse on six routes, too few on each to show it: no route gets them."""

    def make(draw: Draw) -> Request:
        regulated = draw.one_of(True, False, False, False, False, False)
        return Request(
            route=draw.one_of(*"abcdef"),
            slices=("regulated",) if regulated else (),
            fails=draw.fails(0.03, 0.12 if regulated else 0.03),
        )

    policy = "version: 1\nmeasures:\n  Groundedness: {margin: 0.05}\nguard: [all, route, slice]\n"
    judgement = judged(tmp_path, requests(4000, make), policy)

    assert judgement.verdict((("slice", "regulated"),)) == "regressed"
    assert judgement.allowed
    assert {part.except_slices for part in judgement.allowed} == {("regulated",)}


def test_what_the_gateway_cannot_tell_from_a_request_is_no_exception(tmp_path: Path) -> None:
    """A slice of one's own comes with a span and not with a request: a route cannot be let through without it."""

    def make(draw: Draw) -> Request:
        vip = draw.one_of(True, False, False)
        return Request(
            slices=("vip",) if vip else (), fails=draw.fails(0.02, 0.3 if vip else 0.02), seconds=draw.seconds(0.5)
        )

    judgement = judged(tmp_path, requests(1500, make))

    assert judgement.verdict((("route", "support"), ("slice", "vip"))) == "regressed"
    assert judgement.allowed == []


def test_a_route_that_is_worse_for_another_reason_is_not_explained_by_long_prompts(tmp_path: Path) -> None:
    """One route is worse on long prompts, another for a cohort: that is no matter of context length alone."""

    def make(draw: Draw) -> Request:
        route, tokens = draw.one_of("faq", "support"), draw.one_of(300, 9000)
        cohort = draw.one_of("private", "business")
        hurt = tokens == 9000 if route == "faq" else cohort == "business"
        return Request(
            route=route,
            tokens=tokens,
            cohort=cohort,
            fails=draw.fails(0.02, 0.3 if hurt else 0.02),
            seconds=draw.seconds(0.5),
        )

    policy = POLICY.replace("[1000, 4000]", "[1000]") + "guard: [all, route, prompt_tokens, traffic_cohort]\n"
    decision = decision_of(judged(tmp_path, requests(3000, make), policy))

    assert decision.action.value == "restrict_route"
    assert decision.routes["faq"].action.value == "adjust_context_length"
    assert decision.routes["support"].only is not None
    assert decision.routes["support"].only.traffic_cohorts == {"private"}


def test_a_route_that_is_held_back_says_why(tmp_path: Path) -> None:
    """Who operates the route reads what is worse there, not only that something is."""

    def make(draw: Draw) -> Request:
        route = draw.one_of("faq", "support")
        return Request(
            route=route, fails=draw.fails(0.02, 0.3 if route == "support" else 0.02), seconds=draw.seconds(0.5)
        )

    decision = decision_of(judged(tmp_path, requests(1200, make)))

    assert decision.routes["support"].action.value == "keep_mirroring"
    assert decision.routes["support"].reason.startswith("worse: Groundedness fails on route=support rose from ")


def test_no_pairs_is_not_a_pass(tmp_path: Path) -> None:
    """No data is never a pass, whatever the policy says."""
    given = requests(50, lambda draw: Request(candidate=None))

    judgement = judged(tmp_path, given)

    assert judgement.action.value == "keep_mirroring"
    assert "no data is never a pass" in decision_of(judgement).routes["*"].reason


def test_what_rules_of_ones_own_do_has_a_reason_also_where_nothing_regressed(tmp_path: Path) -> None:
    """Healthy routes go while others wait, or nothing goes until it is known: the sentence says what is lacking."""
    given = requests(600, lambda draw: Request(route="faq" if draw.fails(0.9, 0)[0] else "rare"))
    rules = "version: 1\nmeasures: {errors: {margin: 0.05}}\nguard: [all, route]\nrules:\n"
    lacking = "1 cell lacks evidence, first of all errors on route=rare"

    part = judged(
        tmp_path / "part", given, rules + "  - {when: some_healthy, then: restrict_route}\n  - {then: fallback}\n"
    )
    none = judged(tmp_path / "none", given, rules + "  - {then: fallback}\n")

    assert verdict_sentence(part) == f"Go in part: {lacking}; the candidate may answer route=faq."
    assert verdict_sentence(none) == f"No go: {lacking}; users stay with the baseline."


def test_few_pairs_say_how_many_more_are_needed(tmp_path: Path) -> None:
    """Not enough evidence names the part and the pairs that are still needed."""
    given = requests(40, lambda draw: Request(fails=draw.fails(0.02, 0.02), seconds=draw.seconds(0.5)))

    judgement = judged(tmp_path, given)

    assert judgement.action.value == "keep_mirroring"
    assert any((cell.evidence.pairs_needed or 0) > 0 for cell in judgement.undecided)


def test_an_evaluator_that_the_policy_guards_and_nothing_scores_blocks(tmp_path: Path) -> None:
    """A guarded measure without data is not enough evidence, and named."""
    given = requests(600, lambda draw: Request(fails=draw.fails(0.02, 0.02), seconds=draw.seconds(0.5)))

    judgement = judged(tmp_path, given, POLICY.replace("Groundedness:", "Politeness:"))

    assert judgement.action.value == "keep_mirroring"
    assert "Politeness" in decision_of(judgement).routes["*"].reason


@pytest.mark.parametrize(("where", "action"), [("regulated", "fallback"), ("elsewhere", "restrict_route")])
def test_a_rule_for_critical_traffic_asks_about_critical_traffic_alone(tmp_path: Path, where: str, action: str) -> None:
    """What regresses there takes users back to the baseline; what regresses elsewhere is for the next rule."""

    def make(draw: Draw) -> Request:
        regulated = draw.one_of(True, False)
        worse = 0.02 if regulated is (where == "elsewhere") else 0.35
        return Request(
            route="claims" if regulated else "faq",
            slices=("regulated",) if regulated else (),
            fails=draw.fails(0.02, worse),
        )

    policy = """
version: 1
measures: {Groundedness: {margin: 0.08}}
guard: [route]
critical: [{slice: regulated}]
rules:
  - {when: critical_regressed, then: fallback}
  - {when: [regressed, some_healthy], then: restrict_route}
  - {then: keep_mirroring}
"""
    assert judged(tmp_path, requests(1000, make), policy).action.value == action


def test_a_critical_slice_without_data_blocks(tmp_path: Path) -> None:
    """A slice that must be healthy has to be there."""
    given = requests(700, lambda draw: Request(fails=draw.fails(0.02, 0.02), seconds=draw.seconds(0.5)))

    judgement = judged(tmp_path, given, POLICY + "critical: [{slice: regulated}]\n")

    assert judgement.action.value == "keep_mirroring"


def test_a_part_that_one_measure_guards_by_itself_has_to_be_healthy(tmp_path: Path) -> None:
    """A measure's own `guard` counts as much as the policy's: refunds are worse, so that it is no global go."""

    def make(draw: Draw) -> Request:
        refund = draw.one_of(*range(30)) == 0
        return Request(intent="refund" if refund else "status", fails=draw.fails(0.02, 0.5 if refund else 0.01))

    policy = "version: 1\nmeasures:\n  Groundedness: {margin: 0.05, guard: [all, intent]}\nguard: [all]\n"
    judgement = judged(tmp_path, requests(1500, make), policy)

    assert judgement.verdict(()) == "healthy"
    assert judgement.verdict((("intent", "refund"),)) == "regressed"
    assert judgement.action.value != "promote"


@pytest.mark.parametrize("division", ["slice", "intent"])
def test_a_measure_that_is_judged_nowhere_blocks(tmp_path: Path, division: str) -> None:
    """Spans that nobody put into slices, or that say no intent: what is guarded there alone would pass unseen."""
    policy = f"""
version: 1
measures:
  errors: {{margin: 0.1}}
  Groundedness: {{margin: 0.05, guard: [{division}]}}
"""

    judgement = judged(tmp_path, requests(300, lambda draw: Request(fails=draw.fails(0.0, 0.5))), policy)

    assert judgement.action.value == "keep_mirroring"
    assert f"Groundedness is judged nowhere: no pair has a value of {division}" in verdict_sentence(judgement)
    assert not judgement.holds(Condition.ALL_HEALTHY)


def test_a_critical_slice_is_judged_also_in_measures_with_a_guard_of_their_own(tmp_path: Path) -> None:
    """Regulated answers fail and are few: healthy over all traffic and on every route is not enough."""

    def make(draw: Draw) -> Request:
        regulated = draw.one_of(*range(30)) == 0
        return Request(slices=("regulated",) if regulated else (), fails=draw.fails(0.02, 0.5 if regulated else 0.01))

    policy = "version: 1\nmeasures:\n  Groundedness: {margin: 0.05, guard: [all, route]}\n"
    judgement = judged(tmp_path, requests(1500, make), policy + "critical: [{slice: regulated}]\n")

    assert judgement.verdict((("route", "support"),)) == "healthy"
    assert judgement.verdict((("slice", "regulated"),)) == "regressed"
    assert judgement.action.value != "promote"


def test_looking_for_the_place_of_a_regression_does_not_take_it_back(tmp_path: Path) -> None:
    """Worse everywhere, and just clear enough over all traffic: a hundred small parts of routes change nothing."""

    def make(draw: Draw) -> Request:
        return Request(
            route=draw.one_of(*"abcdef"),
            cohort=draw.one_of("k1", "k2", "k3", "k4"),
            intent=draw.one_of(*"abcdefgh"),
            slices=(draw.one_of("code", "long_context", "multilingual"),),
            tokens=draw.one_of(100, 1000, 4000),
            fails=draw.fails(0.03, 0.06),
        )

    policy = "version: 1\nmeasures:\n  Groundedness: {margin: 0.02}\n"
    judgement = judged(tmp_path, requests(1300, make, seed=4), policy)

    assert len(judgement.comparison.cells) > 100
    assert judgement.verdict(()) == "regressed"
    assert judgement.action.value == "fallback"


def test_the_same_spans_give_the_same_bytes_in_any_order(tmp_path: Path) -> None:
    """The decision can be recomputed: lines in another order, another run, the same file."""
    given = requests(300, document_case)
    first = write_store(tmp_path / "one", given, below=True)
    second = tmp_path / "two"
    second.mkdir()
    [segment] = first.glob("spans-*.jsonl")
    lines = segment.read_text().splitlines()
    (second / segment.name).write_text("\n".join(reversed(lines)) + "\n")

    texts = {
        decision_text(decision_of(Judgement(compare(open_source(place), parse_policy(POLICY)))))
        for place in (first, second)
    }

    assert len(texts) == 1
    assert Decision.model_validate_json(texts.pop()).evidence is not None


def test_of_several_spans_below_an_arm_the_last_attempt_counts_in_any_order(tmp_path: Path) -> None:
    """A server that was asked again scored both attempts: what the user got counts, wherever it stands in the file."""
    store = write_store(tmp_path / "once", requests(300, document_case), below=True)
    [segment] = store.glob("spans-*.jsonl")
    attempts = []
    for line in segment.read_text().splitlines():
        span = json.loads(line)
        attempts.append(span)
        if span["kind"] == "INTERNAL":
            failed = {"gen_ai.evaluation.Groundedness.score": 0.0, "gen_ai.evaluation.Groundedness.passed": False}
            earlier = span["start_time_unix_nano"] - 1
            attempts.append(
                {**span, "span_id": span["span_id"][::-1], "start_time_unix_nano": earlier, "attributes": failed}
            )
    wanted = judged(tmp_path / "wanted", requests(300, document_case), below=True).comparison.cell((), "Groundedness")
    assert wanted is not None
    for name, spans in (("one", attempts), ("two", attempts[::-1])):
        (tmp_path / name).mkdir()
        (tmp_path / name / segment.name).write_text("\n".join(map(json.dumps, spans)) + "\n")

        found = compare(open_source(tmp_path / name), parse_policy(POLICY)).cell((), "Groundedness")

        assert found is not None
        assert (found.baseline, found.candidate) == (wanted.baseline, wanted.candidate)


def test_a_span_that_came_with_scores_and_without_counts_with_them_in_any_order(tmp_path: Path) -> None:
    """An exporter of the application's own beside the one that waits for scores: both send to one collector."""
    store = write_store(tmp_path / "once", requests(300, document_case))
    [segment] = store.glob("spans-*.jsonl")
    scored = [json.loads(line) for line in segment.read_text().splitlines()]
    unscored = [
        {**span, "attributes": {key: value for key, value in span["attributes"].items() if "evaluation" not in key}}
        for span in scored
    ]
    texts = {decision_text(decision_of(judged(tmp_path / "wanted", requests(300, document_case))))}
    for name, spans in (("one", scored + unscored), ("two", unscored + scored)):
        (tmp_path / name).mkdir()
        (tmp_path / name / segment.name).write_text("\n".join(map(json.dumps, spans)) + "\n")

        texts.add(decision_text(decision_of(Judgement(compare(open_source(tmp_path / name), parse_policy(POLICY))))))

    assert len(texts) == 1


def test_the_bytes_do_not_depend_on_the_process() -> None:
    """Sets of cohorts and slices are written in order: Python gives them another one in each process."""
    program = """
from traceai_vllm.gateway.decision import Decision
from traceai_vllm.release import decision_text
only = {"traffic_cohorts": ["eu", "us", "uk", "apac"], "except_slices": ["code", "regulated"]}
route = {"action": "restrict_route", "only": only}
print(decision_text(Decision(
    action="restrict_route", policy_hash="x", made_at="2026-11-23T12:00:00Z", routes={"support": route})))
"""
    texts = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONHASHSEED": str(seed)},
            capture_output=True,
            check=True,
        ).stdout
        for seed in range(4)
    }

    assert len(texts) == 1


def test_silence_of_users_who_never_saw_the_candidate_is_no_praise(tmp_path: Path) -> None:
    """While the candidate only gets copies, there is no feedback on it: no data, and no data is never a pass."""
    given = requests(600, lambda draw: Request(fails=draw.fails(0.0, 0.0), seconds=draw.seconds(0.5)))
    policy = "version: 1\nmeasures:\n  thumbs_down: {margin: 0.05}\nguard: [all]\n"

    judgement = judged(tmp_path, given, policy)

    assert judgement.action.value == "keep_mirroring"
    assert {cell.evidence.pairs for cell in judgement.undecided} == {0}
