"""The span processor behind ``instrument(store="DIR")``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from opentelemetry.sdk.trace.export import BatchSpanProcessor

from traceai_vllm.store.writer import SpanStoreExporter

if TYPE_CHECKING:
    import os

    from opentelemetry.sdk.trace import ReadableSpan


class StoreProcessor(BatchSpanProcessor):
    """A batch processor on a :class:`SpanStoreExporter` that is silent once it is shut down.

    The SDK cannot take a span processor back from a provider, and its own one logs a warning for each span that comes
    after its shutdown; after ``uninstrument()`` the provider lives on.

    Args:
        directory: the store.
    """

    def __init__(self, directory: str | os.PathLike[str]) -> None:
        super().__init__(SpanStoreExporter(directory))
        self._open = True

    def on_end(self, span: ReadableSpan) -> None:
        """Queue a finished span for writing."""
        if self._open:
            super().on_end(span)

    def shutdown(self) -> None:
        """Write what is queued, and take nothing more."""
        self._open = False
        super().shutdown()  # type: ignore[no-untyped-call]
