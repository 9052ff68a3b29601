"""The streams that the decision is tested on are decided as paired_rates decides."""

from __future__ import annotations

import numpy as np
import pytest

from traceai_vllm.release.simulator.streams import (
    NEVER,
    named_at,
    paired_fails,
    plain_boundary,
    regressed_at,
    within_at,
)
from traceai_vllm.release.statistics import paired_rates


def decided_at(signs: np.ndarray, margin: float) -> int:
    """When paired_rates has its verdict."""
    return paired_rates(signs < 0, signs > 0, margin=margin).decided_at or NEVER


def test_streams_are_decided_as_paired_rates_decides() -> None:
    """When a stream is named, and when it is shown to be within the margin, for thousands at once and one by one."""
    random = np.random.default_rng(1)
    worse = paired_fails(random, (15, 900), disagreement=0.1, difference=0.04)
    equal = paired_fails(random, (15, 900), disagreement=0.1, difference=0.0)

    assert regressed_at(worse).tolist() == [decided_at(signs, margin=0.0) for signs in worse]
    quiet = regressed_at(equal) == NEVER
    found = within_at(equal, 0.03)[quiet]
    kept = np.array([paired_rates(signs < 0, signs > 0, margin=0.03).verdict == "healthy" for signs in equal[quiet]])
    assert found[kept].tolist() == [decided_at(signs, margin=0.03) for signs in equal[quiet][kept]]
    assert (regressed_at(worse) < NEVER).any()
    assert kept.any()


def test_streams_have_the_rates_that_were_asked_for() -> None:
    """Disagreement and difference come out as they went in."""
    signs = paired_fails(np.random.default_rng(2), (100, 5000), disagreement=0.1, difference=0.03)

    assert (signs != 0).mean() == pytest.approx(0.1, abs=0.002)
    assert signs.mean() == pytest.approx(0.03, abs=0.002)


def test_one_bet_by_hand() -> None:
    """All on one bet of a half: 1.5 to the k must reach 20, so eight in a row are named and seven are not."""
    needed = plain_boundary([0.5], 0.05, 20)
    signs = np.array([[1] * 8, [1] * 7 + [0], [1, -1] * 4], dtype=np.int8)

    assert named_at(signs, needed).tolist() == [8, NEVER, NEVER]
