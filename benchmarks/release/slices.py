"""D3: fifty slices, one of them broken. Is it named, and are the others left alone?"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from benchmarks.release.rows import Row, share
from traceai_vllm.release.simulator.streams import paired_fails
from traceai_vllm.release.statistics import all_healthy, e_bh, holm, paired_rates

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

SLICES, PAIRS, BROKEN_PAIRS = 50, 8000, 400
MARGIN, RATE = 0.05, 0.1


def run(random: np.random.Generator, scale: float, progress: Callable[[Iterable[int]], Iterable[int]]) -> list[Row]:
    """Return the lines of D3; ``scale`` 1 is 600 releases."""
    named, false_share, by_holm, false_holm, blocked = [], [], [], [], []
    for _ in progress(range(max(10, round(600 * scale)))):
        sizes = [BROKEN_PAIRS, *random.multinomial(PAIRS - BROKEN_PAIRS, np.ones(SLICES - 1) / (SLICES - 1))]
        cells = []
        for place, size in enumerate(sizes):
            loss = {"disagreement": 0.15, "difference": 0.1} if place == 0 else {"disagreement": 0.1, "difference": 0.0}
            signs = paired_fails(random, (1, int(size)), **loss)[0]
            cells.append(paired_rates(signs < 0, signs > 0, margin=MARGIN))
        stands, strict = e_bh([c.e_value for c in cells], RATE), holm([c.p_value for c in cells], 0.05)
        named.append(stands[0])
        by_holm.append(strict[0])
        false_share.append(stands[1:].sum() / max(stands.sum(), 1))
        false_holm.append(strict[1:].any())
        blocked.append(not all_healthy(cells) and cells[0].verdict != "healthy")
    what = "10 points worse in one slice of 5 % (400 pairs, 15 % disagree) of 50: "
    rate = float(np.mean(false_share))
    return [
        share("D3", what + "named by e-BH at .10", np.array(named), least=0.9),
        Row("D3", "share of the alarms of e-BH that are false", "≤ 0.1", f"{rate:.4f}", rate <= RATE),
        share("D3", "promotion blocked, and by the broken slice itself", np.array(blocked), least=1.0),
        share("D3", "— " + what + "named by Holm at .05", np.array(by_holm)),
        share("D3", "— any false alarm with Holm at .05", np.array(false_holm)),
    ]
