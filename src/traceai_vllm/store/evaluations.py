"""Evaluations of stored spans: lines in files beside the spans, written by ``traceai-vllm evaluate``."""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from traceai_vllm.store.encode import to_json
from traceai_vllm.store.segments import Segment

if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import TracebackType

KIND = "evaluations"
PATTERN = f"{KIND}-*.jsonl"


class EvaluationWriter:
    """Appends evaluations to a store; a batch is one write, so that a process that is killed leaves whole lines.

    A context manager that keeps a second one of the same store away: two evaluations would score everything twice.

    Args:
        directory: the store.
    """

    def __init__(self, directory: str | os.PathLike[str]) -> None:
        self._directory = Path(directory)
        self._segment: Segment | None = None
        self._lock = -1

    def __enter__(self) -> EvaluationWriter:
        """Begin.

        Raises:
            BlockingIOError: another evaluation of the store is running.
        """
        self._lock = os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._lock)
            message = f"another evaluation of {self._directory} is running; wait until it has ended"
            raise BlockingIOError(message) from None
        except OSError:  # a file system without locks
            pass
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        if self._segment is not None:
            self._segment.close()
        os.close(self._lock)

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
