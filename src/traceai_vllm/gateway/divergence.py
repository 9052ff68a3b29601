"""Where a copy's answer leaves the user's, and, where logprobs were asked for, by how much the two models differ there.

Greedy decoding turns a tiny difference into another text, so this is volume, not direction: it is shown, and no release
is decided by it.
"""

from __future__ import annotations

from itertools import takewhile
from math import exp, log
from typing import TYPE_CHECKING, Any

from traceai_vllm.gateway import names

if TYPE_CHECKING:
    from collections.abc import Sequence

    from traceai_vllm.gateway.answers import Answer, Choice

_LEAST = 1e-12  # what is left of a probability of 1, in floats


def divergence(user: Answer, copy: Answer) -> dict[str, Any]:
    """Return the attributes that say by how much the first choice of a copy's answer differs from the user's.

    Args:
        user: the answer of the baseline.
        copy: the other.

    Returns:
        ``traceai.pair.first_divergence`` unless both say the same: how many words they have in common before the first
        that differs; tokens, where both have logprobs. ``traceai.pair.top1_agreement`` and
        ``traceai.pair.kl_divergence`` (nats, mean over tokens) where both have the likeliest tokens of each place.
    """
    if not user.choices or not copy.choices:
        return {}
    one, other = (answer.choices[min(answer.choices)] for answer in (user, copy))
    tokens = [choice.tokens for choice in (one, other)]
    if all(tokens):
        return _of_tokens(one, other)
    words, others = one.text.split(), other.text.split()
    return {} if words == others else {names.FIRST_DIVERGENCE: _common(words, others)}


def next_token_divergence(baseline: dict[str, float], candidate: dict[str, float]) -> float:
    """Return the Kullback-Leibler divergence of the candidate's next token from the baseline's, in nats, from below.

    Servers tell the likeliest tokens alone. Those that both name are compared one by one, all others as one: merging
    outcomes never makes a divergence larger (data processing inequality, Cover and Thomas, "Elements of Information
    Theory", 2nd edition, theorem 2.8.1), so the truth is at least this.

    Args:
        baseline: token to its logprob.
        candidate: likewise.
    """
    shared = [name for name in baseline if name in candidate]
    pairs = [(exp(baseline[name]), exp(candidate[name])) for name in shared]
    rest, other_rest = (max(1 - sum(side), _LEAST) for side in (tuple(p for p, _ in pairs), tuple(q for _, q in pairs)))
    return max(0.0, sum(p * log(p / max(q, _LEAST)) for p, q in [*pairs, (rest, other_rest)] if p > 0))


def _of_tokens(one: Choice, other: Choice) -> dict[str, Any]:
    common = _common(one.tokens, other.tokens)
    found: dict[str, Any] = {} if one.tokens == other.tokens else {names.FIRST_DIVERGENCE: common}
    # Up to the first that differs, and there too, both models had read the same.
    both = zip(one.likeliest[: common + 1], other.likeliest[: common + 1], strict=False)
    places = [(a, b) for a, b in both if a and b]
    if places:
        agree = sum(max(a, key=a.__getitem__) == max(b, key=b.__getitem__) for a, b in places)
        found[names.TOP1_AGREEMENT] = agree / len(places)
        found[names.KL_DIVERGENCE] = sum(next_token_divergence(a, b) for a, b in places) / len(places)
    return found


def _common(one: Sequence[str], other: Sequence[str]) -> int:
    return sum(1 for _ in takewhile(lambda both: both[0] == both[1], zip(one, other, strict=False)))
