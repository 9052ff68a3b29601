"""Whatever fails inside of us, the user's call goes on as if we were not there: tried with every function, in every way.

Which functions there are is found out by watching real calls, so new code is tried without being named here.
"""

from __future__ import annotations

from typing import Any

import pytest

from tests.integration.conftest import Run
from tests.support import usage
from tests.support.fault_runs import Harness, Use
from tests.support.usage import Engines

pytestmark = pytest.mark.internal_errors_expected

# The seam: functions that hold the user's call, and so cannot fail alone. Kept to what must be in them.
HOOKS = frozenset(
    {
        "engine.calls.add_request",
        "engine.calls.add_request_async",
        "engine.calls.generate",
        "engine.calls.step.<locals>.hook",
        "engine.funnel.abort_requests",
        "engine.funnel.add_request",
        "engine.funnel.finished",
        "engine.funnel.process_outputs.<locals>.hook",
        "engine.funnel.propagate_error",
        "engine.funnel.update_scheduler_stats.<locals>.hook",
        "engine.offline.call.<locals>.hook",
        "engine.offline.enqueue.<locals>.hook",
    }
)
OTHER_SEAM = frozenset(
    {
        "engine.calls._admit",
        "engine.live.LiveRequest._watch_first_token.<locals>.first_update",
        "guard.Guard.__enter__",
        "guard.Guard.__exit__",
    }
)
# Called by Python itself, which prints their exceptions and goes on.
FINALIZERS = frozenset({"engine.calls._keep_call.<locals>.<lambda>", "engine.live.LiveRequest.__del__"})


@pytest.fixture(scope="module")
def harness(llm: Any, async_engine: Any, run: Run) -> Harness:
    return Harness(Engines(llm, async_engine, run), HOOKS | OTHER_SEAM, FINALIZERS)


@pytest.mark.parametrize("use", [*usage.OFFLINE, *usage.ASYNCHRONOUS], ids=lambda use: use.__name__)
def test_no_fault_reaches_the_user(harness: Harness, use: Use) -> None:
    """The user's tokens or exception are the same whichever of our functions fails, and however it does."""
    tally = harness.walk(use)
    print(len(tally.functions), tally.faults, tally.whole)
    import time; open("/tmp/h.log","a").write(f"== {use.__name__} {len(tally.functions)} {tally.faults} {tally.whole} {time.time():.0f}\n" + "".join(f[:500]+"\n" for f in tally.failures))

    assert tally.functions
    assert not tally.failures, f"{len(tally.failures)} of {tally.faults}:\n" + "\n".join(tally.failures)
