"""The table: each target, what was measured for it, and what there is to compare with."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from benchmarks.engine import summary
from benchmarks.engine.verdicts import MET, NOT_MET, Row, at_least, at_most, figure_row, no_difference

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from benchmarks.engine.summary import Added, Figure

    Parts = Mapping[str, Mapping[str, Any]]


def rows(parts: Parts) -> list[Row]:
    """Return all lines for which the parts were run."""
    made: list[Row] = []
    for part, build in _BUILDERS:
        if part in parts:
            made += build(parts[part]["groups"], parts[part]["facts"])
    if "frontend" in parts:
        made += _expected(parts)
    return sorted(made, key=lambda row: row.target)


def _ratio_row(
    what: str, group: Any, arm: str, limit: float | None = None, *, base: str = "bare", target: str = "A1"
) -> Row:
    figure = summary.throughput_ratio(group, arm, base)
    verdict = "" if limit is None else at_least(figure, limit)
    return figure_row(target, what, figure, ".4f", limit=_limit("≥", limit), verdict=verdict)


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
    added = summary.added(parts["frontend"]["groups"]["short"], "ours").figure()
    made = []
    for part, group, what, limit in (
        ("offline", "one_layer", "offline, one layer", 0.985),
        ("real_model", "real_model", "offline, 135 M", 0.998),
    ):
        if part in parts:
            bare = summary.per_request(parts[part]["groups"][group], "bare", "wall_s")
            label = f"— by arithmetic, {what}: bare time / (bare time + CPU added, A2)"
            undisturbed = f"{1 / (1 + (added.undisturbed or 0) / (bare.undisturbed or 1)):.4f}"
            made.append(Row("A1", label, _limit("≥", limit), f"{1 / (1 + added.value / bare.value):.4f}", undisturbed))
    return made


def _concurrent(groups: Any, _: Any) -> list[Row]:
    group = groups["concurrent"]
    made = [
        _ratio_row("throughput, `AsyncLLM`, 64 in flight: ours / bare", group, "ours", 0.985),
        _ratio_row("— ours with metrics / bare", group, "ours_metrics"),
        _ratio_row("— bare / bare, the noise", group, "bare_again"),
    ]
    added = {arm: summary.added(group, arm) for arm in ("ours", "floor", "ours_metrics", "bare_again")}
    made.append(_quotient_row("`AsyncLLM` frontend: ours / a bare SDK span", added["ours"], added["floor"], 1.3))
    for what, arm in (
        ("a bare SDK span with the same attributes", "floor"),
        ("ours", "ours"),
        ("ours with metrics", "ours_metrics"),
        ("bare vLLM again, the noise", "bare_again"),
    ):
        made.append(_added_row("A2", f"— `AsyncLLM` frontend: {what}", added[arm].figure()))
    return made


def _serve(groups: Any, facts: Any) -> list[Row]:
    short, long = groups["serve"], groups["serve_long"]
    prompts = f"`vllm serve`, prompts of {facts['long_prompt_characters']:,} characters"
    added = {arm: summary.added(long, arm) for arm in ("ours", "ours_content", "native", "bare_again")}
    return [
        _ratio_row("throughput, `vllm serve`, 64 in flight: ours / bare", short, "ours", 0.985),
        _ratio_row("— ours with metrics / bare", short, "ours_metrics"),
        _ratio_row("— ours with content on spans / bare", short, "ours_content"),
        _ratio_row("— vLLM's own tracing / bare", short, "native"),
        _ratio_row("— OpenTelemetry's own HTTP span alone, the floor / bare", short, "http_span"),
        _ratio_row("— ours / that floor", short, "ours", base="http_span"),
        _ratio_row("— bare / bare, the noise", short, "bare_again"),
        _ratio_row(f"— {prompts}: ours / bare", long, "ours"),
        _ratio_row("— the same: ours with content on spans / bare", long, "ours_content"),
        _ratio_row("— the same: vLLM's own tracing / bare", long, "native"),
        _ratio_row("— the same: bare / bare, the noise", long, "bare_again"),
        *(
            _added_row("A2", f"— `vllm serve`, all of it really exported: {what}", summary.added(short, arm).figure())
            for what, arm in (
                ("ours, HTTP span too", "ours"),
                ("ours with metrics", "ours_metrics"),
                ("OpenTelemetry's own HTTP span alone", "http_span"),
                ("vLLM's own tracing", "native"),
                ("bare vLLM again, the noise", "bare_again"),
            )
        ),
        _quotient_row(
            f"{prompts}: with content on the span / without", added["ours_content"], added["ours"], 2.0, target="A5"
        ),
        *(
            _added_row("A5", f"— `vllm serve`, the same: {what}", added[arm].figure())
            for what, arm in (
                ("without content, HTTP span too", "ours"),
                ("with it", "ours_content"),
                ("vLLM's own tracing", "native"),
                ("bare vLLM again, the noise", "bare_again"),
            )
        ),
    ]


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
    added = {arm: summary.added(group, arm, base) for _, arm, base in _ADDED}
    made = [_quotient_row("ours / a bare SDK span", added["ours"], added["floor"], 1.3)]
    made.append(_quotient_row("ours / vLLM's own tracing", added["ours"], added["native"], 0.4))
    made.append(_quotient_row("— a bare SDK span / vLLM's own tracing", added["floor"], added["native"]))
    made.append(_quotient_row("— with metrics: ours / bare", added["ours_metrics"], added["floor_metrics"]))
    made.append(_quotient_row("— really exported: ours / vLLM's own", added["ours_otlp"], added["native_otlp"]))
    for what, arm, _ in _ADDED:
        made.append(_added_row("A2", f"CPU added per request: {what}", added[arm].figure()))
    return made


def _off_rows(group: Any, facts: Any) -> list[Row]:
    off, floor = summary.added(group, "ours_off").figure(), summary.added(group, "floor_off").figure()
    limit = max(15.0, 2 * floor.value)
    same = facts["identity"]["same_after"] and facts["identity"]["changed_while_instrumented"]
    measured = "the same function objects" if same else "other function objects are left behind"
    after = "— after `uninstrument()`, over an engine that never was instrumented"
    return [
        _added_row("A3", _OFF, off, "≤ 15 µs, or twice the bare one", at_most(off, limit)),
        _added_row("A3", "— a bare sampled-off SDK span", floor),
        Row("A3", "after `uninstrument()`", "nothing is left", measured, verdict=MET if same else NOT_MET),
        _added_row("A3", after, summary.added(group, "bare", "pristine").figure()),
    ]


def _length_rows(groups: Any) -> list[Row]:
    made: list[Row] = []
    for what, short, long in (("many in flight", "short", "long"), ("one in flight", "short_alone", "long_alone")):
        for tokens, group in ((16, groups[short]), (512, groups[long])):
            for label, arm in (("ours", "ours"), ("bare again, the noise", "bare_again")):
                figure = summary.added(group, arm).figure()
                made.append(_added_row("A4", f"— CPU added at {tokens} tokens, {what}: {label}", figure))
        made += _length_differences(what, groups[short], groups[long])
        after = f"— after `uninstrument()`, over an engine that never was instrumented: 512 tokens, {what}"
        made.append(_added_row("A4", after, summary.added(groups[long], "bare", "pristine").figure()))
    return made


def _length_differences(what: str, short: Any, long: Any) -> list[Row]:
    figure, floor = (
        summary.difference(summary.added(long, arm), summary.added(short, arm)) for arm in ("ours", "floor")
    )
    limit = f"no difference to be seen (interval with 0 in it, at most {_RESOLUTION:.0f} µs to either side)"
    words = f"CPU added at 512 tokens less that at 16, {what}: {figure.value / _MORE_TOKENS * 1e3:.0f} ns per token"
    # What runs once per request is colder after 512 tokens than after 16.
    once = "— the same of a bare SDK span, of which nothing can run per token"
    return [
        figure_row("A4", words, figure, ".0f µs", limit=limit, verdict=no_difference(figure, _RESOLUTION)),
        figure_row("A4", once, floor, ".0f µs"),
    ]


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
    # summary works in millionths of the unit that it gets: thousands of seconds in, milliseconds out.
    group = {arm: {"wall_s": [value / 1e3 for value in one["wall_s"]]} for arm, one in groups["imports"].items()}
    added = summary.added(group, "ours", "opentelemetry", "wall_s").figure()
    whole = summary.per_request(group, "opentelemetry", "wall_s")
    what = "import and `instrument()` over OpenTelemetry's own imports"
    heavy = facts["heavy_modules"]
    imported = ", ".join(heavy) or "not imported"
    return [
        figure_row("A6", what, added, ".1f ms", limit="≤ 60 ms", verdict=at_most(added, 60)),
        figure_row("A6", "— OpenTelemetry's own imports", whole, ".1f ms"),
        Row("A6", "torch and vllm", "not imported", imported, verdict=NOT_MET if heavy else MET),
    ]


def _content(groups: Any, facts: Any) -> list[Row]:
    group = groups["content"]
    added = {arm: summary.added(group, arm) for arm in ("ours", "ours_content", "bare_again")}
    figure = summary.quotient(added["ours_content"], added["ours"])
    what = f"CPU added at prompts of {facts['prompt_tokens']:,} tokens: with content on the span / without"
    return [
        figure_row("A5", what, figure, ".2f", limit=_limit("≤", 2.0), verdict=at_most(figure, 2.0)),
        _added_row("A5", "— without content", added["ours"].figure()),
        _added_row("A5", f"— with {facts['prompt_characters']:,} characters of it", added["ours_content"].figure()),
        _added_row("A5", "— bare vLLM again, the noise", added["bare_again"].figure()),
    ]


def _evaluators(groups: Any, facts: Any) -> list[Row]:
    group = groups["evaluators"]
    what = f"throughput, offline, 135 M: with {', '.join(facts['evaluators'])} / without evaluators"
    return [
        _ratio_row(what, group, "ours_evaluated", 0.97, base="ours", target="A7"),
        _ratio_row("— without / without, the noise", group, "ours_again", base="ours", target="A7"),
    ]


def _quotient_row(what: str, above: Added, below: Added, limit: float | None = None, target: str = "A2") -> Row:
    figure = summary.quotient(above, below)
    verdict = "" if limit is None else at_most(figure, limit)
    what = what if what.startswith("—") else f"CPU added: {what}"
    return figure_row(target, what, figure, ".2f", limit=_limit("≤", limit), verdict=verdict)


def _added_row(target: str, what: str, figure: Figure, limit: str = "", verdict: str = "") -> Row:
    return figure_row(target, what, figure, ".1f µs", limit=limit, verdict=verdict)


def _limit(sign: str, limit: float | None) -> str:
    return "" if limit is None else f"{sign} {limit}"


_BUILDERS: tuple[tuple[str, Callable[[Any, Any], list[Row]]], ...] = (
    ("offline", _offline),
    ("small_vocabulary", _small_vocabulary),
    ("real_model", _real_model),
    ("frontend", _frontend),
    ("concurrent", _concurrent),
    ("serve", _serve),
    ("micro", _micro),
    ("imports", _imports),
    ("content", _content),
    ("evaluators", _evaluators),
)
