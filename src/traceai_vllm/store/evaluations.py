"""Evaluations of stored spans: lines in files beside the spans, written by ``traceai-vllm evaluate``."""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from traceai_vllm.store.encode import to_json
from traceai_vllm.store.segments import Segment

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from types import TracebackType

KIND = "evaluations"
PATTERN = f"{KIND}-*.jsonl"


@contextlib.contextmanager
def sole_evaluation(directory: str | os.PathLike[str]) -> Iterator[None]:
    """Keep a second evaluation of a store away, which would score everything twice.

    Raises:
        BlockingIOError: another process evaluates it.
    """
    store = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        try:
            fcntl.flock(store, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BlockingIOError(f"another evaluation of {directory} is running; wait until it has ended") from None
        except OSError:  # a file system without locks
            pass
        yield
    finally:
        os.close(store)


class EvaluationWriter:
    """Appends evaluations to a store; a batch is one write, so that a process that is killed leaves whole lines.

    Args:
        directory: the store.
    """

    def __init__(self, directory: str | os.PathLike[str]) -> None:
        self._directory = Path(directory)
        self._segment: Segment | None = None

    def __enter__(self) -> EvaluationWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        if self._segment is not None:
            self._segment.close()

    def write(self, evaluations: Iterable[dict[str, Any]]) -> None:
        """Append evaluations, each with the time at which it comes (``time_unix_nano``).

        Args:
            evaluations: each with ``trace_id``, ``span_id``, ``evaluator`` and ``status``, and, where it has a result,
                ``score``, ``label``, ``passed``, ``threshold``, ``explanation``; and the request's ``slices``.

        Raises:
            OSError: they could not be written; none of them is in the file then.
        """
        now = {"time_unix_nano": time.time_ns()}
        data = b"".join(to_json(evaluation | now) + b"\n" for evaluation in evaluations)
        if data:
            if self._segment is None:
                self._segment = Segment(self._directory, KIND)
            self._segment.append(data)
