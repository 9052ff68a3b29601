"""What the hooks work with while instrumentation is on: the pipeline and the user's declarations.

``current()`` is None before ``instrument()`` and after ``uninstrument()``; hooks that are still reached then pass the
call through. A request keeps the runtime that it was admitted under, so that it also ends after ``uninstrument()``.
"""

from __future__ import annotations

import logging
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from traceai_vllm.guard import Guard

if TYPE_CHECKING:
    from collections.abc import Callable

    from opentelemetry.metrics import Meter

    from traceai_vllm.content.content import ContentReader
    from traceai_vllm.engine.live import LiveRequest
    from traceai_vllm.record import Variant
    from traceai_vllm.telemetry.pipeline import Pipeline

_log = logging.getLogger("traceai_vllm")
_LOST = Guard("the end of an abandoned request")


@dataclass(slots=True, eq=False)
class Runtime:
    """One period of instrumentation, from ``instrument()`` to ``uninstrument()``.

    Attributes:
        pipeline: takes the records of finished requests.
        meter: the meter in force, where the engines' metrics are observed; None when nobody asks for them.
        model_variant: declared by the user; None to read it from the engine.
        quantization_format: declared by the user; None to read it from the engine.
        content: reads what requests say; None when that is not captured.
        place_hooks: puts the hooks in place that became needed.
        lost: requests that vLLM forgot without ending them; see :meth:`drain`.
        needed: the functions of vLLM that run at each engine step and that an engine needs hooked; see :meth:`need`.
    """

    pipeline: Pipeline
    meter: Meter | None = None
    model_variant: str | None = None
    quantization_format: str | None = None
    content: ContentReader | None = None
    place_hooks: Callable[[], None] = lambda: None
    lost: deque[LiveRequest] = field(default_factory=deque)
    needed: set[str] = field(default_factory=set)
    _logged: set[tuple[str, str]] = field(default_factory=set)

    def drain(self) -> None:
        """End the requests that were garbage-collected unfinished.

        The garbage collector may run while this thread holds a lock of the OpenTelemetry SDK, so they wait here until
        a hook is at a safe place.
        """
        while self.lost:
            live = self.lost.popleft()
            with _LOST:
                live.abandoned()

    def need(self, function: str) -> None:
        """Hook a function that vLLM calls at each engine step, because an engine needs it.

        With one request in flight a step is a token. ``LLM`` as it comes needs no such hook, and pays for none.
        """
        if function not in self.needed:
            self.needed.add(function)
            self.place_hooks()

    def note_declared(self, variant: Variant) -> None:
        """Log, once for each, where the user's declaration and the engine disagree."""
        for name, detected in variant.declared:
            if (name, detected) not in self._logged:
                self._logged.add((name, detected))
                _log.warning(
                    "instrument(%s=%r) is used on spans, but the engine says %r; that is kept as traceai.detected.%s.",
                    name,
                    getattr(variant, name),
                    detected,
                    name,
                )


_current: Runtime | None = None


def current() -> Runtime | None:
    """Return the runtime in force, or None when instrumentation is off."""
    return _current


def switch(runtime: Runtime | None) -> Runtime | None:
    """Put another runtime in force (None: off) and return the one before."""
    global _current
    before, _current = _current, runtime
    return before
