"""The charts. Their field names are fixed, so catalog data only ever becomes a label."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import altair as alt
import streamlit as st

from lookalike_client import BatchProfile, ResponseStats
from lookalike_gallery.response_stats import StatsRecord, stage_times

_BAR_HEIGHT = 22
_COLUMN_WIDTH = 44
_MAX_LABEL = 180
STAGES = ["decode", "queue", "inference", "search", "rest"]


def show_counts(rows: Sequence[tuple[str, str, int]], all_parts: Sequence[str], alt_text: str) -> None:
    """Draw one stacked bar per name, in the given order, from (name, part, count) rows; colors as `_part_color`."""
    names = list(dict.fromkeys(name for name, _, _ in rows))
    bars = [{"name": name, "part": part, "count": count} for name, part, count in rows]
    chart = (
        _chart(bars, height=alt.Step(_BAR_HEIGHT))
        .mark_bar()
        .encode(
            x=alt.X("count:Q", title="products", axis=alt.Axis(tickMinStep=1, format="d")),
            y=alt.Y("name:N", sort=names, title=None, axis=alt.Axis(labelLimit=_MAX_LABEL)),
            color=_part_color(rows, all_parts),
            tooltip=["name:N", "part:N", "count:Q"],
        )
    )
    st.altair_chart(chart, alt=alt_text)


def show_histogram(rows: Sequence[tuple[float, str, int]], all_parts: Sequence[str], title: str, alt_text: str) -> None:
    """Draw a stacked histogram of products by a numeric attribute, from (number, part, count) rows."""
    bars = [{"number": number, "part": part, "count": count} for number, part, count in rows]
    chart = (
        _chart(bars, height=280)
        .mark_bar()
        .encode(
            x=alt.X("number:Q", bin=alt.Bin(maxbins=20), title=title.replace("_", " ")),
            y=alt.Y("sum(count):Q", title="products"),
            color=_part_color(rows, all_parts),
        )
    )
    st.altair_chart(chart, alt=alt_text)


def _part_color(rows: Sequence[tuple[Any, str, int]], all_parts: Sequence[str]) -> alt.Color:
    """Give each part the color of its place among all parts, so that it has the same one in every chart."""
    present = {part for _, part, _ in rows}
    parts = [part for part in all_parts if part in present]
    # a bar that is a part by itself is named already
    named = len(parts) < 2 or all(name == part for name, part, _ in rows)
    return alt.Color(
        "part:N",
        scale=alt.Scale(domain=list(all_parts)),
        title=None,
        legend=None if named else alt.Legend(orient="top", values=parts),
    )


def show_batch_profiles(batch_profiles: Sequence[BatchProfile]) -> None:
    """Draw the latency and the throughput of each batch profile."""
    rows = [
        {
            "batch": f"{profile.batch_size} x {profile.concurrency}",
            "ms": profile.latency_ms,
            "rate": profile.batch_size * profile.concurrency / profile.latency_ms * 1000 if profile.latency_ms else 0,
        }
        for profile in batch_profiles
    ]
    batches = alt.X("batch:N", sort=None, title="batch size x concurrent batches", axis=alt.Axis(labelAngle=0))
    bars = _chart(rows, height=200).mark_bar(size=_COLUMN_WIDTH)
    tooltip = ["batch:N", alt.Tooltip("ms:Q", format=".1f"), alt.Tooltip("rate:Q", format=".0f")]
    left, right = st.columns(2)
    left.altair_chart(
        bars.encode(x=batches, y=alt.Y("ms:Q", title="latency, ms"), tooltip=tooltip),
        alt="Latency in milliseconds, by batch size",
    )
    right.altair_chart(
        bars.encode(x=batches, y=alt.Y("rate:Q", title="images per second"), tooltip=tooltip),
        alt="Images per second, by batch size",
    )


def show_stages(stats: ResponseStats) -> None:
    """Draw the time of one search in the server as a bar of its stages."""
    times = stage_times(stats)
    rows = [{"search": "", "stage": name, "ms": ms, "position": position} for position, (name, ms) in enumerate(times)]
    chart = (
        _chart(rows, height=alt.Step(2 * _BAR_HEIGHT))
        .mark_bar()
        .encode(
            x=alt.X("ms:Q", title="milliseconds"),
            y=alt.Y("search:N", axis=None),
            color=alt.Color("stage:N", sort=STAGES, title=None, legend=alt.Legend(orient="top")),
            order=alt.Order("position:Q"),
            tooltip=["stage:N", alt.Tooltip("ms:Q", format=".2f")],
        )
    )
    summary = ", ".join(f"{name} {ms:.1f} ms" for name, ms in times)
    st.altair_chart(chart, alt=f"Stages of the last search: {summary}")


def show_latencies(records: Sequence[StatsRecord]) -> None:
    """Draw the latency of each search, in the server and as a round trip."""
    rows = [
        {"number": each.number, "ms": ms, "where": where}
        for each in records
        for where, ms in (("in the server", each.stats.total_us / 1000), ("round trip", each.round_trip_ms))
    ]
    chart = (
        _chart(rows, height=280)
        .mark_line(point=alt.OverlayMarkDef(size=24))
        .encode(
            x=alt.X("number:Q", title="search", axis=alt.Axis(tickMinStep=1, format="d"), scale=alt.Scale(zero=False)),
            y=alt.Y("ms:Q", title="milliseconds"),
            color=alt.Color("where:N", title=None, legend=alt.Legend(orient="top")),
            tooltip=["number:Q", "where:N", alt.Tooltip("ms:Q", format=".1f")],
        )
    )
    st.altair_chart(chart, alt=f"Latency of the last {len(records)} searches, in milliseconds")


def show_batches(records: Sequence[StatsRecord]) -> None:
    """Draw how many searches were answered from a batch of each size."""
    counts: dict[int, int] = {}
    for each in records:
        counts[each.stats.batch_size] = counts.get(each.stats.batch_size, 0) + 1
    rows = [{"batch": str(size) if size else "no batch", "count": counts[size]} for size in sorted(counts)]
    chart = (
        _chart(rows, height=280)
        .mark_bar(size=_COLUMN_WIDTH)
        .encode(
            x=alt.X("batch:N", sort=None, title="batch size", axis=alt.Axis(labelAngle=0)),
            y=alt.Y("count:Q", title="searches", axis=alt.Axis(tickMinStep=1, format="d")),
            tooltip=["batch:N", "count:Q"],
        )
    )
    summary = ", ".join(f"{row['batch']}: {row['count']}" for row in rows)
    st.altair_chart(chart, alt=f"Searches by batch size: {summary}")


def _chart(rows: Sequence[dict[str, Any]], height: int | alt.Step) -> alt.Chart:
    return alt.Chart(alt.Data(values=list(rows)), height=height)  # type: ignore[no-untyped-call]
