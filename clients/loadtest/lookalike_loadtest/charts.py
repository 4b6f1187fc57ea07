"""Draws a report's charts as SVG for an HTML page, in whose colors they appear."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from lookalike_loadtest.histogram import Histogram

# placeholders that occur nowhere else in a chart; the page gives them their colors, in light and dark mode
_INK = {
    "#010101": "var(--ink)",
    "#020202": "var(--rule)",
    "#030303": "var(--first)",
    "#040404": "var(--second)",
    "#050505": "var(--bad)",
}
_TEXT, _RULE, _FIRST, _SECOND, _BAD = _INK

_STYLE: Any = {
    "svg.fonttype": "none",  # text stays text, in the page's font
    "font.size": 10,
    "text.parse_math": False,
    "text.color": _TEXT,
    "axes.edgecolor": _RULE,
    "axes.labelcolor": _TEXT,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": _RULE,
    "grid.linewidth": 0.5,
    "xtick.color": _TEXT,
    "ytick.color": _TEXT,
    "legend.frameon": False,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
}

_NINES = (0.0, 50.0, 90.0, 99.0, 99.9, 99.99, 99.999)


def percentiles(measured: dict[str, Any]) -> str:
    """Draw latency over percentile, on the scale that HDR histograms use."""
    with mpl.rc_context(_STYLE | {"svg.hashsalt": "percentiles"}):
        figure, axes = _figure()
        last = 1.0
        lines = (("latency", "from the intended time", _FIRST, "-"), ("service", "from the actual send", _SECOND, "--"))
        for name, label, color, dashes in lines:
            if measured[name]:
                shares, ms = Histogram(measured[name]["histogram"]).curve()
                # the last step is the slowest call itself, beyond which there is no call
                x = [1 / max(1 - share / 100, 0.5 / measured[name]["count"]) for share in shares]
                axes.plot(x, ms, dashes, color=color, drawstyle="steps-pre", label=label)
                last = max(last, *x)
        ticks = [each for each in _NINES if 1 / (1 - each / 100) <= last * 1.01]
        axes.set(xscale="log", xlim=(1, last), xlabel="percentile of answered calls", ylabel="latency, ms")
        axes.xaxis.set_major_locator(FixedLocator([1 / (1 - each / 100) for each in ticks]))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{100 * (1 - 1 / x):.5g} %"))
        _from_zero(axes)
        axes.legend(loc="upper left")
        return _svg(figure)


def latency_over_time(series: Sequence[dict[str, Any]]) -> str:
    """Draw the median and the 99th percentile of the calls due in each second."""
    with mpl.rc_context(_STYLE | {"svg.hashsalt": "latency"}):
        figure, axes = _figure()
        at = [second["number"] + 0.5 for second in series]
        for name, label, color in (("p99_ms", "p99", _FIRST), ("p50_ms", "p50", _SECOND)):
            ms = [float("nan") if second[name] is None else second[name] for second in series]
            axes.plot(at, ms, color=color, marker=".", markersize=3, label=label)
        axes.set(xlabel="seconds", ylabel="latency, ms")
        _from_zero(axes)
        axes.legend(loc="upper left")
        return _svg(figure)


def throughput_over_time(series: Sequence[dict[str, Any]]) -> str:
    """Draw the calls due, answered and failed in each second."""
    with mpl.rc_context(_STYLE | {"svg.hashsalt": "throughput"}):
        figure, axes = _figure()
        edges = [second["number"] for second in series] + [len(series)]
        counts = {name: [second[name] for second in series] for name in ("due", "answered", "failed")}
        axes.stairs(counts["answered"], edges, baseline=None, color=_FIRST, label="answered")
        axes.stairs(counts["due"], edges, baseline=None, color=_SECOND, linestyle="--", label="to be sent")
        if any(counts["failed"]):
            axes.stairs(counts["failed"], edges, color=_BAD, fill=True, alpha=0.7, label="failed")
        axes.set(xlabel="seconds", ylabel="calls a second")
        _from_zero(axes)
        axes.legend(loc="lower left")
        return _svg(figure)


def latency_over_rate(capacity: dict[str, Any]) -> str:
    """Draw the median and the 99th percentile over the rate, and the goal."""
    with mpl.rc_context(_STYLE | {"svg.hashsalt": "rate"}):
        figure, axes = _figure()
        steps = [step for step in capacity["steps"] if step["p99"] is not None]
        last = {step["rate"]: step for step in steps}  # of several tries of a rate the one that counts
        rates = sorted(last)
        for name, color in (("p99", _FIRST), ("p50", _SECOND)):
            axes.plot(rates, [last[rate][name] for rate in rates], color=color, marker="o", markersize=4, label=name)
        missed = [step for step in steps if not step["met"]]
        axes.plot(
            [step["rate"] for step in missed],
            [step["p99"] for step in missed],
            linestyle="none",
            marker="x",
            markersize=9,
            color=_BAD,
            label="missed the goal",
        )
        axes.axhline(capacity["goal"]["p99_ms"], color=_BAD, linewidth=0.8, linestyle=":", label="goal for the p99")
        if capacity["highest_met"] is not None:
            axes.axvline(capacity["highest_met"], color=_TEXT, linewidth=0.8, linestyle=":")
        axes.set(xlabel="calls a second", ylabel="latency, ms", yscale="log")
        axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:g}"))
        axes.yaxis.set_minor_formatter(FuncFormatter(lambda y, _: f"{y:g}" if str(y)[0] in "25" else ""))
        axes.legend(loc="best")
        return _svg(figure)


def _figure() -> tuple[Figure, Any]:
    # not through pyplot, which would choose a backend and look for a display
    figure = Figure(figsize=(8, 3.4), layout="constrained")
    return figure, figure.subplots()


def _from_zero(axes: Any) -> None:
    axes.set_ylim(bottom=0)


def _svg(figure: Figure) -> str:
    file = io.StringIO()
    # without a date and a creator, so that the same figures make the same chart
    figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    drawn = file.getvalue()
    drawn = drawn[drawn.index("<svg") :]
    for placeholder, color in _INK.items():
        drawn = drawn.replace(placeholder, color)
    # ids of groups, which nothing refers to and several charts of a page would share
    drawn = re.sub(r'<g id="[^"]*"', "<g", drawn)
    return re.sub(r'(<svg[^>]*?) width="[^"]*pt"', r"\1", re.sub(r'(<svg[^>]*?) height="[^"]*pt"', r"\1", drawn))
