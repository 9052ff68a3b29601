"""policy.yaml: errors name the line and the fix; what a policy may not say, it cannot say."""

from __future__ import annotations

from pathlib import Path

import pytest

from traceai_vllm.release import PolicyError, load_policy, parse_policy

EXAMPLES = Path(__file__).parents[3] / "examples" / "policies"
LEAST = "version: 1\nmeasures:\n  Groundedness: {margin: 0.02}\n"


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.yaml")), ids=lambda path: path.name)
def test_the_examples_can_be_used(path: Path) -> None:
    """Each example loads."""
    assert load_policy(path).measures


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        (LEAST + "limits:\n  unpared: 0.1\n", 5, "did you mean `unpaired`?"),
        (LEAST + "gains:\n  - {measure: latency.p55, at_least: 0.1}\n", 5, "latency.p50"),
        ("version: 1\nmeasures:\n  latncy.p99: {margin: 0.1}\n", 2, "did you mean `latency.p99`?"),
        ("version: 1\nmeasures:\n  Groundedness: {}\n", 3, "add `margin: …`"),
        (LEAST + "rules:\n  - {when: regressed, then: fallback}\n", 4, "the last rule has to hold always"),
        (LEAST + "rules:\n  - {then: promote}\n", 4, "no data is never a pass"),
        (LEAST + "rules:\n  - {then: pray}\n", 5, "'promote'"),
        (LEAST + "prompt_token_buckets: [4000, 1000]\n", 4, "ascending"),
        (LEAST + "prices:\n  m: {gpu_hour: 2}\n", 5, "tokens_per_second"),
        (LEAST + "evidence: {alpha: 0.9}\n", 4, "less than 0.5"),
        ("version: 1\n", 1, "measures: is missing"),
        ("version: [\n", 2, "this is no YAML"),
        (LEAST + "  Groundedness: {margin: 0.5}\n", 4, "Groundedness: is there twice"),
        (LEAST + "overrides:\n  - where: {route: a, route: b}\n    measures: {}\n", 5, "route: is there twice"),
        ("version: 1\nmeasures:\n  Groundedness: 0.02\n", 3, "a table is needed here"),
        (
            "version: 1\nmeasures:\n  errors: {margin: 0.02, guard: [all]}\ncritical: [{slice: regulated}]\n",
            1,
            "critical: nothing is judged in slice=regulated",
        ),
        ("- version: 1\n", 1, "a table is needed here"),
        ("version: 1\nmeasures:\n  Groundedness: {margin: 5}\n", 3, "margin: 5 is everything: write a share below 1"),
        (
            LEAST + "overrides:\n  - where: {route: a}\n    measures: {errors: {margin: 2}}\n",
            6,
            "write a share below 1",
        ),
        (
            LEAST + "overrides:\n  - where: {route: a}\n    measures: {errors: {margin: 0.1, threshold: 0.9}}\n",
            6,
            "threshold: is not known here; remove it",
        ),
        ("version: 1\nmeasures:\n  errors: {margin: 0.1, threshold: 0.9}\n", 3, "goes with the name of an evaluator"),
        (LEAST + "critical: [{}]\n", 4, "name a part of the traffic, by one or more of route"),
        (LEAST + "overrides:\n  - where: {}\n    measures: {errors: {margin: 0.1}}\n", 5, "name a part of the traffic"),
    ],
)
def test_an_error_names_the_line_and_the_fix(text: str, line: int, says: str) -> None:
    """A person can go to the line and type what is said."""
    with pytest.raises(PolicyError) as error:
        parse_policy(text, "policy.yaml")

    assert str(error.value).startswith(f"policy.yaml:{line}: ")
    assert says in str(error.value)


def test_a_policy_is_known_by_what_it_says_and_not_by_how(tmp_path: Path) -> None:
    """Comments, order and quotes do not change the hash; a margin does."""
    other = "# ours\nmeasures: {'Groundedness': {margin: 0.020}}\nversion: 1\n"

    assert parse_policy(LEAST).hash == parse_policy(other).hash
    assert parse_policy(LEAST).hash != parse_policy(LEAST.replace("0.02", "0.03")).hash


def test_a_missing_file_is_said(tmp_path: Path) -> None:
    """Not a traceback."""
    with pytest.raises(PolicyError, match="cannot be read"):
        load_policy(tmp_path / "no.yaml")


def test_what_is_of_all_traffic_alone_is_not_judged_where_it_is_critical() -> None:
    """A p99 needs a thousand pairs; every other measure is judged in a critical part, whatever guards it has."""
    policy = parse_policy(
        "version: 1\nmeasures:\n  errors: {margin: 0.02, guard: [all, route]}\n"
        "  latency.p99: {margin: 0.1, guard: [all]}\ncritical: [{slice: regulated}]\n"
    )
    regulated = (("slice", "regulated"),)

    assert policy.guard_of("errors", regulated) is not None
    assert policy.guard_of("errors", (("slice", "code"),)) is None
    assert policy.guard_of("latency.p99", regulated) is None


def test_margins_of_a_part_win_there() -> None:
    """An override holds where it fits, and nowhere else."""
    policy = parse_policy(LEAST + "overrides:\n  - where: {route: faq}\n    measures: {Groundedness: {margin: 0.1}}\n")

    faq = policy.guard_of("Groundedness", (("route", "faq"),))
    support = policy.guard_of("Groundedness", (("route", "support"),))

    assert faq is not None
    assert support is not None
    assert (faq.margin, support.margin) == (0.1, 0.02)
    assert policy.guard_of("errors", ()) is None


def test_another_margin_for_a_part_guards_it_and_nothing_more_within_it() -> None:
    """A p99 of all traffic alone, allowed more on one route: each slice of it would need a thousand pairs."""
    policy = parse_policy(
        "version: 1\nmeasures:\n  errors: {margin: 0.02}\n  latency.p99: {margin: 0.1, guard: [all]}\n"
        "critical: [{route: faq, slice: regulated}]\n"
        "overrides: [{where: {route: faq}, measures: {latency.p99: {margin: 0.2}, errors: {margin: 0.05}}}]\n"
    )
    faq = ("route", "faq")
    within = [(faq, ("slice", "code")), (faq, ("prompt_tokens", "0-512")), (faq, ("slice", "regulated"))]

    allowed = policy.guard_of("latency.p99", (faq,))
    assert allowed is not None
    assert allowed.margin == 0.2
    assert [policy.guard_of("latency.p99", scope) for scope in within] == [None] * 3
    margins = [guard.margin for scope in within if (guard := policy.guard_of("errors", scope)) is not None]
    assert margins == [0.05] * 3
