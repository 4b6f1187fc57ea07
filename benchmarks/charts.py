"""Draws the charts of a run as PNG files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl

from benchmarks.scenarios.curves import Curve

mpl.use("Agg")

from matplotlib import pyplot


def draw(folder: Path, stem: str, about: Mapping[str, Any], curves: Mapping[str, Sequence[Curve]]) -> list[Path]:
    """Draw the curves that there are; return the files."""
    title = f"{about['model']['name']}, {about['cores']} cores, commit {about['commit'][:10]}"
    drawn = []
    if "concurrency" in curves:
        figure, axes = pyplot.subplots(figsize=(7, 4.5), layout="constrained")
        _lines(axes, curves["concurrency"])
        axes.legend(fontsize="small")
        axes.set(xscale="log", xlabel="concurrency (closed loop)", ylabel="images a second", title=title)
        axes.set_xticks(curves["concurrency"][0].x, labels=[f"{x:.0f}" for x in curves["concurrency"][0].x])
        axes.set_ylim(bottom=0)
        drawn.append(_save(figure, folder / f"{stem}-throughput.png"))
    if "p50" in curves:
        figure, all_axes = pyplot.subplots(1, 3, figsize=(15, 4.5), layout="constrained")
        for axes, kind, label in zip(
            all_axes,
            ("p50", "p99", "answered"),
            ("50th percentile of latency, ms", "99th percentile of latency, ms", "share of calls answered"),
            strict=True,
        ):
            _lines(axes, curves[kind])
            axes.set(xlabel="offered load, % of our capacity (open loop)", ylabel=label)
            if kind != "answered":
                axes.set_yscale("log")
        all_axes[-1].legend(fontsize="small")  # one for all three, where the curves leave room
        figure.suptitle(title)
        drawn.append(_save(figure, folder / f"{stem}-latency.png"))
    return drawn


def _lines(axes: Any, curves: Sequence[Curve]) -> None:
    for curve in curves:
        (line,) = axes.plot(curve.x, [y.median for y in curve.y], marker="o", markersize=4, label=curve.server)
        low, high = [y.low for y in curve.y], [y.high for y in curve.y]
        axes.fill_between(curve.x, low, high, alpha=0.15, color=line.get_color())
    axes.grid(visible=True, alpha=0.3)


def _save(figure: Any, path: Path) -> Path:
    figure.savefig(path, dpi=80)
    pyplot.close(figure)
    return path
