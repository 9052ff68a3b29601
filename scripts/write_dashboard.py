"""Writes deploy/grafana/traceai-vllm.json, the dashboard of what we measure: `python scripts/write_dashboard.py`.

Series have the names that a collector's Prometheus exporter gives them
(https://opentelemetry.io/docs/specs/otel/compatibility/prometheus_and_openmetrics/).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from grafana_foundation_sdk.builders import common, timeseries
from grafana_foundation_sdk.builders import dashboard as dashboards
from grafana_foundation_sdk.builders import prometheus as queries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.common import LegendDisplayMode, LegendPlacement, TooltipDisplayMode
from grafana_foundation_sdk.models.dashboard import (
    DashboardCursorSync,
    DataSourceRef,
    VariableHide,
    VariableOption,
    VariableRefresh,
)

from traceai_vllm.gateway import durations, measures
from traceai_vllm.telemetry import semconv

if TYPE_CHECKING:
    from traceai_vllm.telemetry.semconv import Metric

TARGET = Path(__file__).parents[1] / "deploy" / "grafana" / "traceai-vllm.json"
_UNITS = {"s": "_seconds", "By": "_bytes"}
_SOURCE = DataSourceRef(type_val="prometheus", uid="${datasource}")
_PER_ROW, _WIDTH, _HEIGHT = 3, 24, 8
# What requests of one variant and route have in common; both can be chosen at the top of the page.
_CHOSEN = 'model_variant=~"$variant", route=~"$route"'
# Some of vLLM's own metrics have the same names, and no variant.
_ENGINE = 'model_variant=~"$variant", model_variant!=""'
_MACHINE = 'model_variant=~"$variant"'


def series(metric: Metric, suffix: str = "") -> str:
    """Return what Prometheus calls a metric of ours."""
    name = metric.name.replace(".", "_") + _UNITS.get(metric.unit, "")
    return name + ("_total" if metric.instrument in ("counter", "observable counter") else suffix)


@dataclass(frozen=True)
class Panel:
    """One diagram.

    Attributes:
        title: over it.
        about: how it is to be read.
        unit: Grafana's name of the unit.
        curves: what is drawn: a query, and what its curves are called.
        at_most: the end of the axis; None: that of the curves.
    """

    title: str
    about: str
    unit: str
    curves: tuple[tuple[str, str], ...]
    at_most: float | None = None


def rate(name: str, by: str, chosen: str = _CHOSEN) -> str:
    """Return the query of how much a counter grows in a second, summed by labels."""
    return f"sum by ({by}) (rate({name}{{{chosen}}}[$__rate_interval]))"


def quantiles(metric: Metric, by: str = "model_variant", chosen: str = _CHOSEN) -> tuple[tuple[str, str], ...]:
    """Return the curves of median and 99th percentile of a histogram."""
    buckets = rate(series(metric, "_bucket"), f"le, {by}", chosen)
    labels = " ".join(f"{{{{{label.strip()}}}}}" for label in by.split(","))
    return tuple((f"histogram_quantile({share}, {buckets})", f"{labels} p{share * 100:g}") for share in (0.5, 0.99))


def share_of(part: str, whole: str) -> str:
    """Return the query of a share that is 0, and not missing, where there is a whole and no part of it."""
    return f"({part} or 0 * {whole}) / {whole}"


_REQUESTS = series(semconv.REQUEST_DURATION, "_count")
_EVALUATIONS = series(semconv.EVALUATIONS)
_SCORES = series(semconv.EVALUATION_SCORE)
_FEEDBACK = series(semconv.FEEDBACK_COUNT)
_MIRROR = measures.REQUESTS.replace(".", "_") + "_total"
_BY_VARIANT, _BY_EVALUATOR = "model_variant", "model_variant, gen_ai_evaluation_name"

ROWS: tuple[tuple[str, tuple[Panel, ...]], ...] = (
    (
        "Requests, by variant",
        (
            Panel(
                "Requests per second",
                "What each variant's engine was asked, copies of mirrored requests too.",
                "reqps",
                ((rate(_REQUESTS, "model_variant, route"), "{{model_variant}} {{route}}"),),
            ),
            Panel(
                "Requests that failed",
                "Share of requests that ended with an error, by variant.",
                "percentunit",
                (
                    (
                        share_of(
                            rate(_REQUESTS, _BY_VARIANT, f'{_CHOSEN}, error_type!=""'), rate(_REQUESTS, _BY_VARIANT)
                        ),
                        "{{model_variant}}",
                    ),
                ),
            ),
            Panel(
                "Output tokens per second",
                "Throughput of all engines of a variant together.",
                "short",
                (
                    (
                        rate(
                            series(semconv.TOKEN_USAGE, "_sum"), _BY_VARIANT, f'{_CHOSEN}, gen_ai_token_type="output"'
                        ),
                        "{{model_variant}}",
                    ),
                ),
            ),
            Panel("Time to first token", "From arrival at the engine.", "s", quantiles(semconv.TIME_TO_FIRST_TOKEN)),
            Panel("Duration", "From arrival to the end of the answer.", "s", quantiles(semconv.REQUEST_DURATION)),
            Panel(
                "Time per output token",
                "Mean of each request after its first token.",
                "s",
                quantiles(semconv.TIME_PER_OUTPUT_TOKEN),
            ),
        ),
    ),
    (
        "Answers, by variant",
        (
            Panel(
                "Evaluations that failed",
                "Share below the evaluator's threshold. Variants that answer different requests cannot be compared by "
                "this; `traceai-vllm gate` compares answers to the same request, and says when there are enough.",
                "percentunit",
                (
                    (
                        share_of(
                            rate(_EVALUATIONS, _BY_EVALUATOR, f'{_CHOSEN}, passed="false"'),
                            rate(_EVALUATIONS, _BY_EVALUATOR, f'{_CHOSEN}, passed!=""'),
                        ),
                        "{{model_variant}} {{gen_ai_evaluation_name}}",
                    ),
                ),
            ),
            Panel(
                "Mean score",
                "1 is best for every evaluator of ours.",
                "short",
                (
                    (
                        f"{rate(_SCORES + '_sum', _BY_EVALUATOR)} / {rate(_SCORES + '_count', _BY_EVALUATOR)}",
                        "{{model_variant}} {{gen_ai_evaluation_name}}",
                    ),
                ),
                at_most=1,
            ),
            Panel(
                "Negative feedback",
                "Thumbs down, corrections, escalations and abandoned sessions in the last hour.",
                "short",
                (
                    (
                        f"sum by (model_variant, traceai_feedback_kind) (increase({_FEEDBACK}"
                        f'{{{_CHOSEN}, traceai_feedback_kind!="thumbs_up"}}[1h]))',
                        "{{model_variant}} {{traceai_feedback_kind}}",
                    ),
                ),
            ),
        ),
    ),
    (
        "Gateway",
        (
            Panel(
                "The mirror's books",
                "Sampled requests per second, and what became of them: sampled = paired + candidate_error + "
                "primary_error + dropped + in flight.",
                "reqps",
                ((rate(_MIRROR, "outcome", 'route=~"$route"'), "{{outcome}}"),),
            ),
            Panel(
                "Dropped copies",
                "Why a sampled request has no pair. Missing pairs are rarely missing at random.",
                "reqps",
                ((rate(_MIRROR, "reason", 'route=~"$route", outcome="dropped"'), "{{reason}}"),),
            ),
            Panel(
                "In flight, and held for pairs",
                "Sampled requests without an outcome yet; bytes of requests and answers that are kept for them.",
                "short",
                (
                    (f'sum({measures.IN_FLIGHT.replace(".", "_")}{{route=~"$route"}})', "requests in flight"),
                    (f"sum({measures.HELD.replace('.', '_')}_bytes) / 2^20", "MiB held"),
                ),
            ),
            Panel(
                "Duration of both arms",
                "Taken by the gateway at the same points for both.",
                "s",
                quantiles(durations.OPERATION_DURATION, "traceai_pair_arm"),
            ),
            Panel(
                "First piece of streams",
                "Time to it, of both arms.",
                "s",
                quantiles(durations.TIME_TO_FIRST_CHUNK, "traceai_pair_arm"),
            ),
            Panel(
                "Rollbacks",
                "Routes that the guard gave back to the baseline since the gateway began, by what it saw.",
                "short",
                (
                    (
                        f'sum by (route, signal) ({measures.ROLLBACKS.replace(".", "_")}_total{{route=~"$route"}})',
                        "{{route}} {{signal}}",
                    ),
                ),
            ),
        ),
    ),
    (
        "Engines",
        (
            Panel(
                "Requests in the engine",
                "As its scheduler said last.",
                "short",
                (
                    (
                        f"sum by (model_variant) ({series(semconv.NUM_REQUESTS_RUNNING)}{{{_ENGINE}}})",
                        "{{model_variant}} running",
                    ),
                    (
                        f"sum by (model_variant) ({series(semconv.NUM_REQUESTS_WAITING)}{{{_ENGINE}}})",
                        "{{model_variant}} waiting",
                    ),
                ),
            ),
            Panel(
                "KV cache in use",
                "The fullest engine of a variant.",
                "percentunit",
                # A collector puts _ratio at the end, OpenTelemetry's exporter for Python does not.
                (
                    (
                        f'max by (model_variant) ({{__name__=~"{series(semconv.KV_CACHE_USAGE)}(_ratio)?", {_ENGINE}}})',
                        "{{model_variant}}",
                    ),
                ),
                at_most=1,
            ),
            Panel(
                "Memory",
                "GPU memory where there is an NVIDIA GPU; resident memory of the server's processes.",
                "bytes",
                (
                    (
                        f"sum by (model_variant, hw_id) ({series(semconv.GPU_MEMORY_USAGE)}{{{_MACHINE}}})",
                        "{{model_variant}} GPU {{hw_id}}",
                    ),
                    (
                        f"sum by (model_variant) ({series(semconv.PROCESS_MEMORY_USAGE)}{{{_MACHINE}}})",
                        "{{model_variant}} resident",
                    ),
                ),
            ),
            Panel(
                "Weights and KV cache",
                "What they take of a worker's memory, summed over workers.",
                "bytes",
                (
                    (
                        f"sum by (model_variant) ({series(semconv.WEIGHTS_MEMORY)}{{{_ENGINE}}})",
                        "{{model_variant}} weights",
                    ),
                    (
                        f"sum by (model_variant) ({series(semconv.KV_CACHE_MEMORY)}{{{_ENGINE}}})",
                        "{{model_variant}} KV cache",
                    ),
                ),
            ),
            Panel(
                "Prefix cache hits",
                "Share of the prompt tokens that were looked up.",
                "percentunit",
                (
                    (
                        share_of(
                            rate(series(semconv.PREFIX_CACHE_HITS), _BY_VARIANT, _ENGINE),
                            rate(series(semconv.PREFIX_CACHE_QUERIES), _BY_VARIANT, _ENGINE),
                        ),
                        "{{model_variant}}",
                    ),
                ),
                at_most=1,
            ),
            Panel(
                "Preemptions per second",
                "Requests that the scheduler put back for lack of KV cache.",
                "short",
                ((rate(series(semconv.NUM_PREEMPTIONS), _BY_VARIANT, _ENGINE), "{{model_variant}}"),),
            ),
        ),
    ),
    (
        "traceai-vllm itself",
        (
            Panel(
                "Errors of ours",
                "Swallowed, so that the user's call went on; each kind is in the log once.",
                "short",
                ((f"sum by (where, error_type) ({series(semconv.INTERNAL_ERRORS)})", "{{where}} {{error_type}}"),),
            ),
            Panel(
                "Evaluations without a score",
                "Evaluators that failed, timed out or stood behind an open circuit, per second.",
                "short",
                (
                    (
                        rate(
                            _EVALUATIONS, "gen_ai_evaluation_name, traceai_evaluation_status", f'{_CHOSEN}, passed=""'
                        ),
                        "{{gen_ai_evaluation_name}} {{traceai_evaluation_status}}",
                    ),
                ),
            ),
            Panel(
                "Values that became `other`",
                "Tags with more values than a metric keeps, or that callers may not set.",
                "short",
                (
                    (f"sum by (dimension) ({series(semconv.CAPPED_VALUES)})", "{{dimension}}"),
                    (f"sum({series(semconv.CALLER_VALUES_REPLACED)})", "of callers"),
                ),
            ),
        ),
    ),
)


def page() -> str:
    """Return the dashboard as Grafana imports it."""
    board = (
        dashboards.Dashboard("traceai-vllm")
        .uid("traceai-vllm")
        .description("Quantized and unquantized variants of a model side by side: what traceai-vllm measures.")
        .tags(["vllm", "opentelemetry", "traceai-vllm"])
        .refresh("30s")
        .time("now-6h", "now")
        .tooltip(DashboardCursorSync.CROSSHAIR)
        .with_variable(dashboards.DatasourceVariable("datasource").label("Prometheus").type("prometheus"))
        .with_variable(_variable("variant", "Variant", "model_variant"))
        .with_variable(_variable("route", "Route", "route"))
    )
    for title, panels in ROWS:
        board = board.with_row(dashboards.Row(title))
        for panel in panels:
            board = board.with_panel(_panel(panel))
    return JSONEncoder(sort_keys=True, indent=2).encode(board.build()) + "\n"


def _variable(name: str, label: str, values: str) -> dashboards.QueryVariable:
    # "All" has to match requests without the tag, too.
    return (
        dashboards.QueryVariable(name)
        .label(label)
        .hide(VariableHide.DONT_HIDE)
        .datasource(_SOURCE)
        .query(f"label_values({_REQUESTS}, {values})")
        .refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
        .multi(True)
        .include_all(True)
        .all_value(".*")
        .current(VariableOption(selected=True, text="All", value="$__all"))
    )


def _panel(panel: Panel) -> timeseries.Panel:
    drawn = (
        timeseries.Panel()
        .title(panel.title)
        .description(panel.about)
        .datasource(_SOURCE)
        .unit(panel.unit)
        .min(0)
        .span(_WIDTH // _PER_ROW)
        .height(_HEIGHT)
        .legend(
            common.VizLegendOptions()
            .display_mode(LegendDisplayMode.LIST)
            .placement(LegendPlacement.BOTTOM)
            .show_legend(True)
        )
        .tooltip(common.VizTooltipOptions().mode(TooltipDisplayMode.MULTI))
    )
    if panel.at_most is not None:
        drawn = drawn.max(panel.at_most)
    for place, (query, legend) in enumerate(panel.curves):
        drawn = drawn.with_target(queries.Dataquery().expr(query).legend_format(legend).ref_id(chr(ord("A") + place)))
    return drawn


if __name__ == "__main__":
    TARGET.write_text(page())
    print(f"wrote {TARGET.name}")
