"""``SpanStoreExporter``: writes finished spans to a directory, so that they stay without a collector.

A batch of spans becomes whole lines in one ``write``, so a process that is killed leaves files that can be
read up to its last batch. Nothing is synced to the disk: after a power failure the last seconds may be
missing.
"""

from __future__ import annotations

import logging
import os
import threading
import weakref
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from traceai_vllm import guard
from traceai_vllm.store.encode import SpanEncoder
from traceai_vllm.store.segments import Segment, make_room

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from opentelemetry.sdk.trace import ReadableSpan

_log = logging.getLogger("traceai_vllm")
_MEBIBYTE = 1024 * 1024
_WRITE_BYTES = 8 * _MEBIBYTE


@dataclass(frozen=True, slots=True)
class StoreCounts:
    """What became of the spans that one exporter was given.

    Attributes:
        written: spans that are in a file, or were until it was removed.
        failed: spans that could not be written (disk full, no permission) or encoded.
        truncated: written spans whose long values were cut, see ``encode.MAX_LINE_BYTES``.
        removed: spans that this exporter removed with the oldest segments, to stay within
            ``max_total_bytes``.
    """

    written: int = 0
    failed: int = 0
    truncated: int = 0
    removed: int = 0


class SpanStoreExporter(SpanExporter):
    """Writes spans to ``directory`` as JSON lines; any number of processes may write to the same one.

    It never raises: a batch that cannot be written is counted in :attr:`counts`, logged once per kind of
    error, and reported to the SDK as a failure; the next batch is tried again.

    Args:
        directory: where the segments go; made when the first span is written.
        max_segment_bytes: size at which a segment is closed and the next one opened, in bytes; at most a
            quarter of ``max_total_bytes``.
        max_total_bytes: size of all segments in the directory, in bytes. When a segment is opened, the oldest
            ones that no process writes to are removed until the new one fits. Each further process that
            writes to the directory may exceed the bound by one segment.

    Raises:
        ValueError: a bound is not positive.
    """

    def __init__(
        self,
        directory: str | os.PathLike[str],
        *,
        max_segment_bytes: int = 64 * _MEBIBYTE,
        max_total_bytes: int = 4096 * _MEBIBYTE,
    ) -> None:
        if max_segment_bytes <= 0 or max_total_bytes <= 0:
            raise ValueError(f"bounds must be positive: {max_segment_bytes=}, {max_total_bytes=}")
        self.directory = Path(directory).absolute()
        self._max_total_bytes = max_total_bytes
        self._max_segment_bytes = max(1, min(max_segment_bytes, max_total_bytes // 4))
        self._lock = threading.Lock()
        self._encoder = SpanEncoder()
        self._segment: Segment | None = None
        self._counts = StoreCounts()
        self._logged: set[str] = set()
        self._shut_down = False
        _renew_lock_in_children(self)

    @property
    def counts(self) -> StoreCounts:
        """What became of the spans so far, in this process."""
        return replace(self._counts, truncated=self._encoder.truncated)

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Write spans; see :class:`opentelemetry.sdk.trace.export.SpanExporter`."""
        with self._lock:
            if self._shut_down:
                self._count(failed=len(spans))
                return SpanExportResult.FAILURE
            failed_before = self._counts.failed
            for lines in self._chunks(spans):
                self._write(lines)
            complete = self._counts.failed == failed_before
            return SpanExportResult.SUCCESS if complete else SpanExportResult.FAILURE

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        """Return True: what was exported is in the file already."""
        return True

    def shutdown(self) -> None:
        """Close the segment; later spans are refused and counted as failed."""
        with self._lock:
            self._shut_down = True
            if self._segment is not None:
                self._segment.close()
                self._segment = None

    def _chunks(self, spans: Sequence[ReadableSpan]) -> Iterator[list[bytes]]:
        # A batch is one write, unless it is so large that holding all of it would cost real memory.
        lines: list[bytes] = []
        size = 0
        for span in spans:
            try:
                line = self._encoder.line(span)
            except Exception as error:
                self._count(failed=1)
                guard.report("span store", error)
                continue
            lines.append(line)
            size += len(line)
            if size >= _WRITE_BYTES:
                yield lines
                lines, size = [], 0
        if lines:
            yield lines

    def _write(self, lines: list[bytes]) -> None:
        data = b"".join(lines)
        try:
            self._segment_for(len(data)).append(data)
        except OSError as error:
            self._count(failed=len(lines))
            self._log_once(
                f"write {error.errno}",
                "traceai-vllm could not write spans to %s: %s. Your program is not affected; %d spans are "
                "missing there. Further failures of this kind are only counted (SpanStoreExporter.counts).",
                self.directory,
                error,
                len(lines),
            )
        else:
            self._count(written=len(lines))

    def _segment_for(self, size: int) -> Segment:
        segment = self._segment
        if segment is not None and segment.usable:
            if segment.size == 0 or segment.size + size <= self._max_segment_bytes:
                return segment
            segment.close()
        self._segment = None
        self._make_room()
        self._segment = Segment(self.directory)
        return self._segment

    def _make_room(self) -> None:
        removed = make_room(self.directory, self._max_total_bytes - self._max_segment_bytes)
        if removed.segments == 0:
            return
        self._count(removed=removed.spans)
        self._log_once(
            "removed",
            "The span store %s has reached its bound of %d bytes: its oldest %d spans were removed, and that "
            "goes on. Further removals are only counted (SpanStoreExporter.counts, removed.jsonl).",
            self.directory,
            self._max_total_bytes,
            removed.spans,
        )

    def _count(self, *, written: int = 0, failed: int = 0, removed: int = 0) -> None:
        counts = self._counts
        self._counts = replace(
            counts,
            written=counts.written + written,
            failed=counts.failed + failed,
            removed=counts.removed + removed,
        )

    def _log_once(self, kind: str, message: str, *values: object) -> None:
        if kind not in self._logged:
            self._logged.add(kind)
            _log.warning(message, *values)


def _renew_lock_in_children(exporter: SpanStoreExporter) -> None:
    # Another thread may hold the lock at the moment of a fork; in the child nobody would ever release it.
    reference = weakref.ref(exporter)

    def renew() -> None:
        alive = reference()
        if alive is not None:
            alive._lock = threading.Lock()

    os.register_at_fork(after_in_child=renew)
