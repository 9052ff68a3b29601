"""The books as metrics: OpenTelemetry's, and Prometheus' text for the admin port."""

from __future__ import annotations

from typing import TYPE_CHECKING

from opentelemetry import metrics
from opentelemetry.metrics import CallbackOptions, Observation

from traceai_vllm.version import __version__

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from opentelemetry.metrics import MeterProvider

    from traceai_vllm.gateway.books import Entry
    from traceai_vllm.gateway.runtime import Runtime

    Observe = Callable[[CallbackOptions], Iterable[Observation]]

REQUESTS = "traceai.mirror.requests"
IN_FLIGHT = "traceai.mirror.in_flight"
HELD = "traceai.gateway.held"
ROLLBACKS = "traceai.gateway.rollbacks"
STORED = "traceai.gateway.store.spans"


def observe(runtime: Runtime, meter_provider: MeterProvider | None) -> None:
    """Report the books of a gateway as metrics."""
    meter = metrics.get_meter("traceai_vllm.gateway", __version__, meter_provider)
    meter.create_observable_counter(
        REQUESTS,
        [_requests(runtime)],
        unit="{request}",
        description="Requests in the mirror's books, by outcome.",
    )
    meter.create_observable_up_down_counter(
        IN_FLIGHT, [_in_flight(runtime)], unit="{request}", description="Sampled requests without an outcome yet."
    )
    meter.create_observable_up_down_counter(
        HELD,
        [_held(runtime)],
        unit="By",
        description="Bytes of requests and answers that are kept for pairs and spans.",
    )
    meter.create_observable_counter(
        ROLLBACKS,
        [_rollbacks(runtime)],
        unit="{rollback}",
        description="Routes that the guard gave back to the baseline, by what it saw.",
    )
    meter.create_observable_counter(
        STORED, [_stored(runtime)], unit="{span}", description="What became of the spans for the local store."
    )


def _rollbacks(runtime: Runtime) -> Observe:
    def read(options: CallbackOptions) -> Iterable[Observation]:
        for (route, signal), count in runtime.rollout.counts.items():
            yield Observation(count, {"route": route, "signal": signal})

    return read


def _requests(runtime: Runtime) -> Observe:
    def read(options: CallbackOptions) -> Iterable[Observation]:
        for entry, count in runtime.books.entries().items():
            yield Observation(count, _labels(entry))

    return read


def _in_flight(runtime: Runtime) -> Observe:
    def read(options: CallbackOptions) -> Iterable[Observation]:
        for (route, target), count in runtime.books.in_flight().items():
            yield Observation(count, {"route": route, "target": target})

    return read


def _held(runtime: Runtime) -> Observe:
    def read(options: CallbackOptions) -> Iterable[Observation]:
        yield Observation(runtime.budget.used)

    return read


def _stored(runtime: Runtime) -> Observe:
    def read(options: CallbackOptions) -> Iterable[Observation]:
        for outcome, count in _outcomes(runtime).items():
            yield Observation(count, {"outcome": outcome})

    return read


def _outcomes(runtime: Runtime) -> dict[str, int]:
    if runtime.stored is None:
        return {}
    counts = runtime.stored()
    return {outcome: counts[outcome] for outcome in ("written", "failed", "removed")}


def _labels(entry: Entry) -> dict[str, str]:
    labels = {"route": entry.route, "target": entry.target, "outcome": entry.outcome}
    if entry.reason:
        labels["reason"] = entry.reason
    if entry.decile:
        labels["prompt_length_decile"] = entry.decile
    return labels


def prometheus(runtime: Runtime) -> str:
    """Return the books in Prometheus' text format."""
    lines = ["# TYPE traceai_mirror_requests_total counter"]
    lines += [_line("traceai_mirror_requests_total", _labels(e), n) for e, n in runtime.books.entries().items()]
    lines.append("# TYPE traceai_mirror_in_flight gauge")
    for (route, target), count in runtime.books.in_flight().items():
        lines.append(_line("traceai_mirror_in_flight", {"route": route, "target": target}, count))
    lines.append("# TYPE traceai_gateway_rollbacks_total counter")
    for (route, signal), count in runtime.rollout.counts.items():
        lines.append(_line("traceai_gateway_rollbacks_total", {"route": route, "signal": signal}, count))
    if runtime.stored is not None:
        lines.append("# TYPE traceai_gateway_store_spans_total counter")
    for outcome, count in _outcomes(runtime).items():
        lines.append(_line("traceai_gateway_store_spans_total", {"outcome": outcome}, count))
    lines += ["# TYPE traceai_gateway_held_bytes gauge", _line("traceai_gateway_held_bytes", {}, runtime.budget.used)]
    return "\n".join(lines) + "\n"


def _line(name: str, labels: dict[str, str], value: int) -> str:
    quoted = ",".join(f'{key}="{_escaped(text)}"' for key, text in labels.items())
    return f"{name}{{{quoted}}} {value}" if quoted else f"{name} {value}"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
