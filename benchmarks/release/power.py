"""D2 and D6: how many pairs does it take to name a loss, and an outage?"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.stats import norm

from benchmarks.release.rows import Row, median, share
from traceai_vllm.release.simulator.streams import NEVER, named_at, paired_fails, plain_boundary, regressed_at
from traceai_vllm.release.statistics import paired_quantiles, pairs_needed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

PLAIN = np.arange(1, 33) / 33
BASE_RATE = 0.2  # the baseline's fail rate, where an unpaired test needs to know


def losses(random: np.random.Generator, scale: float, progress: Callable[[Iterable[int]], Iterable[int]]) -> list[Row]:
    """Return the lines of D2; ``scale`` 1 is 10,000 streams."""
    streams = max(200, round(10_000 * scale))
    rows = []
    three, ten = "3 points worse, 10 % disagree: named by 1,100 pairs", "10 points worse, 15 % disagree: pairs, median"
    cases = [(0.1, 0.03, 1100), (0.15, 0.1, 1000)]
    for case in progress(range(len(cases))):
        disagreement, difference, pairs = cases[case]
        drawn = paired_fails(random, (streams, pairs), disagreement=disagreement, difference=difference)
        times = {
            "": regressed_at(drawn),
            "— the best single bet, known beforehand: ": named_at(drawn, _boundary(difference / disagreement)),
            "— an equal mixture of 32 bets: ": named_at(drawn, plain_boundary(PLAIN, 0.05, 400)),
        }
        for name, named in times.items():
            if pairs == 1100:
                rows.append(share("D2", name + three, named <= pairs, least=None if name else 0.8))
            else:
                rows.append(median("D2", name + ten, named, most=None if name else 150))
    rows += [_fixed(0.1, 0.03), *_against_unpaired(random, streams)]
    return rows


def outage(random: np.random.Generator, scale: float, progress: Callable[[Iterable[int]], Iterable[int]]) -> list[Row]:
    """Return the lines of D6: error rate 20 points up (from 1 %), latency doubled."""
    streams = max(200, round(10_000 * scale))
    both = paired_fails(random, (streams, 400), disagreement=0.2, difference=0.2)
    noisy = paired_fails(random, (streams, 400), disagreement=0.216, difference=0.2)
    slow = [_slow(random) for _ in progress(range(max(20, round(200 * scale))))]
    what = "error rate 20 points up: pairs until named, median"
    return [
        median("D6", what, regressed_at(both), most=30),
        median("D6", what + ", baseline 1 % errors of its own", regressed_at(noisy), most=30),
        median("D6", f"— the best single bet: {what}", named_at(both, _boundary(0.985))),
        median("D6", f"— an equal mixture of 32 bets: {what}", named_at(both, plain_boundary(PLAIN, 0.05, 400))),
        median("D6", "latency doubled: pairs until p50 is named, median", np.array(slow)),
    ]


def _slow(random: np.random.Generator) -> int:
    work = random.lognormal(0, 0.6, 200)
    first, second = work * random.lognormal(0, 0.2, 200), 2 * work * random.lognormal(0, 0.2, 200)
    return paired_quantiles(first, second, quantile=0.5, margin=1.1).decided_at or NEVER


def _boundary(bet: float) -> np.ndarray:
    return plain_boundary([bet], 0.05, 400)


def _fixed(disagreement: float, difference: float) -> Row:
    planned = pairs_needed(disagreement, difference, mode="fixed")
    power = norm.cdf(np.sqrt(1100 * difference**2 / disagreement) - norm.isf(0.05))
    what = f"— fixed n: pairs for power .80 at 3 points and 10 %; power of one look at 1,100 pairs is {power:.3f}"
    return Row("D2", what, "", str(planned))


def _against_unpaired(random: np.random.Generator, streams: int) -> list[Row]:
    """Pairs for power .80, beside what two groups of different requests need, under the same looks and for one look."""
    rows = []
    for disagreement, difference in ((0.1, 0.03), (0.15, 0.1)):
        base, worse = BASE_RATE, BASE_RATE + difference
        spread = base * (1 - base) + worse * (1 - worse)
        apart = (1 - base) * worse + base * (1 - worse)
        needed = [_eightieth(random, streams // 4, rate, difference) for rate in (disagreement, apart)]
        once = float(norm.isf(0.05) + norm.ppf(0.8)) ** 2 * spread / difference**2
        one_look = pairs_needed(disagreement, difference, mode="fixed") or 0
        what = (
            f"{100 * difference:.0f} points worse, {disagreement:.0%} disagree, baseline fails {base:.0%}: "
            "pairs for power .80, of unpaired requests per arm"
        )
        ratio = needed[0] / needed[1]
        rows.append(
            Row("D2", f"{what}, a look after each", "≤ 0.5", f"{ratio:.2f} ({needed[0]} of {needed[1]})", ratio <= 0.5)
        )
        rows.append(Row("D2", f"— {what}, one look", "", f"{one_look / once:.2f} ({one_look} of {once:.0f})"))
    return rows


def _eightieth(random: np.random.Generator, streams: int, disagreement: float, difference: float) -> int:
    most = 3 * (pairs_needed(disagreement, difference) or 0)
    drawn = paired_fails(random, (max(200, streams), most), disagreement=disagreement, difference=difference)
    return int(np.quantile(regressed_at(drawn), 0.8, method="inverted_cdf"))
