"""The checks of ``make bench-gateway``: what they look at is what the gateway did."""

from __future__ import annotations

from pathlib import Path

from benchmarks.gateway.promises import Amounts, streams

# The words of the 191st answer look like the number of a payment card.
STREAMS = 191


def test_whole_streams_count_as_whole_whatever_their_words_look_like(tmp_path: Path) -> None:
    """Through the program, both arms: also those whose words the gateway would take out of a user's answer."""
    [row] = streams(tmp_path, Amounts(streams=STREAMS))

    assert (row.what, row.measured) == (f"sampled streams captured whole on both arms, of {STREAMS}", "100.0%")
