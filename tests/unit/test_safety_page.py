"""The page on safety says what was measured, no more and no less."""

from __future__ import annotations

import json

from benchmarks.safety.write_docs import HERE, PAGE, page

from tests.support.fault_seam import HOOKS


def test_the_page_is_what_the_measurements_say() -> None:
    """docs/safety.md is what `python -m benchmarks.safety` writes from the measurements beside it."""
    assert PAGE.read_text() == page()


def test_no_fault_reached_the_user() -> None:
    """A measurement that shows otherwise is not published but repaired."""
    ours = json.loads((HERE / "ours.json").read_text())

    assert ours["reached_the_user"] == 0
    assert {(row["user_sees"], row["span_ends"]) for row in ours["rows"]} == {("same", True)}
    assert ours["hooks"] == len(HOOKS)
