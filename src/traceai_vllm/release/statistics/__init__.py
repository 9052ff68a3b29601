"""Is the candidate worse, by how much, and how sure is that?

Plain functions over arrays, one call for each cell (a measure in a slice)::

    from traceai_vllm.release.statistics import paired_rates

    found = paired_rates(baseline_fails, candidate_fails, margin=0.03, clusters=session_ids, order=arrival)
    found.verdict, found.estimate, (found.low, found.high), found.pairs_needed

By default everything is anytime-valid: look after every pair, stop when it is clear. See docs/statistics.md.
"""

from traceai_vllm.release.statistics.evidence import Evidence, Mode, Verdict
from traceai_vllm.release.statistics.multiple import all_healthy, e_bh, holm
from traceai_vllm.release.statistics.planning import pairs_needed
from traceai_vllm.release.statistics.quantiles import Scale, paired_quantiles
from traceai_vllm.release.statistics.rates import paired_rate_counts, paired_rates, paired_scores
from traceai_vllm.release.statistics.unpaired import unpaired_rates

__all__ = [
    "Evidence",
    "Mode",
    "Scale",
    "Verdict",
    "all_healthy",
    "e_bh",
    "holm",
    "paired_quantiles",
    "paired_rate_counts",
    "paired_rates",
    "paired_scores",
    "pairs_needed",
    "unpaired_rates",
]
