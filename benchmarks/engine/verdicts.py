"""From figures to verdicts: each target, what was measured for it, and whether it is met."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.engine import summary

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from benchmarks.engine.summary import Figure

    Parts = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table.

    Attributes:
        target: the target's number, e.g. ``A1``.
        what: what was measured.
        limit: the target in words.
        measured: the figure in words.
        spread: its spread over rounds in words.
        met: whether the target is met; None where there is nothing to meet or it was not measured.
    """

    target: str
    what: str
    limit: str
    measured: str
    spread: str = ""
    met: bool | None = None


def rows(parts: Parts) -> list[Row]:
    """Return all lines for which the parts were run."""
    made: list[Row] = []
    for part, build in _BUILDERS:
        if part in parts:
            made += build(parts[part]["groups"], parts[part]["facts"])
    if "real_model" in parts and "frontend" in parts:
        made.append(_expected_on_real_model(parts))
    made.append(Row("A1", "throughput, `vllm serve`", "≥ 0.985", "not measured here: a later part"))
    return sorted(made, key=lambda row: row.target)


def _ratio_row(what: str, group: Any, arm: str, limit: float | None, base: str = "bare") -> Row:
    figure = summary.throughput_ratio(group, arm, base)
    met = None if limit is None else figure.value >= limit
    return Row("A1", what, _limit("≥", limit), _words(figure, ".4f"), _spread(figure, ".3f"), met)


def _offline(groups: Any, _: Any) -> list[Row]:
    group = groups["one_layer"]
    return [
        _ratio_row("throughput, offline, one layer: ours / bare", group, "ours", 0.985),
        _ratio_row("— ours with metrics / bare", group, "ours_metrics", None),
        _ratio_row("— bare / bare, the noise", group, "bare_again", None),
        _ratio_row("— vLLM's statistics on / bare (another engine)", group, "stats", None),
        _ratio_row("— ours / statistics on", group, "ours_stats", None, "stats"),
        _ratio_row("— vLLM's own tracing / statistics on", group, "native", None, "stats"),
    ]


def _small_vocabulary(groups: Any, _: Any) -> list[Row]:
    group = groups["small_vocabulary"]
    what = "— a vocabulary of 4,096, cheaper than any real engine: ours / bare"
    return [
        _ratio_row(what, group, "ours", None),
        _ratio_row("— the same: bare / bare, the noise", group, "bare_again", None),
    ]


def _real_model(groups: Any, _: Any) -> list[Row]:
    group = groups["real_model"]
    return [
        _ratio_row("throughput, offline, 135 M: ours / bare", group, "ours", 0.998),
        _ratio_row("— bare / bare, the noise", group, "bare_again", None),
    ]


def _expected_on_real_model(parts: Parts) -> Row:
    added = summary.added_cpu(parts["frontend"]["groups"]["short"], "ours").value
    bare = summary.per_request(parts["real_model"]["groups"]["real_model"], "bare", "wall_s").value
    measured = f"{1 / (1 + added / bare):.5f}"
    return Row("A1", "— 135 M by arithmetic: added CPU (A2) on the time per request", "≥ 0.998", measured)


def _concurrent(groups: Any, _: Any) -> list[Row]:
    group = groups["concurrent"]
    added = summary.added_cpu(group, "ours")
    return [
        _ratio_row("throughput, `AsyncLLM`, 64 in flight: ours / bare", group, "ours", 0.985),
        _ratio_row("— ours with metrics / bare", group, "ours_metrics", None),
        _ratio_row("— bare / bare, the noise", group, "bare_again", None),
        Row("A2", "CPU added per request, `AsyncLLM` frontend: ours", "", _words(added, ".0f", " µs"), _spread(added)),
    ]


def _frontend(groups: Any, facts: Any) -> list[Row]:
    return [*_added_rows(groups["short"]), *_off_rows(groups["short"], facts), *_length_rows(groups)]


_ADDED = (
    ("a bare SDK span with the same attributes", "floor", "bare"),
    ("ours", "ours", "bare"),
    ("vLLM's own tracing, over statistics on", "native", "stats"),
    ("ours, over statistics on", "ours_stats", "stats"),
    ("a bare SDK span and five histograms", "floor_metrics", "bare"),
    ("ours with metrics", "ours_metrics", "bare"),
    ("a bare SDK span, really exported (OTLP/gRPC)", "floor_otlp", "bare"),
    ("ours, really exported", "ours_otlp", "bare"),
    ("vLLM's own tracing, really exported", "native_otlp", "stats"),
    ("bare vLLM again, the noise", "bare_again", "bare"),
)


def _added_rows(group: Any) -> list[Row]:
    added = {arm: summary.added_by_round(group, arm, base) for _, arm, base in _ADDED}
    made = [_quotient_row("ours / a bare SDK span", added["ours"], added["floor"], 1.3)]
    made.append(_quotient_row("ours / vLLM's own tracing", added["ours"], added["native"], 0.4))
    made.append(_quotient_row("— a bare SDK span / vLLM's own tracing", added["floor"], added["native"]))
    made.append(_quotient_row("— with metrics: ours / bare", added["ours_metrics"], added["floor_metrics"]))
    made.append(_quotient_row("— really exported: ours / vLLM's own", added["ours_otlp"], added["native_otlp"]))
    for what, arm, _ in _ADDED:
        made.append(_added_row("A2", f"CPU added per request: {what}", summary.median_of(added[arm])))
    return made


def _off_rows(group: Any, facts: Any) -> list[Row]:
    off, floor = summary.added_cpu(group, "ours_off"), summary.added_cpu(group, "floor_off")
    limit = max(15.0, 2 * floor.value)
    same = facts["identity"]["same_after"] and facts["identity"]["changed_while_instrumented"]
    measured = "the same function objects" if same else "other function objects are left behind"
    return [
        _added_row(
            "A3", "CPU added per request, sampled off: ours", off, "≤ 15 µs, or twice the bare one", off.value <= limit
        ),
        _added_row("A3", "— a bare sampled-off SDK span", floor),
        Row("A3", "after `uninstrument()`", "nothing is left", measured, met=same),
    ]


def _length_rows(groups: Any) -> list[Row]:
    made: list[Row] = []
    for what, short, long in (("many in flight", "short", "long"), ("one in flight", "short_alone", "long_alone")):
        for tokens, group in ((16, groups[short]), (512, groups[long])):
            for label, arm in (("ours", "ours"), ("bare again, the noise", "bare_again")):
                figure = summary.added_cpu(group, arm)
                made.append(_added_row("A4", f"— CPU added at {tokens} tokens, {what}: {label}", figure))
        made.append(_length_row(what, groups[short], groups[long]))
    return made


def _length_row(what: str, short: Any, long: Any) -> Row:
    added = summary.difference(summary.added_by_round(long, "ours"), summary.added_by_round(short, "ours"))
    noise = summary.added_by_round(long, "bare_again")
    spread = float(np.subtract(*np.percentile(noise, [75, 25])))
    measured = f"{_words(added, '.0f', ' µs')}, {added.value / 496 * 1e3:.0f} ns per token"
    limit = f"less than the noise ({spread:.0f} µs: bare against bare, between its quartiles)"
    return Row("A4", f"CPU added at 512 tokens less that at 16, {what}", limit, measured, met=abs(added.value) < spread)


def _micro(groups: Any, facts: Any) -> list[Row]:
    group = groups["micro"]
    made = []
    for what, arm in (
        (f"a bare SDK span, {facts['span_attributes']} attributes at its start", "sdk_span"),
        ("the same set one by one", "sdk_span_one_by_one"),
        ("our span, from the record to the batch processor", "ours"),
        ("our span and its metrics", "ours_metrics"),
        ("five histogram records of the SDK", "sdk_five_histograms"),
        ("a bare SDK span, sampled off", "sdk_span_off"),
        ("our span, sampled off", "ours_off"),
    ):
        made.append(_added_row("A2", f"in a loop of its own: {what}", summary.per_request(group, arm, "cpu_s")))
    return made


def _imports(groups: Any, facts: Any) -> list[Row]:
    group = groups["imports"]
    added = summary.median_of(summary.added_by_round(group, "ours", "opentelemetry", "wall_s") / 1e3)
    whole = summary.median_of(summary.per_round(group, "opentelemetry", "wall_s") / 1e3)
    heavy = facts["heavy_modules"]
    return [
        Row(
            "A6",
            "import and `instrument()` over OpenTelemetry's own imports",
            "≤ 60 ms",
            _words(added, ".1f", " ms"),
            _spread(added, ".1f"),
            added.value <= 60,
        ),
        Row("A6", "— OpenTelemetry's own imports", "", _words(whole, ".1f", " ms"), _spread(whole, ".1f")),
        Row("A6", "torch and vllm", "not imported", ", ".join(heavy) or "not imported", met=not heavy),
    ]


def _quotient_row(what: str, above: Any, below: Any, limit: float | None = None) -> Row:
    figure = summary.quotient(above, below)
    met = None if limit is None else figure.value <= limit
    what = what if what.startswith("—") else f"CPU added: {what}"
    return Row("A2", what, _limit("≤", limit), _words(figure, ".2f"), met=met)


def _added_row(target: str, what: str, figure: Figure, limit: str = "", met: bool | None = None) -> Row:
    return Row(target, what, limit, _words(figure, ".1f", " µs"), _spread(figure), met)


def _limit(sign: str, limit: float | None) -> str:
    return "" if limit is None else f"{sign} {limit}"


def _words(figure: Figure, form: str, unit: str = "") -> str:
    return f"{figure.value:{form}}{unit} ({figure.low:{form}} to {figure.high:{form}})"


def _spread(figure: Figure, form: str = ".0f") -> str:
    if figure.spread is None:
        return ""
    minimum, first, third, maximum = (f"{value:{form}}" for value in figure.spread)
    return f"{first} to {third}; {minimum} to {maximum}"


_BUILDERS: tuple[tuple[str, Callable[[Any, Any], list[Row]]], ...] = (
    ("offline", _offline),
    ("small_vocabulary", _small_vocabulary),
    ("real_model", _real_model),
    ("concurrent", _concurrent),
    ("frontend", _frontend),
    ("micro", _micro),
    ("imports", _imports),
)
