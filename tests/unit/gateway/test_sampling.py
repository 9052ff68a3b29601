"""Requests are chosen by a hash of their id."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from traceai_vllm.gateway.sampling import chosen, fraction

KEYS = st.text(max_size=200)
SHARES = st.floats(0, 1)


@given(KEYS, KEYS)
def test_a_choice_can_be_replayed(key: str, salt: str) -> None:
    """The same id and salt stand at the same place, from 0 to below 1: nobody is chosen at 0, everybody at 1."""
    assert fraction(key, salt) == fraction(key, salt)
    assert 0.0 <= fraction(key, salt) < 1.0
    assert not chosen(key, 0.0, salt)
    assert chosen(key, 1.0, salt)


@given(KEYS, SHARES, SHARES)
def test_who_is_chosen_stays_chosen_when_the_share_grows(key: str, one: float, other: float) -> None:
    """A canary that grows moves nobody back."""
    small, large = sorted((one, other))
    assert not chosen(key, small, "s") or chosen(key, large, "s")


def test_the_share_is_about_right_and_salts_choose_apart() -> None:
    """Of 20,000 ids, within four standard deviations; two salts agree as often as chance has it."""
    one = [chosen(f"request-{number}", 0.1, "a") for number in range(20_000)]
    other = [chosen(f"request-{number}", 0.1, "b") for number in range(20_000)]
    assert abs(sum(one) - 2000) < 4 * (20_000 * 0.1 * 0.9) ** 0.5
    assert abs(sum(a and b for a, b in zip(one, other, strict=True)) - 200) < 4 * (20_000 * 0.01 * 0.99) ** 0.5


def test_long_salts_choose_apart_too() -> None:
    """The noise floor and the canary add a word to the salt, however long that is."""
    salt = "x" * 64
    assert len({fraction("request-1", salt + more) for more in ("", ":noise", ":canary")}) == 3


def test_the_hash_does_not_change_between_versions() -> None:
    """Recorded once; another value would choose other requests after an upgrade."""
    assert round(fraction("request-1", "traceai"), 12) == 0.089804929247
