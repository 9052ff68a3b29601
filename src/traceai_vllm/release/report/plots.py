"""Plots as inline SVG, drawn by matplotlib; their colours are those of the page, light or dark."""

from __future__ import annotations

import io
import re
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.figure import Figure
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

# matplotlib writes fixed colours: these stand for what the page's style says.
_INK, _BASELINE, _CANDIDATE, _ALARM = "#010101", "#010102", "#010103", "#010104"
_IN_PAGE = {
    _INK: "currentColor",
    _BASELINE: "var(--baseline)",
    _CANDIDATE: "var(--candidate)",
    _ALARM: "var(--regressed)",
}
_POINTS = 200
_STEPS, _DECADES = (1.0, 2.0, 5.0), 2.5  # steps within a power of ten, where a time runs through so few of them
_SIZE = (5.2, 3.0)


def latency_plot(baseline: Floats, candidate: Floats, title: str) -> str:
    """Return a plot of two distributions of a time: the share of answers that are done after so many seconds.

    Args:
        baseline: the baseline's times in seconds, shape (n,).
        candidate: the candidate's, shape (m,).
        title: what the time is.
    """
    from matplotlib.ticker import LogLocator, NullFormatter

    figure = _figure()
    axes = figure.subplots()
    known = np.concatenate([baseline, candidate])
    shares = np.linspace(0.001, 0.999, _POINTS)
    arms = ((baseline, _BASELINE, "baseline", "-"), (candidate, _CANDIDATE, "candidate", "--"))
    for values, colour, name, line in arms:
        if len(values):
            axes.plot(np.quantile(values, shares) * 1000, shares, color=colour, label=name, linestyle=line)
    axes.axhline(0.99, color=_INK, linewidth=0.5, alpha=0.5)
    axes.annotate("p99", (0.01, 0.985), xycoords=("axes fraction", "data"), color=_INK, va="top", fontsize=9)
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=_STEPS if _span(known) < _DECADES else (1.0,)))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel(f"{title}, milliseconds")
    axes.set_ylabel("share of answers")
    axes.set_ylim(0, 1.02)
    axes.legend(frameon=False, loc="lower right")
    return _svg(figure, f"{title}: share of answers that are done after so many milliseconds")


def _span(values: Floats) -> float:
    """How many powers of ten a time runs through."""
    return float(np.log10(values.max() / values.min())) if len(values) else 0.0


def evidence_plot(
    pairs: Sequence[int],
    bands: Sequence[tuple[float, float, float]],
    margin: float,
    title: str,
    *,
    unit: str = "pairs",
    points: bool = False,
) -> str:
    """Return a plot of an estimate and its interval as evidence came in.

    Args:
        pairs: after how many pairs somebody looked, shape (looks,).
        bands: low end, estimate and high end at each look, shape (looks, 3).
        margin: how much worse is allowed.
        title: what is estimated.
        unit: what came in: ``pairs``, or ``answers``.
        points: whether it is a share, to be shown in points (hundredths).
    """
    figure = _figure()
    axes = figure.subplots()
    scale = 100 if points else 1
    low, middle, high = scale * np.array(bands, dtype=np.float64).T
    margin *= scale
    axes.fill_between(pairs, low, high, color=_CANDIDATE, alpha=0.2, linewidth=0)
    axes.plot(pairs, middle, color=_CANDIDATE)
    axes.axhline(0, color=_INK, linewidth=0.8)
    axes.axhline(margin, color=_ALARM, linewidth=1, linestyle="--")
    axes.annotate("margin", (pairs[-1], margin), color=_ALARM, ha="right", va="bottom", fontsize=9)
    reach = max(
        2 * abs(margin), 1.5 * float(np.abs(middle).max()), 1.2 * float(min(abs(high[-1]), abs(low[-1]) + scale))
    )
    axes.set_ylim(-reach, reach)
    axes.set_xlabel(f"{unit} that came in")
    axes.set_ylabel("worse by, in points" if points else "worse by, in score points")
    return _svg(figure, title)


def _figure() -> Figure:
    from matplotlib.figure import Figure

    return Figure(figsize=_SIZE, layout="constrained")


def _svg(figure: Figure, description: str) -> str:
    import matplotlib as mpl

    style: Any = {
        "svg.fonttype": "none",
        "svg.hashsalt": "traceai",  # the same plot is the same text
        "font.family": "sans-serif",
    }
    with mpl.rc_context(style):
        for axes in figure.axes:
            axes.patch.set_alpha(0)
            axes.tick_params(which="both", colors=_INK)
            axes.xaxis.label.set_color(_INK)
            axes.yaxis.label.set_color(_INK)
            for place, spine in axes.spines.items():
                spine.set_color(_INK)
                spine.set_visible(place in ("left", "bottom"))
            legend = axes.get_legend()
            for text in legend.get_texts() if legend else ():
                text.set_color(_INK)
        figure.patch.set_alpha(0)
        written = io.StringIO()
        figure.savefig(written, format="svg", metadata={"Date": None, "Creator": None})
    return _for_page(written.getvalue(), description)


def _for_page(text: str, description: str) -> str:
    from markupsafe import escape

    text = text[text.index("<svg") :]
    for fixed, variable in _IN_PAGE.items():
        text = text.replace(fixed, variable)
    # Its size is the page's business; what it shows is said for those who cannot see it.
    opening = re.sub(r' (?:width|height)="[^"]*"', "", text[: text.index(">")])
    return f'{opening} role="img" aria-label="{escape(description)}"{text[text.index(">") :]}'
