"""Turns the server part on and off, together with the rest of the instrumentation."""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING

from traceai_vllm.server import callers, fastapi
from traceai_vllm.server.options import ServerOptions, flag

if TYPE_CHECKING:
    from opentelemetry.metrics import Meter
    from opentelemetry.trace import TracerProvider

_log = logging.getLogger("traceai_vllm")


def options_from(server: bool | ServerOptions | None) -> ServerOptions | None:
    """Return the options for what ``instrument(server=...)`` was given; None when HTTP is left alone.

    Raises:
        TypeError: it is neither; taken for True, it would believe callers whom it was to distrust.
    """
    if server is None:
        server = flag("TRACEAI_VLLM_SERVER", True)
    if not isinstance(server, (bool, ServerOptions)):
        raise TypeError(f"instrument(server=...) takes True, False or ServerOptions, not {type(server).__name__}")
    if isinstance(server, ServerOptions):
        return server
    return ServerOptions.from_environment() if server else None


def switch_on(
    options: ServerOptions | None, tracer_provider: TracerProvider, meter: Meter, *, content_on_spans: bool
) -> None:
    """Read callers from now on, unless HTTP is to be left alone."""
    _warn_of_rust_frontend()
    if options is None:
        return
    counts = callers.observe_replaced(meter)
    reader = callers.Callers(options, shows_content=content_on_spans, counts=counts)
    fastapi.use(tracer_provider)
    callers.switch(reader)


def switch_off() -> None:
    """Stop reading callers; applications that were instrumented here get their middleware back."""
    callers.switch(None)
    fastapi.release()
    fastapi.use(None)


def _warn_of_rust_frontend() -> None:
    if os.environ.get("VLLM_USE_RUST_FRONTEND", "").strip() not in ("", "0"):  # vLLM 0.22 and later
        _log.warning(
            "VLLM_USE_RUST_FRONTEND=%s: `vllm serve` then answers requests in a process without Python, where "
            "traceai-vllm sees none of them: there will be no spans and no metrics. Unset it to be traced. "
            "(vLLM's own --otlp-traces-endpoint is not affected by this choice of ours.)",
            os.environ["VLLM_USE_RUST_FRONTEND"],
        )
