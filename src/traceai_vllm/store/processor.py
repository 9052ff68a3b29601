"""The span processor behind ``instrument(store="DIR")``."""

from __future__ import annotations

import atexit
from typing import TYPE_CHECKING

from opentelemetry.sdk.trace.export import BatchSpanProcessor

from traceai_vllm.guard import Guard
from traceai_vllm.store.writer import SpanStoreExporter

if TYPE_CHECKING:
    import os

    from opentelemetry.sdk.trace import ReadableSpan

    from traceai_vllm.store.writer import StoreCounts

_STORE = Guard("the local store")


class StoreProcessor(BatchSpanProcessor):
    """A batch processor on a :class:`SpanStoreExporter` that is silent once it is shut down.

    The SDK cannot take a span processor back from a provider, and its own one logs a warning for each span that comes
    after its shutdown; after ``uninstrument()`` the provider lives on.

    Args:
        directory: the store.
    """

    def __init__(self, directory: str | os.PathLike[str]) -> None:
        exporter = SpanStoreExporter(directory)
        super().__init__(exporter)
        self._store = exporter
        self._open = True
        # The provider shuts its processors down one after the other, and an exporter whose collector is dead may use
        # up the time of them all: the store is on this machine and does not wait for it.
        atexit.register(self.shutdown)

    @property
    def counts(self) -> StoreCounts:
        """What became of the spans so far, in this process."""
        return self._store.counts

    def on_end(self, span: ReadableSpan) -> None:
        """Queue a finished span for writing."""
        # It also sees the application's own spans, whose end must not fail because of us.
        with _STORE:
            if self._open:
                super().on_end(span)

    def shutdown(self) -> None:
        """Write what is queued, and take nothing more."""
        self._open = False
        atexit.unregister(self.shutdown)
        super().shutdown()  # type: ignore[no-untyped-call]
