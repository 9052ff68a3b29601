"""Readings of engines: whose they are, and when they end."""

from __future__ import annotations

import os

from traceai_vllm.engine import funnel


class Processor:
    """Stands for vLLM's OutputProcessor, on which the tracker lives."""


def test_a_fork_has_no_engines_of_its_parents() -> None:
    """A worker that an application forks must not report its parent's load as its own."""
    processor = Processor()
    tracker = funnel.tracker_of(processor)
    assert tracker in funnel.trackers()

    child = os.fork()
    if child == 0:
        os._exit(len(funnel.trackers()))
    _, status = os.waitpid(child, 0)

    assert os.waitstatus_to_exitcode(status) == 0


def test_an_engine_that_is_gone_is_not_read() -> None:
    """Trackers live and die with vLLM's own object."""
    processor = Processor()
    tracker = funnel.tracker_of(processor)

    del processor

    assert tracker not in funnel.trackers()
