"""A place in a tracer provider where another processor can stand before the ones that export, and leave again.

The SDK can neither take a span processor back from a provider nor put one before another.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from opentelemetry.sdk.trace import SpanProcessor

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.sdk.trace import ReadableSpan, Span


class Relay(SpanProcessor):
    """Passes spans on to processors that export, by way of another processor while there is one.

    Args:
        *processors: the ones that export.
    """

    def __init__(self, *processors: SpanProcessor) -> None:
        self._exporting = _All(processors)
        self._before: SpanProcessor | None = None

    @property
    def exporting(self) -> SpanProcessor:
        """What the processor that stands before hands its spans to. Shutting this down does nothing."""
        return self._exporting

    def stand_before(self, processor: SpanProcessor | None) -> None:
        """Let ended spans go to this processor from now on; None: straight to the ones that export."""
        self._before = processor

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        """Pass the start of a span on."""
        self._exporting.on_start(span, parent_context)

    def on_end(self, span: ReadableSpan) -> None:
        """Pass an ended span on."""
        (self._before or self._exporting).on_end(span)

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Flush all; return whether that was done in time."""
        return (self._before or self._exporting).force_flush(timeout_millis)

    def shutdown(self) -> None:
        """Shut all down."""
        before, self._before = self._before, None
        if before is not None:
            before.shutdown()
        for processor in self._exporting.processors:
            processor.shutdown()


class _All(SpanProcessor):
    def __init__(self, processors: tuple[SpanProcessor, ...]) -> None:
        self.processors = processors

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        for processor in self.processors:
            processor.on_start(span, parent_context)

    def on_end(self, span: ReadableSpan) -> None:
        for processor in self.processors:
            processor.on_end(span)

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        deadline = time.monotonic() + timeout_millis / 1000
        left = [
            processor.force_flush(max(0, int((deadline - time.monotonic()) * 1000))) for processor in self.processors
        ]
        return all(left)
