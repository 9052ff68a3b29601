"""Of millions of values only those near a quantile are sorted: the quantile is the same."""

from __future__ import annotations

import numpy as np
import pytest

from traceai_vllm.release.statistics.order_statistics import Arm, quantile_of


@pytest.mark.parametrize("rounded", [False, True], ids=["all different", "a clock that rounds"])
@pytest.mark.parametrize("near", [0.01, 0.5, 0.99])
def test_a_large_arm_has_the_quantiles_of_all_its_values(near: float, rounded: bool) -> None:
    """Near the share that is asked for, far from it, and where most values are the same."""
    random = np.random.default_rng(5)
    values = random.lognormal(0, 1, 300_000)
    values = values.round(1) if rounded else values
    weights = 1 / random.integers(1, 6, len(values))
    order = np.argsort(values, kind="stable")
    shares = np.cumsum(weights[order]) / weights.sum()

    arm = Arm(values, weights, near)

    for share in (near, near - 0.005, near + 0.005, 0.2, 0.8, 1.0):
        expected = values[order][min(np.searchsorted(shares, share - 1e-12), len(values) - 1)]
        assert arm.quantile(share) == expected
        assert arm.share(expected) == pytest.approx(shares[np.searchsorted(values[order], expected, "right") - 1])
    assert (arm.quantile(0.0), arm.quantile(1.01)) == (-np.inf, np.inf)


@pytest.mark.parametrize("share", [0.001, 0.5, 0.95, 0.99])
def test_a_quantile_of_many_values_is_numpys_to_the_last_digit(share: float) -> None:
    """Whatever the order of the values, and where most of them are the same."""
    random = np.random.default_rng(6)
    drawn = random.lognormal(0, 1, 300_001)
    for values in (drawn, drawn.round(1), np.sort(drawn), np.ones(300_001), drawn[:1000]):
        assert quantile_of(values, share) == np.quantile(values, share)
