"""What the variants take that is no measure of single answers: the cost of a trace, memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

from traceai_vllm.release.wording import usd_text

if TYPE_CHECKING:
    from traceai_vllm.release.comparison import Comparison


def resource_texts(comparison: Comparison) -> list[tuple[str, str, str, str]]:
    """Return rows of name, baseline, candidate and change; only what is known."""
    rows = []
    costs = comparison.cost_per_trace
    if costs:
        one, other = costs["baseline"], costs["candidate"]
        change = f"{other / one - 1:+.0%}" if one else "-"
        rows.append(("cost per trace", usd_text(one), usd_text(other), change))
    memory = [gpu_memory(comparison, arm) for arm in ("baseline", "candidate")]
    if any(gib is not None for gib in memory):
        texts = ["-" if gib is None else f"{gib:g} GiB" for gib in memory]
        rows.append(("GPU memory (policy)", texts[0], texts[1], ""))
    return rows


def gpu_memory(comparison: Comparison, arm: str) -> float | None:
    """Return the memory in GiB that the policy says an arm's variant takes; None where it does not say."""
    found = [
        price.gpu_memory_gib
        for name, price in comparison.policy.prices.items()
        if any(seen == name or seen.startswith(f"{name} (") for seen in comparison.variants[arm])
    ]
    return max((gib for gib in found if gib is not None), default=None)
