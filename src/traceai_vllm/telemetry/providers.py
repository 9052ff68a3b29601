"""Sets OpenTelemetry up from the standard ``OTEL_*`` variables, where the application has not done so itself.

So ``traceai_vllm.instrument()`` alone really exports. What the application has configured is left as it is,
signal by signal. Only public classes of the SDK are used (of exporters one inner step is replaced where
it is found, see :mod:`traceai_vllm.telemetry.encoding`), and the SDK reads its own variables: sampler, span limits,
batch sizes, intervals, resource. ``OTEL_SDK_DISABLED=true`` leaves everything off.

An exporter called ``none`` (or one that cannot be made) still gives a provider of the SDK, as the
specification has it: spans then have ids, and processors such as the local store can be added.

When the process exits, what is queued is sent for at most 5 seconds, see
:mod:`traceai_vllm.telemetry.closing`.
"""

from __future__ import annotations

import logging
import os
import threading
import uuid
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from opentelemetry import _logs, metrics, trace

from traceai_vllm.telemetry import exporters
from traceai_vllm.telemetry.closing import Closer, close_all, close_at_exit, run_all
from traceai_vllm.telemetry.exporters import LOGS, METRICS, TRACES, Exporter, Signal
from traceai_vllm.telemetry.forking import forget_measurements_in_children

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from opentelemetry._logs import LoggerProvider
    from opentelemetry.metrics import MeterProvider
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.trace import TracerProvider

    from traceai_vllm.telemetry.relay import Relay

EXIT_TIMEOUT_S = 5.0

_log = logging.getLogger("traceai_vllm")
_lock = threading.Lock()
_configured: Providers | None = None
_relay: Relay | None = None


@dataclass(frozen=True, slots=True)
class Providers:
    """The providers in force after :func:`configure`.

    Attributes:
        tracer_provider: the global tracer provider.
        meter_provider: the global meter provider.
        logger_provider: the global logger provider.
        owned: the signals (``traces``, ``metrics``, ``logs``) whose provider was set up here; the others are
            the application's, and are neither flushed nor shut down here.
    """

    tracer_provider: TracerProvider
    meter_provider: MeterProvider
    logger_provider: LoggerProvider
    owned: frozenset[str] = frozenset()
    _closers: tuple[Closer, ...] = field(default=(), repr=False)

    def force_flush(self, timeout_millis: int = 5000) -> bool:
        """Send what the owned providers hold, and return whether that took less than the timeout."""
        calls = [partial(provider.force_flush, timeout_millis) for provider in self._owned_providers()]
        return run_all(calls, timeout_millis / 1000)

    def shutdown(self, timeout_millis: int = 5000) -> bool:
        """Send what the owned providers hold, end them, and return whether that took less than the timeout.

        OpenTelemetry lets a global provider be set once, so these signals stay off for the rest of the
        process.
        """
        return close_all(self._closers, timeout_millis / 1000)

    def _owned_providers(self) -> list[Any]:
        by_name: dict[str, Any] = {
            TRACES.name: self.tracer_provider,
            METRICS.name: self.meter_provider,
            LOGS.name: self.logger_provider,
        }
        return [provider for name, provider in by_name.items() if name in self.owned]


def configure(*, service_name_fallback: str = "vllm", metrics_only: bool = False) -> Providers:
    """Set up the global providers that the application has not set, and return all three.

    Calling it again returns what the first call set up.

    Args:
        service_name_fallback: ``service.name`` when neither ``OTEL_SERVICE_NAME`` nor
            ``OTEL_RESOURCE_ATTRIBUTES`` gives one.
        metrics_only: leave traces and logs alone, in a process that has none.
    """
    global _configured  # noqa: PLW0603 - OpenTelemetry's own providers are global, and can be set only once
    with _lock:
        if _configured is None:
            setups = [setup for setup in _SETUPS if setup.signal is METRICS or not metrics_only]
            providers = _configure(service_name_fallback, setups)
            if not providers.owned:
                return providers
            _configured = providers
        return _configured


def _configure(service_name_fallback: str, setups: Sequence[_Setup]) -> Providers:
    if os.environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        _log.info("traceai-vllm sends no telemetry: OTEL_SDK_DISABLED=true")
        return _in_force()
    resource = _resource(service_name_fallback)
    owned: dict[str, Any] = {}
    destinations = []
    for setup in setups:
        if _is_placeholder(setup.current()):
            provider, destination = _set_up(setup, resource)
            if provider is not None:
                owned[setup.signal.name] = provider
        else:
            destination = "the application's own provider"
        destinations.append(f"{setup.signal.name} -> {destination}")
    _log.info("traceai-vllm sends %s", "; ".join(destinations))
    closers = tuple(Closer(f"traceai-close-{name}", provider.shutdown) for name, provider in owned.items())
    close_at_exit(closers, EXIT_TIMEOUT_S)
    return _in_force(frozenset(owned), closers)


def _in_force(owned: frozenset[str] = frozenset(), closers: tuple[Closer, ...] = ()) -> Providers:
    return Providers(
        trace.get_tracer_provider(), metrics.get_meter_provider(), _logs.get_logger_provider(), owned, closers
    )


def _is_placeholder(provider: object) -> bool:
    # ProxyTracerProvider, _ProxyMeterProvider, ProxyLoggerProvider: what the API gives until one is set. A
    # no-op provider was set by somebody, on purpose.
    kind = type(provider)
    return "Proxy" in kind.__name__ and kind.__module__.startswith("opentelemetry.")


def _set_up(setup: _Setup, resource: Resource) -> tuple[Any, str]:
    try:
        chosen = exporters.exporters_for(setup.signal)
        provider = setup.build(resource, chosen)
    except Exception as error:
        # The SDK raises for variables such as OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT=many.
        _log.warning(
            "The OTEL_* variables for %s cannot be used (%s: %s): %s are off. Your program is not affected.",
            setup.signal.name,
            type(error).__name__,
            error,
            setup.signal.name,
        )
        return None, "nowhere"
    setup.make_global(provider)
    return provider, ", ".join(exporter.destination for exporter in chosen) or "nowhere"


def _resource(service_name_fallback: str) -> Resource:
    from opentelemetry.sdk.resources import SERVICE_INSTANCE_ID, SERVICE_NAME, Resource

    resource = Resource.create()
    if str(resource.attributes.get(SERVICE_NAME, "")).startswith("unknown_service"):
        resource = resource.merge(Resource({SERVICE_NAME: service_name_fallback}))
    if SERVICE_INSTANCE_ID not in resource.attributes:  # newer SDKs give one by themselves
        resource = resource.merge(Resource({SERVICE_INSTANCE_ID: str(uuid.uuid4())}))
    return resource


def _build_tracer_provider(resource: Resource, chosen: list[Exporter]) -> Any:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    from traceai_vllm.telemetry.ids import OwnIds
    from traceai_vllm.telemetry.relay import Relay

    global _relay  # noqa: PLW0603 - as the provider that it stands in
    provider = TracerProvider(resource=resource, shutdown_on_exit=False, id_generator=OwnIds())
    _relay = Relay(*(BatchSpanProcessor(exporter.instance) for exporter in chosen))
    provider.add_span_processor(_relay)
    return provider


def relay_of(tracer_provider: object) -> Relay | None:
    """Return the place before the exporters of a tracer provider; None when it was not set up here."""
    if _configured is None or TRACES.name not in _configured.owned:
        return None
    return _relay if tracer_provider is _configured.tracer_provider else None


def _build_meter_provider(resource: Resource, chosen: list[Exporter]) -> Any:
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import MetricReader, PeriodicExportingMetricReader

    readers = [
        exporter.instance
        if isinstance(exporter.instance, MetricReader)
        else PeriodicExportingMetricReader(exporter.instance)
        for exporter in chosen
    ]
    provider = MeterProvider(metric_readers=readers, resource=resource, shutdown_on_exit=False)
    forget_measurements_in_children(provider)
    return provider


def _build_logger_provider(resource: Resource, chosen: list[Exporter]) -> Any:
    # The SDK has no other home for its logs classes yet.
    from opentelemetry.sdk._logs import LoggerProvider
    from opentelemetry.sdk._logs.export import BatchLogRecordProcessor

    provider = LoggerProvider(resource=resource, shutdown_on_exit=False)
    for exporter in chosen:
        provider.add_log_record_processor(BatchLogRecordProcessor(exporter.instance))
    return provider


@dataclass(frozen=True, slots=True)
class _Setup:
    signal: Signal
    current: Callable[[], object]
    build: Callable[[Resource, list[Exporter]], Any]
    make_global: Callable[[Any], None]


_SETUPS = (
    _Setup(TRACES, trace.get_tracer_provider, _build_tracer_provider, trace.set_tracer_provider),
    _Setup(METRICS, metrics.get_meter_provider, _build_meter_provider, metrics.set_meter_provider),
    _Setup(LOGS, _logs.get_logger_provider, _build_logger_provider, _logs.set_logger_provider),
)
