"""What the statistics promise, by simulation with fixed seeds; `make bench-release` does the same at full size."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from traceai_vllm.release.statistics import (
    all_healthy,
    e_bh,
    holm,
    paired_quantiles,
    paired_rate_counts,
    paired_rates,
    paired_scores,
    pairs_needed,
    sign_walk,
    unpaired_rates,
)
from traceai_vllm.release.statistics.clusters import clusters_of
from traceai_vllm.release.statistics.fixed import mean_interval
from traceai_vllm.release.statistics.quantile_betting import Sample, log_evidence, plausible
from traceai_vllm.release.statistics.stream import both_streams


def rng() -> np.random.Generator:
    return np.random.default_rng(20261123)


@pytest.mark.parametrize(
    ("disagreement", "difference", "usual"),
    [(0.1, 0.03, 687), (0.05, 0.03, 344), (0.15, 0.1, 93), (0.02, 0.02, 310), (0.01, 0.02, 155), (0.3, 0.1, 186)],
)
def test_a_plan_for_one_look_is_enough(disagreement, difference, usual) -> None:
    """Four of five candidates get their verdict, good or bad, of which the usual formula promises too much."""
    planned = pairs_needed(disagreement, difference, mode="fixed")
    assert planned is not None
    assert planned > usual
    most = max(disagreement, difference)

    def found(worse: float, better: float, verdict: str) -> float:
        drawn = rng().multinomial(planned, [worse, better, 1 - worse - better], 2000)[:, :2]
        counts, times = np.unique(drawn, axis=0, return_counts=True)
        looks = (paired_rate_counts(*one, planned, margin=difference, mode="fixed") for one in counts)
        return sum(count for count, look in zip(times, looks, strict=True) if look.verdict == verdict) / 2000

    assert found(disagreement / 2, disagreement / 2, "healthy") > 0.78
    assert found((most + difference) / 2, (most - difference) / 2, "regressed") > 0.78


@pytest.mark.parametrize(("disagreement", "margin"), [(0.1, 0.03), (0.05, 0.05), (0.02, 0.02)])
def test_a_plan_is_enough_for_a_candidate_that_is_as_good(disagreement: float, margin: float) -> None:
    """Four of five equal candidates are healthy by then, also where few pairs disagree."""
    random = np.random.default_rng(9)
    planned = pairs_needed(disagreement, margin)
    assert planned is not None
    draws = random.random((200, planned))
    shown = [
        paired_rates(draw < disagreement / 2, draw > 1 - disagreement / 2, margin=margin).verdict == "healthy"
        for draw in draws
    ]

    assert np.mean(shown) == pytest.approx(0.8, abs=0.1)


def test_looking_at_any_time_costs_about_twice_the_pairs_at_most() -> None:
    """The plan for looking after every pair: dearer than one look, and not by much."""
    for disagreement, difference in ((0.1, 0.03), (0.05, 0.03), (0.15, 0.1)):
        once = pairs_needed(disagreement, difference, mode="fixed")
        always = pairs_needed(disagreement, difference)

        assert once is not None
        assert always is not None
        assert once < always < 2.1 * once


def test_what_cannot_be_planned_has_no_number() -> None:
    """A difference too small for any amount of traffic gives None, and nonsense an error."""
    assert pairs_needed(1.0, 1e-6) is None
    with pytest.raises(ValueError, match="difference"):
        pairs_needed(0.1, 0)


@pytest.mark.parametrize("alpha", [0.05, 0.01])
def test_the_threshold_is_reached_by_chance_as_often_as_stated(alpha) -> None:
    """20,000 walks of 300 disagreements at even odds: the share that is ever named is at most alpha, and near it."""
    needed = sign_walk.ups_needed(sign_walk.threshold(alpha), 300)
    ups = np.cumsum(rng().integers(0, 2, size=(20_000, 300), dtype=np.int16), axis=1)
    named = float((ups >= needed[1:]).any(axis=1).mean())

    assert 0.7 * alpha < named < alpha + 3 * np.sqrt(alpha / 20_000)


def test_the_walk_is_the_verdict() -> None:
    """The boundary that benchmarks use is the one by which paired_rates decides."""
    needed = sign_walk.ups_needed(sign_walk.threshold(0.05), 60)
    for steps in (6, 20, 60):
        for ups in range(steps + 1):
            signs = np.array([False] * (steps - ups) + [True] * ups)
            reached = bool((np.cumsum(signs) >= needed[1 : steps + 1]).any())
            found = paired_rates(~signs, signs, margin=0.99)

            assert (found.p_value <= 0.05) == reached


def test_evidence_on_quantiles_averages_at_most_one() -> None:
    """Equal arms: the e-value at a fixed look has a mean of at most 1, at the median and far out, in clusters."""
    random = rng()
    for quantile, size in ((0.5, 60), (0.95, 120)):
        values = []
        for _ in range(400):
            shared = np.repeat(random.normal(size=size // 2), 2)
            first, second = (shared + random.normal(size=size) for _ in range(2))
            sample = Sample(first, second, np.full(size, 0.5), np.repeat(np.arange(size // 2), 2))
            values.append(log_evidence(sample, plausible(sample, quantile, 0.05), 0.0, higher=True))

        assert np.mean(np.exp(values)) < 1


def test_quantile_intervals_cover() -> None:
    """A candidate that is a fifth slower: the interval of the ratio has 1.2 in it nearly always, in both modes."""
    random = rng()
    for mode, least in (("anytime", 0.95), ("fixed", 0.82)):
        inside = []
        for _ in range(40):
            shared = random.lognormal(0, 0.5, 150)
            first, second = shared * random.lognormal(0, 0.2, 150), 1.2 * shared * random.lognormal(0, 0.2, 150)
            found = paired_quantiles(first, second, quantile=0.5, margin=1.5, mode=mode)
            inside.append(found.low <= 1.2 <= found.high)

        assert np.mean(inside) >= least


def test_a_median_of_few_sessions_is_seldom_called_healthy_at_the_margin() -> None:
    """Four sessions, each with a speed of its own: one look errs no more often than it says."""
    random = rng()
    sessions = np.repeat(np.arange(4), 30)
    healthy = 0
    for _ in range(600):
        first, second = (
            factor * np.exp(random.normal(0, 0.4, 120) + random.normal(0, 0.2, 4)[sessions]) for factor in (1.0, 1.2)
        )
        found = paired_quantiles(first, second, quantile=0.5, margin=1.2, clusters=sessions, mode="fixed")
        healthy += found.verdict == "healthy"

    assert healthy <= 0.05 * 600


def test_clocks_that_round_give_no_false_alarm() -> None:
    """Times in whole tenths, many of them equal: equal arms are left alone, and so is one time for all."""
    random = rng()
    named = 0
    for _ in range(40):
        shared = random.lognormal(0, 0.5, 200)
        first, second = (np.ceil(10 * shared * random.lognormal(0, 0.3, 200)) / 10 for _ in range(2))
        named += paired_quantiles(first, second, quantile=0.5, margin=1.2).verdict == "regressed"

    assert named <= 4
    for mode in ("anytime", "fixed"):
        same = paired_quantiles(np.ones(500), np.ones(500), quantile=0.5, margin=1.2, mode=mode)
        assert same.verdict != "regressed"
        assert same.low <= same.estimate == 1 <= same.high


def test_a_slow_candidate_is_named_and_an_equal_one_is_not() -> None:
    """Twice the latency is named within 100 pairs; the same latency is healthy within a margin of a tenth."""
    random = rng()
    shared = random.lognormal(0, 0.5, 3000)
    first, second = shared * random.lognormal(0, 0.1, 3000), shared * random.lognormal(0, 0.1, 3000)
    slow = paired_quantiles(first[:100], 2 * second[:100], quantile=0.5, margin=1.1)
    equal = paired_quantiles(first, second, quantile=0.5, margin=1.1)

    assert slow.verdict == "regressed"
    assert slow.low > 1
    assert (slow.decided_at or 0) < 100
    assert equal.verdict == "healthy"


@pytest.mark.parametrize("mode", ["anytime", "fixed"])
def test_a_tail_needs_more_than_a_few_values(mode) -> None:
    """p99 of 40 pairs: no verdict, and no upper end."""
    values = np.linspace(1, 2, 40)
    found = paired_quantiles(values, values[::-1], quantile=0.99, margin=1.5, mode=mode)

    assert found.verdict == "not_enough_evidence"
    assert found.high == np.inf


def test_clusters_widen_the_interval_until_it_covers() -> None:
    """50 pairs to a session that shares a mood (intraclass correlation .04): 95 % intervals cover in 93 to 97 %."""
    random, clusters, size = rng(), 40, 50
    pairs = clusters * size
    units = clusters_of(pairs, np.repeat(np.arange(clusters), size))
    inside = []
    for _ in range(600):
        mood = np.repeat(random.normal(0, 0.2, clusters), size)
        differences = 0.1 * units.means(mood + random.normal(0, 0.98, pairs))
        low, high = mean_interval(*both_streams(differences), 0.025, clusters / pairs)
        inside.append(low <= 0 <= high)

    assert 0.93 <= np.mean(inside) <= 0.97


@pytest.mark.parametrize("sessions", [5, 10, 20, 40])
def test_few_sessions_are_not_healthy_by_chance(sessions) -> None:
    """Sessions of two pairs, the candidate worse by the margin: at one look healthy in one of twenty at most."""
    random, clusters, baseline = rng(), np.repeat(np.arange(sessions), 2), np.zeros(2 * sessions)
    for margin in (0.02, 0.1):
        healthy = {"rates": 0, "scores": 0}
        for _ in range(200):
            fails = random.random(2 * sessions) < margin
            rates = paired_rates(baseline, fails, margin=margin, clusters=clusters, mode="fixed")
            scores = paired_scores(1 - baseline, 1 - 0.5 * fails, margin=margin / 2, clusters=clusters, mode="fixed")
            healthy["rates"] += rates.verdict == "healthy"
            healthy["scores"] += scores.verdict == "healthy"

        assert max(healthy.values()) <= 200 * 0.05 + 2 * np.sqrt(200 * 0.05 * 0.95)


@pytest.mark.parametrize("clusters", [["a", "a", "b"], ["a", "b", "c"]], ids=["two sessions", "no sessions"])
def test_three_pairs_without_a_difference_are_no_evidence(clusters) -> None:
    """That nothing differs does not mean that nothing varies."""
    once = {"clusters": clusters, "mode": "fixed"}
    for found in (
        paired_rates([0, 0, 0], [0, 0, 0], margin=0.02, **once),
        paired_scores([1, 1, 1], [1, 1, 1], margin=0.02, **once),
        paired_quantiles([1.0, 2.0, 3.0], [1.0, 2.0, 3.0], quantile=0.99, margin=1.1, **once),
    ):
        assert found.verdict == "not_enough_evidence"


def test_two_sessions_that_are_worse_alike_are_no_alarm() -> None:
    """One fail more in each of two sessions: their means have no spread, and that is not certainty."""
    once = {"clusters": ["a", "a", "b", "b"], "mode": "fixed"}

    assert paired_rates([0, 0, 0, 0], [1, 0, 1, 0], margin=0.1, **once).verdict == "not_enough_evidence"
    assert paired_scores([1, 1, 1, 1], [0.5, 1, 0.5, 1], margin=0.1, **once).verdict == "not_enough_evidence"


def test_sessions_count_as_pairs_as_far_as_their_pairs_differ() -> None:
    """50 sessions of 4 are 50 pairs when those of one are all alike or say nothing, and else 150 and more."""
    units, random = clusters_of(200, np.repeat(np.arange(50), 4)), rng()
    alike, apart, nothing = np.repeat(random.random(50) < 0.3, 4), random.random(200) < 0.3, np.zeros(200, bool)
    found = [units.effective(units.means(one), one.mean(), one.sum()) for one in (alike, apart, nothing)]

    assert found[0] == pytest.approx(50, abs=2)
    assert 150 < found[1] < 200
    assert found[2] == 50


@pytest.mark.parametrize(("pairs", "rare"), [(100, 0.05), (200, 0.05), (500, 0.01)])
@pytest.mark.parametrize("drops", [True, False], ids=["drops", "gains"])
def test_rare_large_changes_of_a_score_are_not_overlooked(pairs, rare, drops) -> None:
    """A few scores change by all there is: at one look no more than one in twenty releases gets a wrong verdict."""
    random, wrong = rng(), 0
    for _ in range(200):
        changed = random.random(pairs) < rare
        if drops:  # as bad as the margin
            found = paired_scores(np.ones(pairs), 1.0 - changed, margin=rare, mode="fixed")
            wrong += found.verdict == "healthy"
        else:  # as good as the baseline: what few gain the others lose
            lost = rare / (1 - rare)
            found = paired_scores(np.where(changed, 0, lost), 1.0 * changed, margin=0.2, mode="fixed")
            wrong += found.p_value <= 0.05

    assert wrong <= 200 * 0.05 + 2 * np.sqrt(200 * 0.05 * 0.95)


def test_scores_of_nought_and_one_have_the_exact_interval() -> None:
    """Clopper and Pearson's, to three digits: the candidate loses 4 of 200 points that the baseline always has."""
    found = paired_scores(np.ones(200), np.repeat([0.0, 1.0], [4, 196]), margin=0.1, mode="fixed")

    assert found.high == pytest.approx(stats.beta.ppf(0.95, 5, 196), rel=1e-3)


def test_a_score_that_hardly_moves_takes_few_pairs() -> None:
    """Changes of a tenth, three points allowed: of 60 equal candidates with 250 pairs nearly all are healthy."""
    random = rng()
    healthy = 0
    for _ in range(60):
        first = random.uniform(0.3, 0.7, 250)
        found = paired_scores(first, first + random.normal(0, 0.1, 250).clip(-0.3, 0.3), margin=0.03, mode="fixed")
        healthy += found.verdict == "healthy"

    assert healthy > 54


def test_missing_pairs_can_be_compared_as_two_groups() -> None:
    """Ten baseline requests to one of the candidate, in any order of arrival."""
    random = rng()
    first, second = random.random(5000) < 0.05, random.random(500) < 0.2
    times = random.random(5000), random.random(500)
    for mode in ("anytime", "fixed"):
        found = unpaired_rates(first, second, margin=0.03, mode=mode)

        assert found.verdict == "regressed"
        assert found.low <= 0.15 <= found.high
    arrived = unpaired_rates(first, second, margin=0.03, baseline_order=times[0], candidate_order=times[1])
    assert arrived.verdict == "regressed"
    assert unpaired_rates(first, [], margin=0.03).verdict == "not_enough_evidence"
    assert unpaired_rates([0] * 50, [0] * 50, margin=0.03, mode="fixed").verdict == "not_enough_evidence"


@pytest.mark.parametrize(
    ("candidate", "baseline", "published"),
    [
        ((56, 70), (48, 80), (0.0524, 0.3339)),
        ((9, 10), (3, 10), (0.1705, 0.8090)),
        ((6, 7), (2, 7), (0.0582, 0.8062)),
        ((5, 56), (0, 29), (-0.0381, 0.1926)),
        ((0, 10), (0, 20), (-0.1611, 0.2775)),
        ((10, 10), (0, 20), (0.6791, 1.0)),
    ],
)
def test_the_interval_without_pairs_has_the_published_one_in_it(candidate, baseline, published) -> None:
    """Newcombe, "Interval estimation for the difference between independent proportions", Statistics in Medicine 17,
    1998, 873-890, table II, method 10: 95 % intervals, so 2.5 % at either end. Agresti and Caffo, The American
    Statistician 54, 2000, 280-288: Wald's interval with a success and a fail more in each arm. The wider end counts."""
    one, other = (np.repeat([1, 0], [fails, count - fails]) for fails, count in (baseline, candidate))
    (worse, more), (better, most) = ((fails + 1, count + 2) for fails, count in (candidate, baseline))
    first, second = worse / more, better / most
    half = stats.norm.isf(0.025) * np.sqrt(first * (1 - first) / more + second * (1 - second) / most)

    found = unpaired_rates(one, other, margin=0.1, alpha=0.025, mode="fixed")

    assert found.low == pytest.approx(min(published[0], first - second - half), abs=6e-5)
    assert found.high == pytest.approx(max(published[1], min(first - second + half, 1)), abs=6e-5)


@pytest.mark.parametrize(
    ("baseline", "candidate", "rate", "margin"),
    [(2000, 100, 0.005, 0.05), (1000, 30, 0.005, 0.05), (20, 300, 0.02, 0.05), (50, 500, 0.01, 0.03)],
)
def test_arms_of_unlike_size_keep_their_promise(baseline, candidate, rate, margin) -> None:
    """A small canary, or a small baseline, and rare fails: the chances of all counts, summed where the verdict is
    wrong. It is named though it is equal, or healthy though it is as bad as the margin, in hardly more than 5 %."""
    named = healthy = 0.0
    chances = [stats.binom.pmf(range(size + 1), size, rate) for size in (baseline, candidate)]
    as_bad = stats.binom.pmf(range(candidate + 1), candidate, rate + margin)
    for fails in np.flatnonzero(chances[0] > 1e-3):
        for others in np.flatnonzero(np.maximum(chances[1], as_bad) > 1e-3):
            one, other = np.arange(baseline) < fails, np.arange(candidate) < others
            found = unpaired_rates(one, other, margin=margin, mode="fixed")
            named += chances[0][fails] * chances[1][others] * (found.p_value <= 0.05)
            healthy += chances[0][fails] * as_bad[others] * (found.high < margin)

    assert named < 0.06
    assert healthy < 0.06


def test_alarms_over_many_cells() -> None:
    """By hand: of 5 at .1, the third largest must reach 5 / (3 * .1) = 16.7; for Holm .01 <= .05 / 5, .02 > .05 / 4."""
    assert e_bh([100.0, 17.0, 30.0, 1.0, 0.2], 0.1).tolist() == [True, True, True, False, False]
    assert e_bh([], 0.1).tolist() == []
    assert holm([0.01, 0.02, 0.5, 0.6, 0.9], 0.05).tolist() == [True, False, False, False, False]
    assert holm([], 0.05).tolist() == []


def test_everything_must_be_healthy_to_pass() -> None:
    """One cell without evidence blocks, and so does having none at all."""
    good = paired_rates([0] * 2000, [0] * 2000, margin=0.03)
    unknown = paired_rates([0] * 5, [0] * 5, margin=0.03)

    assert all_healthy([good, good])
    assert not all_healthy([good, unknown])
    assert not all_healthy([])


def test_sessions_of_two_arms_are_compared_by_their_shares() -> None:
    """Where a session has many answers it is one unit: Welch's test of the shares at one look."""
    random = np.random.default_rng(5)
    first, second = random.beta(1, 9, 60), random.beta(3, 9, 50)

    found = unpaired_rates(first, second, margin=0.05, mode="fixed")

    expected = stats.ttest_ind(second, first, equal_var=False, alternative="greater")
    assert found.p_value == pytest.approx(expected.pvalue)
    assert found.estimate == pytest.approx(second.mean() - first.mean())
    assert found.verdict == "regressed"


def test_a_few_sessions_of_a_canary_are_not_healthy_by_chance() -> None:
    """One answer in twenty gets a bad word, five points more than before; the first five sessions often say nothing."""
    random = np.random.default_rng(3)
    before = np.append(np.zeros(20), 0.25)
    healthy = 0
    for _ in range(400):
        fails = random.random((5, 4)) < random.beta(0.3, 5.7, 5)[:, None]
        found = unpaired_rates(before, fails.mean(axis=1), margin=0.05, mode="fixed")
        healthy += found.verdict == "healthy"

    assert healthy <= 400 * 0.05
    assert (
        unpaired_rates(np.append(before, np.zeros(80)), np.zeros(100), margin=0.05, mode="fixed").verdict == "healthy"
    )


def test_moods_of_sessions_are_no_false_alarm() -> None:
    """Users who dislike everything come to both arms: whoever looks after each session, equal arms are rarely worse."""
    random = np.random.default_rng(11)
    alarms = 0
    for _ in range(200):
        shares = random.beta(0.1, 0.9, 120)  # whole sessions are liked, or disliked
        arm = random.random(120) < 0.5
        places = np.arange(120)
        found = unpaired_rates(
            shares[~arm], shares[arm], margin=0.1, baseline_order=places[~arm], candidate_order=places[arm]
        )
        alarms += found.verdict == "regressed"

    assert alarms <= 200 * 0.05 + 2 * np.sqrt(200 * 0.05 * 0.95)
