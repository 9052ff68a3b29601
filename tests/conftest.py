"""An error of ours that was swallowed to spare the user fails the test during which it happened.

A test that provokes such errors says so: ``@pytest.mark.internal_errors_expected``.
"""

from __future__ import annotations

import traceback
from collections import Counter
from collections.abc import Iterator

import hypothesis
import pytest

from traceai_vllm import guard

# The same examples on every run, however busy the machine: a gate that fails by chance is not believed. To look for
# new ones: `pytest --hypothesis-profile=default`.
hypothesis.settings.register_profile("reproducible", derandomize=True, deadline=None)
hypothesis.settings.load_profile("reproducible")


@pytest.fixture(autouse=True)
def swallowed_errors(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Fail the test at its teardown if the guard counted an error meanwhile, and show the errors."""
    if request.node.get_closest_marker("internal_errors_expected"):
        yield
        return
    seen: list[str] = []
    report = guard.report

    def note(where: str, error: Exception) -> None:
        seen.append("".join(traceback.format_exception(type(error), error, error.__traceback__)))
        report(where, error)

    # Only to show the errors, which the guard logs but once in a process; its count decides.
    monkeypatch.setattr(guard, "report", note)
    before = Counter(guard.internal_errors())
    yield
    grown = Counter(guard.internal_errors()) - before
    if grown:
        pytest.fail(f"errors inside traceai-vllm were swallowed: {dict(grown)}\n\n" + "\n".join(seen), pytrace=False)
