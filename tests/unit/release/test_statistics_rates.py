"""Paired fail rates and scores: published examples, and promises that hold for any pairs."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom

from traceai_vllm.release.statistics import (
    Evidence,
    paired_quantiles,
    paired_rate_counts,
    paired_rates,
    paired_scores,
)
from traceai_vllm.release.statistics.clusters import clusters_of
from traceai_vllm.release.statistics.fixed import tango_interval

PAIRS = st.lists(st.tuples(st.booleans(), st.booleans()), max_size=60)


def arms(only_candidate: int, only_baseline: int, pairs: int) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of fails with these disagreements, the rest without fails, shuffled."""
    baseline, candidate = np.zeros(pairs, bool), np.zeros(pairs, bool)
    candidate[:only_candidate] = True
    baseline[only_candidate : only_candidate + only_baseline] = True
    order = np.random.default_rng(7).permutation(pairs)
    return baseline[order], candidate[order]


@pytest.mark.parametrize(
    ("counts", "alpha", "published"),
    [
        # Bentur et al. 2009, in Fagerland, Lydersen, Laake, "Recommended tests and confidence intervals for paired
        # binomial proportions", Statistics in Medicine 33, 2014: Tango -0.517 to -0.026.
        ((1, 7, 21), 0.025, (-0.517, -0.026)),
        # R's PropCIs::scoreci.mp(60, 20, 1000).
        ((20, 60, 1000), 0.025, (-0.0584, -0.0231)),
        # 90 % interval of 48 against 41 disagreements in 549 pairs, from the same package.
        ((48, 41, 549), 0.05, (-0.0157, 0.0414)),
    ],
)
def test_tangos_interval_is_the_published_one(counts, alpha, published) -> None:
    """The score interval of a difference of paired rates agrees with other people's software."""
    assert tango_interval(*counts, alpha) == pytest.approx(published, abs=5e-4 if counts[2] == 21 else 6e-5)


@pytest.mark.parametrize(("pairs", "margin"), [(25, 0.1), (54, 0.05), (140, 0.02), (560, 0.005), (20, 0.2)])
def test_one_look_at_rare_fails_passes_what_is_as_bad_as_the_margin_no_more_often_than_said(pairs, margin) -> None:
    """Where the baseline never fails, the chance is exact; Tango's interval alone lets 6 to 7 % through."""
    chance = 0.0
    for fails in range(pairs + 1):
        found = paired_rate_counts(fails, 0, pairs, margin=margin, mode="fixed")
        if found.verdict != "healthy":
            break
        chance += float(binom.pmf(fails, pairs, margin))
    assert chance <= 0.05


def test_mcnemars_exact_test_is_the_fixed_p_value() -> None:
    """7 disagreements against the candidate and 1 for it: P(X >= 7 of 8 tosses) = 9/256."""
    found = paired_rates(*arms(7, 1, 21), margin=0.1, mode="fixed")

    assert found.p_value == pytest.approx(9 / 256)
    assert found.verdict == "regressed"


@pytest.mark.parametrize("mode", ["anytime", "fixed"])
def test_no_data_is_never_a_pass(mode) -> None:
    """Without pairs there is no verdict, whatever the margin."""
    for found in (
        paired_rates([], [], margin=0.5, mode=mode),
        paired_scores([], [], margin=0.5, mode=mode),
        paired_rate_counts(0, 0, 0, margin=0.5, mode=mode),
    ):
        assert found.verdict == "not_enough_evidence"
        assert np.isnan(found.estimate)
        assert (found.low, found.high) == (-1, 1)
        assert found.pairs_needed


@pytest.mark.parametrize("mode", ["anytime", "fixed"])
def test_the_three_verdicts(mode) -> None:
    """Equal, much worse, and few pairs each get their verdict."""
    assert paired_rates(*arms(50, 50, 3000), margin=0.03, mode=mode).verdict == "healthy"
    assert paired_rates(*arms(300, 50, 3000), margin=0.03, mode=mode).verdict == "regressed"
    assert paired_rates(*arms(3, 2, 60), margin=0.03, mode=mode).verdict == "not_enough_evidence"


def test_a_loss_within_the_margin_is_healthy() -> None:
    """A loss of one point that is certain, where three were allowed beforehand."""
    found = paired_rate_counts(2000, 1000, 100_000, margin=0.03)

    assert found.low > 0
    assert found.verdict == "healthy"


def test_what_broke_on_the_way_is_regressed() -> None:
    """Good for 3,000 pairs, then down: the earlier verdict does not stand against the evidence since."""
    baseline = np.zeros(6000, bool)
    candidate = np.concatenate([np.zeros(3000, bool), np.ones(3000, bool)])

    assert paired_rates(baseline, candidate, margin=0.03).verdict == "regressed"


def test_the_verdict_says_when_it_was_there_first() -> None:
    """Ten fails in a row after 100 good pairs: named within those ten, in whatever order they are given."""
    candidate = np.concatenate([np.zeros(100, bool), np.ones(10, bool), np.zeros(100, bool)])
    shuffled = np.random.default_rng(3).permutation(210)
    found = paired_rates(np.zeros(210, bool), candidate[shuffled], order=shuffled, margin=0.05)

    assert found.verdict == "regressed"
    assert 100 < (found.decided_at or 0) <= 110


def test_a_cluster_is_one_unit_of_evidence() -> None:
    """Copies of every pair within its session add nothing."""
    baseline, candidate = arms(30, 10, 300)
    alone = paired_rates(baseline, candidate, margin=0.05)
    copied = paired_rates(
        np.repeat(baseline, 5), np.repeat(candidate, 5), clusters=np.repeat(np.arange(300), 5), margin=0.05
    )

    assert copied.pairs == 1500
    assert copied.clusters == alone.clusters == 300
    assert (copied.e_value, copied.low, copied.high) == pytest.approx((alone.e_value, alone.low, alone.high))


@settings(max_examples=40, deadline=None)
@given(ids=st.lists(st.integers(0, 12), min_size=1, max_size=40), seed=st.integers(0, 5))
def test_what_clusters_are_called_does_not_matter(ids, seed) -> None:
    """Numbers, names, or numbers with large gaps: the same sessions, in order of their last pair."""
    random = np.random.default_rng(seed)
    order, values = random.permutation(len(ids)), random.random(len(ids))
    last = {name: max(place for place, one in zip(order, ids, strict=True) if one == name) for name in ids}
    expected = [np.mean(values[np.array(ids) == name]) for name in sorted(last, key=lambda name: last[name])]
    for names in (ids, [f"session {one}" for one in ids], [one * 10**9 - 7 for one in ids]):
        found = clusters_of(len(ids), names, order)
        assert found.means(values) == pytest.approx(expected)
        again = clusters_of(len(ids), np.array(names)[np.argsort(order)])
        assert again.means(values[np.argsort(order)]) == pytest.approx(expected)


def test_counts_are_the_same_as_pairs() -> None:
    """A database's counts give what the pairs themselves give, when looks are the same."""
    baseline, candidate = arms(25, 20, 400)
    pairs = paired_rates(baseline, candidate, margin=0.04)
    counts = paired_rate_counts(candidate & ~baseline, baseline & ~candidate, np.ones(400), margin=0.04)

    assert counts == pairs
    fixed = paired_rate_counts(25, 20, 400, margin=0.04, mode="fixed")
    assert repr(fixed) == repr(paired_rates(baseline, candidate, margin=0.04, mode="fixed"))


def test_many_values_are_rounded_against_the_finding() -> None:
    """More than 4,096 scores are worked on in steps: the interval is no narrower than that of the exact ones."""
    rng = np.random.default_rng(11)
    baseline = rng.uniform(size=4096)
    candidate = np.clip(baseline - rng.normal(0.02, 0.1, 4096), 0, 1)
    exact = paired_scores(baseline, candidate, margin=0.05)
    stepped = paired_scores(np.append(baseline, 0.5), np.append(candidate, 0.5), margin=0.05)

    assert stepped.low <= exact.low + 1e-4
    assert stepped.estimate == pytest.approx(exact.estimate, abs=1e-3)
    assert stepped.high == pytest.approx(exact.high, abs=2e-3)


def test_scores_on_another_scale() -> None:
    """Scores from 1 to 5 give four times what the same scores from 0 to 1 give."""
    rng = np.random.default_rng(5)
    baseline, candidate = rng.uniform(size=(2, 500))
    small = paired_scores(baseline, candidate, margin=0.1)
    large = paired_scores(1 + 4 * baseline, 1 + 4 * candidate, margin=0.4, lowest=1, highest=5)

    assert (large.low, large.estimate, large.high) == pytest.approx((4 * small.low, 4 * small.estimate, 4 * small.high))
    assert large.verdict == small.verdict


@settings(max_examples=60, deadline=None)
@given(pairs=PAIRS, margin=st.sampled_from([0.02, 0.2, 0.6]), mode=st.sampled_from(["anytime", "fixed"]))
def test_interval_estimate_and_verdict_fit_together(pairs, margin, mode) -> None:
    """The estimate lies inside the interval, and the verdict can be read off it."""
    baseline, candidate = [first for first, _ in pairs], [second for _, second in pairs]
    found = paired_rates(baseline, candidate, margin=margin, mode=mode)

    if pairs:
        assert found.low - 1e-6 <= found.estimate or found.decided_at
        assert found.estimate <= found.high + 1e-6 or found.decided_at
    if found.verdict == "healthy":
        assert found.high <= margin
    if found.verdict == "regressed":
        assert found.p_value <= 0.05
    assert (found.pairs_needed is None) == (found.verdict != "not_enough_evidence")


@settings(max_examples=40, deadline=None)
@given(pairs=PAIRS)
def test_the_order_of_pairs_does_not_move_the_interval_without_a_verdict(pairs) -> None:
    """Arrival decides when something is seen, not what is seen at the end."""

    def interval(found: Evidence) -> tuple[float, float, float]:
        return found.low, found.high, found.e_value

    baseline, candidate = [first for first, _ in pairs], [second for _, second in pairs]
    there = paired_rates(baseline, candidate, margin=0.9)
    back = paired_rates(baseline[::-1], candidate[::-1], margin=0.9)
    if there.p_value > 0.05 < back.p_value and there.verdict == back.verdict:
        assert interval(there) == pytest.approx(interval(back))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda: paired_rates([0, 1], [0], margin=0.1), "same length"),
        (lambda: paired_rates([0.5], [0], margin=0.1), "0 or 1"),
        (lambda: paired_rates([0], [np.nan], margin=0.1), "missing"),
        (lambda: paired_quantiles([1.0] * 9, [1.0] * 8 + [np.inf], quantile=0.95, margin=1.1), "infinite"),
        (lambda: paired_rates([0], [0], margin=-0.1), "alarm level"),
        (lambda: paired_rates([0], [0], margin=0.1, clusters=[1, 2]), "clusters has shape"),
        (lambda: paired_scores([2.0], [0.0], margin=0.1), "outside"),
        (lambda: paired_rate_counts(3, 3, 5, margin=0.1), "no more disagreements"),
    ],
)
def test_errors_say_what_is_wrong(wrong, message) -> None:
    """Input that cannot be judged is refused, never guessed at."""
    with pytest.raises(ValueError, match=message):
        wrong()
