"""The page of ``make bench-gateway``: each target with its verdict, from the samples of the rounds."""

from __future__ import annotations

from benchmarks.engine.verdicts import MET, Row
from benchmarks.gateway.report import DIRECT, OFF, TENTH, WHOLE, page

ROUNDS = 10
ABOUT = {"cores": 2}


def arm(**milliseconds: float) -> dict[str, list[float]]:
    """Return samples with little noise; names as they are in the table."""
    return {f"{name}_ms": [value + 0.001 * number for number in range(ROUNDS)] for name, value in milliseconds.items()}


def lines_of(text: str, target: str) -> list[str]:
    return [line for line in text.splitlines() if line.startswith(f"| {target} |")]


def test_differences_and_ratios_are_held_to_their_targets() -> None:
    """Within rounds; what was not measured has no line."""
    figures = {
        DIRECT: arm(p50=0.2, p99=1.0),
        TENTH: arm(p50=0.9, p99=5.0),
        OFF: arm(alone_paced_p50=1.0),
        WHOLE: arm(alone_paced_p50=1.02),
    }
    text = page(ABOUT, figures, [])

    p50, p99 = lines_of(text, "B1")
    assert ("0.70 ms" in p50, p50.endswith("| met |")) == (True, True)
    assert ("4.00 ms" in p99, p99.endswith("| **not met** |")) == (True, True)
    [mirrored] = lines_of(text, "B3")
    assert ("1.02" in mirrored, mirrored.endswith("| met |")) == (True, True)
    assert lines_of(text, "B2") == []


def test_what_always_has_to_hold_stands_in_the_same_table() -> None:
    """With its limit, what was measured, and the verdict."""
    text = page(ABOUT, {DIRECT: arm(p50=0.2)}, [Row("B5", "difference in the books", "0", "0", verdict=MET)])

    assert lines_of(text, "B5") == ["| B5 | difference in the books | 0 | 0 |  | met |"]
