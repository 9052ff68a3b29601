"""From figures to verdicts: each target, what was measured for it, and whether it is met."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from benchmarks.engine import summary

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from benchmarks.engine.summary import Figure

    Parts = Mapping[str, Mapping[str, Any]]

MET, NOT_MET = "met", "**not met**"
# The interval holds the limit: the rounds cannot tell. The median says which side is likelier.
UNDECIDED = {True: "undecided (median meets it)", False: "undecided (median misses it)"}


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table.

    Attributes:
        target: the target's number, e.g. ``A1``.
        what: what was measured.
        limit: the target in words.
        measured: the figure in words.
        spread: its spread over rounds in words.
        verdict: one of the words below; empty where there is nothing to meet or it was not measured.
    """

    target: str
    what: str
    limit: str
    measured: str
    spread: str = ""
    verdict: str = ""


def rows(parts: Parts) -> list[Row]:
    """Return all lines for which the parts were run."""
    made: list[Row] = []
    for part, build in _BUILDERS:
        if part in parts:
            made += build(parts[part]["groups"], parts[part]["facts"])
    if "frontend" in parts:
        made += _expected(parts)
    made.append(Row("A1", "throughput, `vllm serve`", "≥ 0.985", "not measured here: a later part"))
    return sorted(made, key=lambda row: row.target)


def at_most(figure: Figure, limit: float) -> str:
    """Return the verdict on a figure that is to be at most ``limit``."""
    if figure.high <= limit:
        return MET
    return NOT_MET if figure.low > limit else UNDECIDED[figure.value <= limit]


def at_least(figure: Figure, limit: float) -> str:
    """Return the verdict on a figure that is to be at least ``limit``."""
    if figure.low >= limit:
        return MET
    return NOT_MET if figure.high < limit else UNDECIDED[figure.value >= limit]


def _ratio_row(what: str, group: Any, arm: str, limit: float | None = None, base: str = "bare") -> Row:
    figure = summary.throughput_ratio(group, arm, base)
    verdict = "" if limit is None else at_least(figure, limit)
    return Row("A1", what, _limit("≥", limit), _words(figure, ".4f"), _spread(figure, ".3f"), verdict)


def _offline(groups: Any, _: Any) -> list[Row]:
    group = groups["one_layer"]
    return [
        _ratio_row("throughput, offline, one layer: ours / bare", group, "ours", 0.985),
        _ratio_row("— ours with metrics / bare", group, "ours_metrics"),
        _ratio_row("— bare / bare, the noise", group, "bare_again"),
        _ratio_row("— vLLM's statistics on / bare (another engine)", group, "stats"),
        _ratio_row("— ours / statistics on", group, "ours_stats", base="stats"),
        _ratio_row("— vLLM's own tracing / statistics on", group, "native", base="stats"),
    ]


def _small_vocabulary(groups: Any, _: Any) -> list[Row]:
    group = groups["small_vocabulary"]
    what = "— a vocabulary of 4,096, cheaper than any real engine: ours / bare"
    return [
        _ratio_row(what, group, "ours"),
        _ratio_row("— the same: bare / bare, the noise", group, "bare_again"),
    ]


def _real_model(groups: Any, _: Any) -> list[Row]:
    group = groups["real_model"]
    return [
        _ratio_row("throughput, offline, 135 M: ours / bare", group, "ours", 0.998),
        _ratio_row("— bare / bare, the noise", group, "bare_again"),
    ]


def _expected(parts: Parts) -> list[Row]:
    """Return the throughput that the added CPU must come to, where a request's time is one thread's."""
    added = summary.added_cpu(parts["frontend"]["groups"]["short"], "ours").value
    made = []
    for part, group, what, limit in (
        ("offline", "one_layer", "offline, one layer", 0.985),
        ("real_model", "real_model", "offline, 135 M", 0.998),
    ):
        if part in parts:
            bare = summary.per_request(parts[part]["groups"][group], "bare", "wall_s").value
            label = f"— by arithmetic, {what}: bare time / (bare time + CPU added, A2)"
            made.append(Row("A1", label, _limit("≥", limit), f"{1 / (1 + added / bare):.4f}"))
    return made


def _concurrent(groups: Any, _: Any) -> list[Row]:
    group = groups["concurrent"]
    made = [
        _ratio_row("throughput, `AsyncLLM`, 64 in flight: ours / bare", group, "ours", 0.985),
        _ratio_row("— ours with metrics / bare", group, "ours_metrics"),
        _ratio_row("— bare / bare, the noise", group, "bare_again"),
    ]
    added = {arm: summary.added_by_round(group, arm) for arm in ("ours", "floor", "ours_metrics", "bare_again")}
    made.append(_quotient_row("`AsyncLLM` frontend: ours / a bare SDK span", added["ours"], added["floor"], 1.3))
    for what, arm in (
        ("a bare SDK span with the same attributes", "floor"),
        ("ours", "ours"),
        ("ours with metrics", "ours_metrics"),
        ("bare vLLM again, the noise", "bare_again"),
    ):
        made.append(_added_row("A2", f"— `AsyncLLM` frontend: {what}", summary.median_of(added[arm])))
    return made


def _frontend(groups: Any, facts: Any) -> list[Row]:
    return [*_added_rows(groups["short"]), *_off_rows(groups["short"], facts), *_length_rows(groups)]


_MORE_TOKENS = 512 - 16
_RESOLUTION = 0.2 * _MORE_TOKENS  # µs: an interval wider than 0.2 µs a token cannot show that there is nothing
_OFF = "CPU added per request, sampled off: ours"
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
    after = "— after `uninstrument()`, over an engine that never was instrumented"
    return [
        _added_row("A3", _OFF, off, "≤ 15 µs, or twice the bare one", at_most(off, limit)),
        _added_row("A3", "— a bare sampled-off SDK span", floor),
        Row("A3", "after `uninstrument()`", "nothing is left", measured, verdict=MET if same else NOT_MET),
        _added_row("A3", after, summary.added_cpu(group, "bare", "pristine")),
    ]


def _length_rows(groups: Any) -> list[Row]:
    made: list[Row] = []
    for what, short, long in (("many in flight", "short", "long"), ("one in flight", "short_alone", "long_alone")):
        for tokens, group in ((16, groups[short]), (512, groups[long])):
            for label, arm in (("ours", "ours"), ("bare again, the noise", "bare_again")):
                figure = summary.added_cpu(group, arm)
                made.append(_added_row("A4", f"— CPU added at {tokens} tokens, {what}: {label}", figure))
        made.append(_length_row(what, groups[short], groups[long]))
        after = f"— after `uninstrument()`, over an engine that never was instrumented: 512 tokens, {what}"
        made.append(_added_row("A4", after, summary.added_cpu(groups[long], "bare", "pristine")))
    return made


def _length_row(what: str, short: Any, long: Any) -> Row:
    added = summary.difference(summary.added_by_round(long, "ours"), summary.added_by_round(short, "ours"))
    measured = f"{_words(added, '.0f', ' µs')}: {added.value / _MORE_TOKENS * 1e3:.0f} ns per token"
    limit = f"no difference to be seen (interval with 0 in it, at most {_RESOLUTION:.0f} µs to either side)"
    return Row("A4", f"CPU added at 512 tokens less that at 16, {what}", limit, measured, verdict=_no_difference(added))


def _no_difference(figure: Figure) -> str:
    if figure.low > 0 or figure.high < 0:
        return NOT_MET
    return MET if max(figure.high, -figure.low) <= _RESOLUTION else UNDECIDED[True]


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
    group, heavy = groups["imports"], facts["heavy_modules"]
    added = summary.median_of(summary.added_by_round(group, "ours", "opentelemetry", "wall_s") / 1e3)
    whole = summary.median_of(summary.per_round(group, "opentelemetry", "wall_s") / 1e3)
    what = "import and `instrument()` over OpenTelemetry's own imports"
    return [
        Row("A6", what, "≤ 60 ms", _words(added, ".1f", " ms"), _spread(added, ".1f"), at_most(added, 60)),
        Row("A6", "— OpenTelemetry's own imports", "", _words(whole, ".1f", " ms"), _spread(whole, ".1f")),
        Row("A6", "torch and vllm", "not imported", ", ".join(heavy) or "not imported", "", NOT_MET if heavy else MET),
    ]


def _quotient_row(what: str, above: Any, below: Any, limit: float | None = None) -> Row:
    figure = summary.quotient(above, below)
    verdict = "" if limit is None else at_most(figure, limit)
    what = what if what.startswith("—") else f"CPU added: {what}"
    return Row("A2", what, _limit("≤", limit), _words(figure, ".2f"), verdict=verdict)


def _added_row(target: str, what: str, figure: Figure, limit: str = "", verdict: str = "") -> Row:
    return Row(target, what, limit, _words(figure, ".1f", " µs"), _spread(figure), verdict)


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
