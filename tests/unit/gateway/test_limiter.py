"""How often each caller may act."""

from __future__ import annotations

from traceai_vllm.gateway.limiter import Limiter


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def allowed(limiter: Limiter, caller: str, times: int = 50) -> int:
    return sum(limiter.allows(caller) for _ in range(times))


def test_a_caller_has_ten_seconds_worth_at_once_and_then_the_rate() -> None:
    """What one uses up is not taken from another."""
    clock = Clock()
    limiter = Limiter(lambda: 2.0, clock)

    assert (allowed(limiter, "one"), allowed(limiter, "two")) == (20, 20)
    clock.now += 3
    assert allowed(limiter, "one") == 6


def test_a_changed_rate_counts_at_once() -> None:
    """The configuration is read again while the gateway runs."""
    clock = Clock()
    rates = [1.0]
    limiter = Limiter(lambda: rates[-1], clock)
    assert allowed(limiter, "one") == 10

    rates.append(3.0)
    clock.now += 4
    assert allowed(limiter, "one") == 12
