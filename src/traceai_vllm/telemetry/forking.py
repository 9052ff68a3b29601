"""What a forked child does with the telemetry that it inherited: nothing; it begins with its own.

The SDK's metric readers go on in a forked child with all that the parent had measured so far, and export it again,
under another ``service.instance.id``: whoever sums over instances counts it twice. Spans have no such problem, the SDK
empties their queue. And children of ``multiprocessing`` end without Python's exit handlers, so their last spans would
stay behind.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import wrapt

from traceai_vllm.guard import Guard

if TYPE_CHECKING:
    from collections.abc import Callable

_FORGET = Guard("the measurements that a forked process inherited")


def forget_measurements_in_children(meter_provider: Any) -> None:
    """Let forked children of this process begin with empty metrics.

    Args:
        meter_provider: the SDK's, with an attribute that it does not make public; without that nothing is changed.
    """

    def forget() -> None:
        with _FORGET:
            consumer = getattr(meter_provider, "_measurement_consumer", None)
            for storage in getattr(consumer, "_reader_storages", {}).values():
                getattr(storage, "_instrument_view_instrument_matches", {}).clear()

    os.register_at_fork(after_in_child=forget)


class _Exit:
    """Holds what is to run when a forked child of ``multiprocessing`` ends."""

    def __init__(self, close: Callable[[], None]) -> None:
        self.close = close

    def arm(self) -> None:
        from multiprocessing import util

        util.Finalize(None, self.close, exitpriority=0)


_armed: list[_Exit] = []


def at_exit_of_children(close: Callable[[], None]) -> None:
    """Run ``close`` when a child that ``multiprocessing`` forks from this process ends."""
    armed = _Exit(close)
    _armed.append(armed)  # the registry of multiprocessing holds it weakly
    # Not imported for its own sake: without it there are no such children.
    wrapt.register_post_import_hook(lambda util: util.register_after_fork(armed, _Exit.arm), "multiprocessing.util")
